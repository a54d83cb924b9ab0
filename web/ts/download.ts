// A model on its way: fetched with ranges or read from a file, block by block into storage, while the engine reads what
// has come. It runs only a little ahead of the reader, so that nothing is fetched before the device has said that it
// can hold the model. A cut is bridged; what came stays for the next time.

import { Blocks, Scratch, bytesOf, type Digests, type PageFile } from "./blocks.js";
import { replaceFile } from "./files.js";
import { inTime, look, openStream, type Found, type Origin, type Patience } from "./origin.js";
import { LooseBlocks, StoredBlocks, type Shelf } from "./shelf.js";
import {
  BLOCK_BYTES, PocketError, RECORD, bytesText, folder, hold, keyOf, readRecord, useLock, writeLock, type ModelRecord,
} from "./store.js";

/** Blocks that may come before anyone asks for them. */
const AHEAD_BYTES = 4 * BLOCK_BYTES;
/** Tries in a row without a byte before a download gives up, and the pause before the second of them. */
const MAX_TRIES = 6;
const FIRST_PAUSE_MS = 250;
/** Room that stays free beside a model. */
const SPARE_BYTES = 16 << 20;
/** Blocks that came before are checked so many at a time; in between an abort is heard. */
const CHECKED_AT_ONCE = 8;

/** What a GGUF file begins with. */
const MAGIC = "GGUF";

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

/** What a download goes by. */
export interface Terms extends Patience {
  room: Room;
  digests: Digests;
  told(transfer: Transfer): void;
}

/** A block that is coming, and how much of it is here: a cut loses nothing of it. */
interface Coming {
  bytes: Uint8Array;
  filled: number;
}

/** A model that is in storage, or on its way there. */
export class Model implements PageFile {
  /** What ended it: the engine, which reads through here, has words for it that say less. */
  failure: unknown;
  private shelf: Shelf | undefined;
  private whole: PageFile | undefined;
  /** Bytes on the shelf, and how far the reader lets the download go. */
  private done = 0;
  private goal = 0;
  private resumedBytes = 0;
  private wake: (() => void)[] = [];
  private readonly hash: ReturnType<Digests["sha256"]>;
  private readonly scratch = new Scratch();

  private constructor(
    private readonly origin: Origin,
    /** Its folder; none where the browser keeps nothing. */
    private readonly home: FileSystemDirectoryHandle | undefined,
    private record: ModelRecord,
    private readonly terms: Terms,
    private readonly releases: (() => void)[] = [],
  ) {
    this.hash = terms.digests.sha256();
  }

  get size(): number {
    return this.record.size;
  }

  /** Names it in the list of models, where it is kept. */
  get key(): string | undefined {
    return this.home && this.record.key;
  }

  /** Opens what is in storage, or begins to fetch it. */
  static async open(origin: Origin, terms: Terms): Promise<Model> {
    const key = await keyOf(origin.url);
    const models = await folder().catch(() => undefined);
    if (!models) return await Model.openLoose(origin, key, terms);
    const { signal, digests, told } = terms;
    const releases = [await hold(useLock(key), "shared", signal)];
    try {
      const read = async () => {
        const found = await readRecord(models, key);
        // What is damaged is fetched anew.
        return found?.damaged ? undefined : found;
      };
      let record = await read();
      if (!record?.complete) {
        const waiting = { doneBytes: 0, totalBytes: record?.size ?? 0, resumedBytes: 0, phase: "waiting" as const };
        releases.push(await hold(writeLock(key), "exclusive", signal, () => told(waiting)));
        record = await read();
      }
      if (record?.complete) {
        if (origin.sha256 && origin.sha256 !== record.sha256) {
          throw new PocketError("changed", `the ${record.name} in this browser's storage is not the one that is asked for: its SHA-256 is ${record.sha256}, not ${origin.sha256}`, "delete the model, then load it again");
        }
        const home = await models.getDirectoryHandle(key);
        const model = new Model(origin, home, record, terms, releases);
        model.whole = await Blocks.open(home, record, digests, signal);
        model.releaseWriter();
        return model;
      }
      const found = await look(origin, terms);
      const same = record && isSame(record, found, origin) ? record : undefined;
      const home = await models.getDirectoryHandle(key, { create: true });
      const model = new Model(origin, home, same ?? recordOf(origin, key, found), terms, releases);
      await model.begin(await StoredBlocks.open(home), Boolean(same));
      return model;
    } catch (error) {
      releases.splice(0).forEach((release) => release());
      throw error;
    }
  }

  /** Where the browser keeps nothing, as some private windows do. */
  private static async openLoose(origin: Origin, key: string, terms: Terms): Promise<Model> {
    const model = new Model(origin, undefined, recordOf(origin, key, await look(origin, terms)), terms);
    if (origin.file) model.whole = bytesOf(origin.file);
    else await model.begin(new LooseBlocks(), false);
    return model;
  }

