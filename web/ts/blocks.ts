// A model that is whole, as the engine reads it: block by block, each compared with its hash; a damaged one is fetched again.

import { openSync, writeAll } from "./files.js";
import { BLOCK_BYTES, HASH_BYTES, PocketError, type ModelRecord } from "./store.js";

/** What the engine reads weights from. */
export interface PageFile {
  readonly size: number;
  read(offset: number, nBytes: number): Promise<Uint8Array>;
}

/** What the checksums are computed with; wasm, in the worker. */
export interface Digests {
  blockHash(bytes: Uint8Array): string;
  sha256(): { update(bytes: Uint8Array): void; finish(): string };
}

/** A buffer that is used again for each read: the engine takes what it gets at once, and reads one thing at a time. Made anew
 * each time, hundreds of megabytes would wait for the garbage collector. */
export class Scratch {
  private bytes = new Uint8Array(0);

  take(n: number): Uint8Array {
    if (this.bytes.length < n) this.bytes = new Uint8Array(Math.max(n, BLOCK_BYTES));
    return this.bytes.subarray(0, n);
  }
}

/** A file that the user chose, where the browser keeps nothing. */
export const bytesOf = (file: File): PageFile => ({
  size: file.size,
  read: async (offset, nBytes) => new Uint8Array(await file.slice(offset, offset + nBytes).arrayBuffer()),
});

export class Blocks implements PageFile {
  private cached: { index: number; bytes: Uint8Array }[] = [];
  private readonly scratch = new Scratch();

  private constructor(
    private data: File,
    private readonly hashes: string,
    private readonly home: FileSystemDirectoryHandle,
    private readonly record: ModelRecord,
    private readonly digests: Digests,
    private readonly signal: AbortSignal,
  ) {}

  get size(): number {
    return this.record.size;
  }

  static async open(home: FileSystemDirectoryHandle, record: ModelRecord, digests: Digests, signal: AbortSignal): Promise<Blocks> {
    const file = (name: string) => home.getFileHandle(name).then((handle) => handle.getFile()).catch((error) => {
      // Storage that cannot be read now may be read later.
      if ((error as Error).name !== "NotFoundError") throw error;
      throw new PocketError("corrupt", `${record.name} is no longer in this browser's storage`, "delete the model and add it again");
    });
    const hashes = await (await file("blocks.bin")).text();
    return new Blocks(await file("model.bin"), hashes, home, record, digests, signal);
  }

  async read(offset: number, nBytes: number): Promise<Uint8Array> {
    const out = this.scratch.take(nBytes);
    for (let at = offset; at < offset + nBytes;) {
      const index = Math.floor(at / BLOCK_BYTES);
      const bytes = await this.block(index);
      const from = at - index * BLOCK_BYTES;
      const part = bytes.subarray(from, from + offset + nBytes - at);
      // Most of what is read lies in one block.
      if (part.length === nBytes) return part;
      if (part.length === 0) throw new PocketError("corrupt", `${this.record.name} ends too soon`);
      out.set(part, at - offset);
      at += part.length;
    }
    return out;
  }

  private async block(index: number): Promise<Uint8Array> {
    const found = this.cached.find((block) => block.index === index);
    if (found) return found.bytes;
    const start = index * BLOCK_BYTES;
    const end = Math.min(start + BLOCK_BYTES, this.record.size);
    let bytes: Uint8Array = new Uint8Array(await this.data.slice(start, end).arrayBuffer());
    if (bytes.length < end - start || this.digests.blockHash(bytes) !== this.hash(index)) bytes = await this.mend(index, start, end);
    this.cached = [...this.cached.slice(-1), { index, bytes }];
    return bytes;
  }

  private hash(index: number): string {
    return this.hashes.slice(index * HASH_BYTES, (index + 1) * HASH_BYTES);
  }

  private async mend(index: number, start: number, end: number): Promise<Uint8Array> {
    const { name, url } = this.record;
    const damaged = new PocketError("corrupt", `block ${index} of ${name} is damaged in this browser's storage`, "delete the model and add it again");
    if (url.startsWith("file:")) throw damaged;
    const bytes = await this.again(start, end).catch(() => {
      throw new PocketError("network", `${damaged.message}, and cannot be fetched again now`, "load it again when there is a connection");
    });
    if (!bytes || this.digests.blockHash(bytes) !== this.hash(index)) throw damaged;
    const handle = await this.home.getFileHandle("model.bin");
    const sync = await openSync(handle).catch(() => undefined);
    // Another tab may have it open; then the block is mended next time.
    if (sync) {
      writeAll(sync, bytes, start);
      sync.close();
      this.data = await handle.getFile();
    }
    return bytes;
  }

  /** What the server has there now; nothing if it has none. Fails where it does not answer, which it may later. */
  private async again(start: number, end: number): Promise<Uint8Array | undefined> {
    const answer = await fetch(this.record.url, { headers: { Range: `bytes=${start}-${end - 1}` }, cache: "no-store", signal: this.signal });
    if (answer.status === 206) return new Uint8Array(await answer.arrayBuffer());
    // Without ranges, gone, or shorter now; whatever else it says may be otherwise later.
    if ([200, 404, 410, 416].includes(answer.status)) return undefined;
    throw new TypeError(`the server answers ${answer.status}`);
  }
}
