// Where a model's blocks lie while it comes: in the browser's storage, or in its memory where it keeps nothing.

import { openSync, writeAll, type SyncHandle } from "./files.js";
import { BLOCK_BYTES, HASH_BYTES } from "./store.js";

export interface Shelf {
  /** Of the model's bytes, how many take room already. */
  readonly usedBytes: number;
  /** Blocks that came before, as far as they are what they were; what is behind them is forgotten. */
  earlier(size: number, blockHash: (bytes: Uint8Array) => string): Iterable<Uint8Array>;
  put(index: number, bytes: Uint8Array, hash: string): void;
  /** Fills `into` from an offset. */
  read(into: Uint8Array, at: number): void | Promise<void>;
  close(): void;
}

/** In storage: a block is kept once its hash is, so that one that a crash tore apart does not count. */
export class StoredBlocks implements Shelf {
  private constructor(
    private readonly data: SyncHandle,
    private readonly hashes: SyncHandle,
  ) {}

  static async open(home: FileSystemDirectoryHandle): Promise<StoredBlocks> {
    const open = async (name: string) => openSync(await home.getFileHandle(name, { create: true }));
    const data = await open("model.bin");
    try {
      return new StoredBlocks(data, await open("blocks.bin"));
    } catch (error) {
      data.close();
      throw error;
    }
  }

  get usedBytes(): number {
    return this.data.getSize();
  }

  *earlier(size: number, blockHash: (bytes: Uint8Array) => string): Iterable<Uint8Array> {
    const nBlocks = Math.floor(this.hashes.getSize() / HASH_BYTES);
    const block = new Uint8Array(BLOCK_BYTES);
    let index = 0;
    for (; index < nBlocks; index++) {
      const at = index * BLOCK_BYTES;
      const bytes = block.subarray(0, Math.max(0, Math.min(BLOCK_BYTES, size - at)));
      if (bytes.length === 0 || this.data.read(bytes, { at }) < bytes.length || this.hash(index) !== blockHash(bytes)) break;
      yield bytes;
    }
    this.forget(index);
    if (this.data.getSize() > size) this.data.truncate(size);
  }

  /** Keeps the first so many blocks alone. */
  forget(nBlocks: number): void {
    this.hashes.truncate(nBlocks * HASH_BYTES);
  }

  put(index: number, bytes: Uint8Array, hash: string): void {
    writeAll(this.data, bytes, index * BLOCK_BYTES);
    this.data.flush();
    writeAll(this.hashes, new TextEncoder().encode(hash), index * HASH_BYTES);
    this.hashes.flush();
  }

  read(into: Uint8Array, at: number): void {
    this.data.read(into, { at });
  }

  close(): void {
    this.data.close();
    this.hashes.close();
  }

  private hash(index: number): string {
    const bytes = new Uint8Array(HASH_BYTES);
    this.hashes.read(bytes, { at: index * HASH_BYTES });
    return new TextDecoder().decode(bytes);
  }
}

/** In memory: blobs, which browsers hold outside of the page's own memory. */
export class LooseBlocks implements Shelf {
  readonly usedBytes = 0;
  private readonly blobs: Blob[] = [];

  *earlier(): Iterable<Uint8Array> {}

  put(index: number, bytes: Uint8Array): void {
    this.blobs[index] = new Blob([bytes as Uint8Array<ArrayBuffer>]);
  }

  async read(into: Uint8Array, at: number): Promise<void> {
    for (let n = 0; n < into.length;) {
      const from = (at + n) % BLOCK_BYTES;
      const blob = this.blobs[Math.floor((at + n) / BLOCK_BYTES)]!.slice(from, from + into.length - n);
      into.set(new Uint8Array(await blob.arrayBuffer()), n);
      n += blob.size;
    }
  }

  close(): void {
    this.blobs.length = 0;
  }
}