  async read(offset: number, nBytes: number): Promise<Uint8Array> {
    if (this.whole) {
      return await this.whole.read(offset, nBytes).catch((error) => {
        this.failure = error;
        throw error;
      });
    }
    const end = offset + nBytes;
    await this.reach(end, Math.min(end + AHEAD_BYTES, this.size));
    const bytes = this.scratch.take(nBytes);
    await this.shelf!.read(bytes, offset);
    return bytes;
  }

  /** Waits for the first bytes, by which what is no model is told: the engine has words for it that say less. */
  async first(): Promise<void> {
    if (!this.whole) await this.reach(Math.min(MAGIC.length, this.size), Math.min(AHEAD_BYTES, this.size));
  }

  /** Fetches the rest, compares the whole with the publisher's checksum, and opens it as it will be from now on. */
  async finish(): Promise<void> {
    if (this.whole) return;
    await this.reach(this.size, this.size);
    const sha256 = this.hash.finish();
    const expected = this.origin.sha256 ?? this.record.sha256;
    if (expected && expected !== sha256) {
      await this.discard();
      throw new PocketError("corrupt", `${this.record.name} is not what its publisher offers: its SHA-256 is ${sha256}, not ${expected}`, "load it again; if it happens twice, the address serves another file");
    }
    this.record = { ...this.record, sha256, complete: true };
    if (!this.home) return;
    this.closeShelf();
    await writeRecord(this.home, this.record);
    this.whole = await Blocks.open(this.home, this.record, this.terms.digests, this.terms.signal);
    this.releaseWriter();
  }

  /** Notes that the engine, or storage, found it damaged: it is not offered as one to load again. */
  async condemn(why: string): Promise<void> {
    if (!this.home) return;
    this.closeShelf();
    // Another tab may be saying the same.
    await writeRecord(this.home, { ...this.record, damaged: why }).catch(() => undefined);
  }

  /** Gives locks and files back; what came stays. */
  close(): void {
    this.failure ??= new PocketError("aborted", "the model was closed");
    this.rouse();
    this.closeShelf();
    this.releases.splice(0).forEach((release) => release());
  }

  private closeShelf(): void {
    this.shelf?.close();
    this.shelf = undefined;
  }

  /** Whoever wrote reads on. */
  private releaseWriter(): void {
    if (this.releases.length > 1) this.releases.pop()!();
  }

  /** Waits until so many bytes are here, and lets the download go on to `goal`. */
  private async reach(end: number, goal: number): Promise<void> {
    this.goal = Math.max(this.goal, goal);
    while (this.done < end) {
      if (this.failure) throw this.failure;
      this.rouse();
      await this.roused();
    }
  }

  private roused(): Promise<void> {
    return new Promise((resolve) => this.wake.push(resolve));
  }

  private rouse(): void {
    for (const wake of this.wake.splice(0)) wake();
  }

  /** Takes up what came before, sees whether there is room for the rest, and begins to fetch it. */
  private async begin(shelf: Shelf, resume: boolean): Promise<void> {
    this.shelf = shelf;
    try {
      if (!resume && shelf instanceof StoredBlocks) shelf.forget(0);
      await this.takeUp(shelf);
      const { usage, quota } = this.terms.room;
      // What is there of the model counts as used already.
      const short = this.size - Math.min(shelf.usedBytes, this.size) + SPARE_BYTES - (quota - usage);
      if (this.home && short > 0) throw quotaError(this.record.name, this.size - this.done, Math.max(0, quota - usage), short);
      if (this.home) await writeRecord(this.home, this.record);
    } catch (error) {
      this.closeShelf();
      throw error;
    }
    void this.pump();
  }

  private async takeUp(shelf: Shelf): Promise<void> {
    const { signal, digests } = this.terms;
    let nBlocks = 0;
    for (const bytes of shelf.earlier(this.size, digests.blockHash)) {
      this.hash.update(bytes);
      this.resumedBytes = this.done += bytes.length;
      if (++nBlocks % CHECKED_AT_ONCE > 0) continue;
      this.tell("downloading");
      await new Promise((resolve) => setTimeout(resolve));
      signal.throwIfAborted();
    }
  }

  private tell(phase: Transfer["phase"], coming = 0): void {
    this.terms.told({ doneBytes: this.done + coming, totalBytes: this.size, resumedBytes: this.resumedBytes, phase });
  }

