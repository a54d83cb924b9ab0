// A model on its way: fetched with ranges or read from a file, block by block into storage, while the engine reads what
// has come. It runs only a little ahead of the reader, so that nothing is fetched before the device has said that it
// can hold the model. A cut is bridged; what came stays for the next time.

import {
  BLOCK_BYTES, HASH_BYTES, PocketError, bytesText, folder, keyOf, readRecord, useLock, writeLock,
  type ModelRecord,
} from "./store.js";

/** Blocks that may come before anyone asks for them. */
const AHEAD_BYTES = 4 * BLOCK_BYTES;
/** Tries in a row without a byte before a download gives up, and the pause before the second of them. */
const MAX_TRIES = 6;
const FIRST_PAUSE_MS = 250;
/** Room that stays free beside a model. */
const SPARE_BYTES = 16 << 20;

/** What the checksums are computed with; wasm, in the worker. */
export interface Digests {
  blockHash(bytes: Uint8Array): string;
  sha256(): { update(bytes: Uint8Array): void; finish(): string };
}

/** Where bytes come from. */
export interface Origin {
  name: string;
  /** Tells models apart. */
  url: string;
  /** What the publisher says they hash to. */
  sha256?: string | undefined;
  /** A file that the user chose. */
  file?: File | undefined;
}

/** What the browser lets the site keep, in bytes. */
export interface Room {
  usage: number;
  quota: number;
}

export interface Transfer {
  doneBytes: number;
  totalBytes: number;
  /** Of them, how many were here before. */
  resumedBytes: number;
  /** `waiting`: another tab is fetching it. */
  phase: "downloading" | "waiting" | "reconnecting";
}

/** What the engine reads weights from. */
export interface PageFile {
  readonly size: number;
  read(offset: number, nBytes: number): Promise<Uint8Array>;
}

/** The one way to write a file in place, and to read it meanwhile; workers have it. */
interface SyncHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

export const openSync = (file: FileSystemFileHandle): Promise<SyncHandle> =>
  (file as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle();

/** A model that is in storage, or on its way there. */
export class Model implements PageFile {
  private data: SyncHandle | undefined;
  private hashes: SyncHandle | undefined;
  private hash: { update(bytes: Uint8Array): void; finish(): string };
  /** Bytes in storage, and how far the reader lets the download go. */
  private done = 0;
  private goal = 0;
  private wake: (() => void)[] = [];
  /** What ended it: the engine, which reads through here, has words for it that say less. */
  failure: unknown;
  private whole: Blocks | undefined;
  private releases: (() => void)[] = [];
  private readonly scratch = new Scratch();

  private constructor(
    private readonly origin: Origin,
    private readonly home: FileSystemDirectoryHandle,
    private record: ModelRecord,
    private readonly digests: Digests,
    private readonly signal: AbortSignal,
    private readonly told: (transfer: Transfer) => void,
  ) {
    this.hash = digests.sha256();
  }

  get size(): number {
    return this.record.size;
  }

  get key(): string {
    return this.record.key;
  }

  /** Opens what is in storage, or begins to fetch it. */
  static async open(origin: Origin, room: Room, digests: Digests, signal: AbortSignal, told: (transfer: Transfer) => void): Promise<Model> {
    const key = await keyOf(origin.url);
    const releases = [await hold(useLock(key), "shared", signal)];
    try {
      const home = await (await folder()).getDirectoryHandle(key, { create: true });
      let record = await readRecord(home);
      if (!record?.complete) {
        told({ doneBytes: 0, totalBytes: record?.size ?? 0, resumedBytes: 0, phase: "waiting" });
        releases.push(await hold(writeLock(key), "exclusive", signal));
        record = await readRecord(home);
      }
      if (record?.complete) {
        const model = new Model(origin, home, record, digests, signal, told);
        model.whole = await Blocks.open(home, record, digests, signal);
        if (releases.length > 1) releases.pop()!();
        model.releases = releases;
        return model;
      }
      const found = await look(origin, signal);
      const same = record && record.size === found.size && (record.etag === found.etag || !found.etag);
      const fresh = { key, name: origin.name, url: origin.url, size: found.size, etag: found.etag, sha256: origin.sha256, complete: false, created: Date.now() };
      const model = new Model(origin, home, same ? record! : fresh, digests, signal, told);
      model.releases = releases;
      await model.begin(Boolean(same), room);
      return model;
    } catch (error) {
      releases.forEach((release) => release());
      throw error;
    }
  }

  async read(offset: number, nBytes: number): Promise<Uint8Array> {
    if (this.whole) {
      return await this.whole.read(offset, nBytes).catch((error) => {
        this.failure = error;
        throw error;
      });
    }
    const end = offset + nBytes;
    this.goal = Math.max(this.goal, Math.min(end + AHEAD_BYTES, this.size));
    while (this.done < end) {
      if (this.failure) throw this.failure;
      this.rouse();
      await new Promise<void>((resolve) => this.wake.push(resolve));
    }
    const bytes = this.scratch.take(nBytes);
    this.data!.read(bytes, { at: offset });
    return bytes;
  }

  /** Fetches the rest, compares the whole with the publisher's checksum, and opens it as it will be from now on. */
  async finish(): Promise<void> {
    if (this.whole) return;
    this.goal = this.size;
    while (this.done < this.size) {
      if (this.failure) throw this.failure;
      this.rouse();
      await new Promise<void>((resolve) => this.wake.push(resolve));
    }
    this.closeHandles();
    const sha256 = this.hash.finish();
    const expected = this.origin.sha256 ?? this.record.sha256;
    if (expected && expected !== sha256) {
      await this.home.removeEntry("blocks.bin");
      throw new PocketError("corrupt", `${this.record.name} is not what its publisher offers: its SHA-256 is ${sha256}, not ${expected}`, "load it again; if it happens twice, the address serves another file");
    }
    this.record = { ...this.record, sha256, complete: true };
    await writeRecord(this.home, this.record);
    this.whole = await Blocks.open(this.home, this.record, this.digests, this.signal);
    if (this.releases.length > 1) this.releases.pop()!();
  }

  /** Gives locks and files back; what came stays. */
  close(): void {
    this.failure ??= new PocketError("aborted", "the model was closed");
    this.rouse();
    this.closeHandles();
    this.releases.splice(0).forEach((release) => release());
  }

  private closeHandles(): void {
    this.data?.close();
    this.hashes?.close();
    this.data = this.hashes = undefined;
  }

  /** Takes up what came before, as far as it is what it was, and sees whether there is room for the rest. */
  private async begin(resume: boolean, { usage, quota }: Room): Promise<void> {
    const open = async (name: string) => openSync(await this.home.getFileHandle(name, { create: true }));
    this.data = await open("model.bin");
    this.hashes = await open("blocks.bin");
    const nBlocks = resume ? Math.floor(this.hashes.getSize() / HASH_BYTES) : 0;
    const block = new Uint8Array(BLOCK_BYTES);
    for (let index = 0; index < nBlocks; index++) {
      this.signal.throwIfAborted();
      const bytes = block.subarray(0, Math.min(BLOCK_BYTES, this.size - this.done));
      const n = this.data.read(bytes, { at: this.done });
      if (n < bytes.length || readHash(this.hashes, index) !== this.digests.blockHash(bytes)) break;
      this.hash.update(bytes);
      this.done += bytes.length;
    }
    this.hashes.truncate(Math.ceil(this.done / BLOCK_BYTES) * HASH_BYTES);
    // What is there of the model counts as used already.
    const short = this.size - Math.min(this.data.getSize(), this.size) + SPARE_BYTES - (quota - usage);
    if (short > 0) {
      this.closeHandles();
      throw quotaError(this.record.name, this.size - this.done, Math.max(0, quota - usage), short);
    }
    await writeRecord(this.home, this.record);
    void this.pump(this.done);
  }

  private rouse(): void {
    for (const wake of this.wake.splice(0)) wake();
  }

  private tell(resumedBytes: number, phase: Transfer["phase"]): void {
    this.told({ doneBytes: this.done, totalBytes: this.size, resumedBytes, phase });
  }

  /** Fetches until the whole is here, bridging cuts. */
  private async pump(resumedBytes: number): Promise<void> {
    let tries = 0;
    try {
      while (this.done < this.size && !this.failure) {
        const before = this.done;
        this.tell(resumedBytes, tries > 0 ? "reconnecting" : "downloading");
        try {
          await this.receive(resumedBytes);
        } catch (error) {
          this.signal.throwIfAborted();
          if (error instanceof PocketError || isQuota(error)) throw error;
          tries = this.done > before ? 1 : tries + 1;
          if (tries >= MAX_TRIES) {
            throw new PocketError("network", `the connection to fetch ${this.record.name} broke at ${bytesText(this.done)} of ${bytesText(this.size)}`, "what came is kept: load it again to go on from there");
          }
          await new Promise((resolve) => setTimeout(resolve, FIRST_PAUSE_MS * 2 ** (tries - 1)));
        }
      }
    } catch (error) {
      this.failure = isQuota(error) ? quotaError(this.record.name, this.size - this.done, 0, this.size - this.done) : error;
    }
    this.rouse();
  }

  /** One connection's worth. */
  private async receive(resumedBytes: number): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([this.signal, stop.signal]);
    const stream = await openStream(this.origin, this.done, this.size, this.record.etag, signal);
    const reader = stream.getReader();
    const block = new Uint8Array(BLOCK_BYTES);
    let filled = 0;
    try {
      while (!this.failure) {
        while (this.done >= this.goal && !this.failure) await new Promise<void>((resolve) => this.wake.push(resolve));
        const { done, value } = await reader.read();
        if (done) break;
        for (let from = 0; from < value.length;) {
          const wanted = Math.min(BLOCK_BYTES, this.size - this.done);
          if (wanted === 0) return;
          const n = Math.min(wanted - filled, value.length - from);
          block.set(value.subarray(from, from + n), filled);
          filled += n;
          from += n;
          if (filled === wanted) {
            this.keep(block.subarray(0, filled));
            filled = 0;
            this.tell(resumedBytes, "downloading");
          }
        }
      }
      if (this.done < this.size && !this.failure) throw new TypeError("the connection ended early");
    } finally {
      stop.abort();
      reader.cancel().catch(() => undefined);
    }
  }

  /** A block is kept once its hash is: one that a crash tore apart does not count. */
  private keep(bytes: Uint8Array): void {
    if (!this.data || !this.hashes) throw new PocketError("aborted", "the model was closed");
    const n = this.data.write(bytes, { at: this.done });
    if (n < bytes.length) throw new DOMException("a short write", "QuotaExceededError");
    this.data.flush();
    const hash = new TextEncoder().encode(this.digests.blockHash(bytes));
    this.hashes.write(hash, { at: Math.floor(this.done / BLOCK_BYTES) * HASH_BYTES });
    this.hashes.flush();
    this.hash.update(bytes);
    this.done += bytes.length;
    this.rouse();
  }
}