  /** Fetches until the whole is here, bridging cuts. */
  private async pump(): Promise<void> {
    const block: Coming = { bytes: new Uint8Array(BLOCK_BYTES), filled: 0 };
    const { name } = this.record;
    let tries = 0;
    try {
      while (this.done < this.size && !this.failure) {
        const before = this.done + block.filled;
        this.tell(tries > 0 ? "reconnecting" : "downloading", block.filled);
        try {
          await this.receive(block);
        } catch (error) {
          this.terms.signal.throwIfAborted();
          if (error instanceof PocketError || isQuota(error)) throw error;
          tries = this.done + block.filled > before ? 1 : tries + 1;
          if (tries >= MAX_TRIES) {
            throw new PocketError("network", `the connection to fetch ${name} broke at ${bytesText(this.done)} of ${bytesText(this.size)}`, "what came is kept: load it again to go on from there");
          }
          await new Promise((resolve) => setTimeout(resolve, FIRST_PAUSE_MS * 2 ** (tries - 1)));
        }
      }
    } catch (error) {
      if ((error as PocketError).code === "no-model") await this.discard();
      this.failure ??= isQuota(error) ? quotaError(name, this.size - this.done, 0, this.size - this.done) : error;
    }
    this.rouse();
  }

  /** One connection's worth. */
  private async receive(block: Coming): Promise<void> {
    const { signal, stallMs } = this.terms;
    const stop = new AbortController();
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    try {
      const opened = openStream(this.origin, this.done + block.filled, this.record, AbortSignal.any([signal, stop.signal]));
      reader = (await inTime(opened, stallMs)).getReader();
      while (this.done < this.size && !this.failure) {
        if (this.done >= this.goal) {
          await this.roused();
          continue;
        }
        const { done, value } = await inTime(reader.read(), stallMs);
        if (done) throw new TypeError("the connection ended early");
        this.take(block, value);
        this.tell("downloading", block.filled);
      }
    } finally {
      stop.abort();
      reader?.cancel().catch(() => undefined);
    }
  }

  /** Keeps nothing of what is no model, or another one. */
  private async discard(): Promise<void> {
    this.closeShelf();
    await folder().then((models) => models.removeEntry(this.record.key, { recursive: true })).catch(() => undefined);
  }

  private take(block: Coming, value: Uint8Array): void {
    if (this.done + block.filled + value.length > this.size) {
      throw new PocketError("network", `${this.record.name} is longer than the server said`, "check the address");
    }
    for (let from = 0; from < value.length;) {
      const wanted = Math.min(BLOCK_BYTES, this.size - this.done);
      const part = value.subarray(from, from + wanted - block.filled);
      block.bytes.set(part, block.filled);
      block.filled += part.length;
      from += part.length;
      if (this.done === 0) this.demandModel(block, wanted);
      if (block.filled < wanted) continue;
      this.keep(block.bytes.subarray(0, wanted));
      block.filled = 0;
    }
  }

  /** A server may answer with a page that says that there is no such file, or that asks who one is. */
  private demandModel({ bytes, filled }: Coming, wanted: number): void {
    const begun = new TextDecoder().decode(bytes.subarray(0, Math.min(filled, MAGIC.length)));
    if (begun === MAGIC || (filled < Math.min(wanted, MAGIC.length) && MAGIC.startsWith(begun))) return;
    const page = /^\s*</.test(begun);
    throw new PocketError("no-model", `${this.record.name} is no model: ${page ? "what came is a web page" : "it is no GGUF file"}`,
      this.origin.file ? "choose a file whose name ends in .gguf" : "check the address; it may be one that asks to sign in, or of a page about the file");
  }

  private keep(bytes: Uint8Array): void {
    if (!this.shelf) throw new PocketError("aborted", "the model was closed");
    this.shelf.put(this.done / BLOCK_BYTES, bytes, this.terms.digests.blockHash(bytes));
    this.hash.update(bytes);
    this.done += bytes.length;
    this.rouse();
  }
}

function recordOf({ name, url, sha256 }: Origin, key: string, { size, version }: Found): ModelRecord {
  return { key, name, url, size, version, sha256, complete: false, created: Date.now() };
}

/** Whether what is here is a part of what was found. Where neither server nor publisher tells versions apart, nobody knows. */
function isSame(record: ModelRecord, { size, version }: Found, { sha256 }: Origin): boolean {
  if (record.size !== size || record.version !== version || (sha256 && record.sha256 && sha256 !== record.sha256)) return false;
  return Boolean(version ?? sha256 ?? record.sha256);
}

async function writeRecord(home: FileSystemDirectoryHandle, record: ModelRecord): Promise<void> {
  await replaceFile(home, RECORD, (write) => write(new TextEncoder().encode(JSON.stringify(record))));
}

function isQuota(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}

function quotaError(name: string, needed: number, free: number, short: number): PocketError {
  return new PocketError("quota", `there is no room for ${name}: ${bytesText(needed)} are still to come, and this browser gives the site ${bytesText(free)} more; ${bytesText(short)} are missing`, "delete a model, free some space on the device, or choose a smaller model");
}