/** A buffer that is used again for each read: the engine takes what it gets at once, and reads one thing at a time. Made anew
 * each time, hundreds of megabytes would wait for the garbage collector. */
class Scratch {
  private bytes = new Uint8Array(0);

  take(n: number): Uint8Array {
    if (this.bytes.length < n) this.bytes = new Uint8Array(Math.max(n, BLOCK_BYTES));
    return this.bytes.subarray(0, n);
  }
}

/** A model that is whole: read block by block, each compared with its hash; a damaged one is fetched again. */
class Blocks implements PageFile {
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
    const file = async (name: string) => (await home.getFileHandle(name)).getFile();
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
    const answer = await fetch(url, { headers: { Range: `bytes=${start}-${end - 1}` }, signal: this.signal }).catch(() => undefined);
    if (answer?.status !== 206) throw damaged;
    const bytes = new Uint8Array(await answer.arrayBuffer());
    if (this.digests.blockHash(bytes) !== this.hash(index)) throw damaged;
    const handle = await this.home.getFileHandle("model.bin");
    const sync = await openSync(handle).catch(() => undefined);
    // Another tab may have it open; then the block is mended next time.
    if (sync) {
      sync.write(bytes, { at: start });
      sync.close();
      this.data = await handle.getFile();
    }
    return bytes;
  }
}

/** How large it is, without fetching it. */
async function look(origin: Origin, signal: AbortSignal): Promise<{ size: number; etag?: string | undefined }> {
  if (origin.file) return { size: origin.file.size };
  if (origin.url.startsWith("file:")) throw new PocketError("not-found", `only a part of ${origin.name} is here`, "open the file again: it goes on from there");
  const what = `cannot fetch ${origin.url}`;
  let answer: Response;
  try {
    // One byte instead of HEAD: stores that redirect often sign addresses for GET alone.
    answer = await fetch(origin.url, { headers: { Range: "bytes=0-0" }, signal });
  } catch (error) {
    signal.throwIfAborted();
    throw new PocketError("network", `${what}: ${(error as Error).message}`, "check the connection and the address; the server must allow this page to read it (CORS)");
  }
  await answer.body?.cancel();
  if (!answer.ok) throw new PocketError("network", `${what}: the server answers ${answer.status}`, "check the address");
  const range = answer.headers.get("content-range")?.match(/\/(\d+)$/)?.[1];
  const size = Number(range ?? (answer.status === 200 ? answer.headers.get("content-length") : NaN));
  if (!Number.isSafeInteger(size) || size <= 0) throw new PocketError("network", `${what}: the server does not say how large it is`, "it must answer ranges and expose Content-Range");
  return { size, etag: answer.headers.get("etag") ?? undefined };
}

async function openStream(origin: Origin, from: number, size: number, etag: string | undefined, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  if (origin.file) return origin.file.slice(from).stream();
  const answer = await fetch(origin.url, { headers: { Range: `bytes=${from}-` }, signal });
  const changed = () => new PocketError("changed", `${origin.name} has changed on the server since its download began`, "load it again: it begins anew");
  const now = answer.headers.get("etag");
  if (etag && now && etag !== now) throw changed();
  if (answer.status >= 500 || answer.status === 429 || !answer.body) throw new TypeError(`the server answers ${answer.status}`);
  if (!answer.ok) throw new PocketError("network", `cannot fetch ${origin.url}: the server answers ${answer.status}`, "check the address");
  const range = answer.headers.get("content-range")?.match(/bytes (\d+)-\d+\/(\d+)/);
  if (answer.status === 206 && range && (Number(range[1]) !== from || Number(range[2]) !== size)) throw changed();
  // A server without ranges sends all of it again.
  return answer.status === 206 || from === 0 ? answer.body : answer.body.pipeThrough(skip(from));
}

function skip(n: number): TransformStream<Uint8Array, Uint8Array> {
  return new TransformStream({
    transform(chunk, out) {
      if (n < chunk.length) out.enqueue(chunk.subarray(n));
      n = Math.max(0, n - chunk.length);
    },
  });
}

function readHash(hashes: SyncHandle, index: number): string {
  const bytes = new Uint8Array(HASH_BYTES);
  hashes.read(bytes, { at: index * HASH_BYTES });
  return new TextDecoder().decode(bytes);
}

async function writeRecord(home: FileSystemDirectoryHandle, record: ModelRecord): Promise<void> {
  const handle = await openSync(await home.getFileHandle("record.json", { create: true }));
  const bytes = new TextEncoder().encode(JSON.stringify(record));
  handle.truncate(0);
  handle.write(bytes, { at: 0 });
  handle.flush();
  handle.close();
}

function isQuota(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}

function quotaError(name: string, needed: number, free: number, short: number): PocketError {
  return new PocketError("quota", `there is no room for ${name}: ${bytesText(needed)} are still to come, and this browser gives the site ${bytesText(free)} more; ${bytesText(short)} are missing`, "delete a model, free some space on the device, or choose a smaller model");
}

/** Takes a lock and returns what gives it back. */
function hold(name: string, mode: LockMode, signal: AbortSignal): Promise<() => void> {
  return new Promise((resolve, reject) => {
    navigator.locks.request(name, { mode, signal }, () => new Promise<void>((release) => resolve(release))).catch(reject);
  });
}
