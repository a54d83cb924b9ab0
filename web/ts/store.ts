// Models in the browser's own storage (OPFS), each in a folder of its own:
//   record.json   where it is from, how large it is, whether it is complete
//   model.bin     its bytes, in blocks of 4 MiB
//   blocks.bin    16 hexadecimal digits per block that has come: what a resumed download and every read are checked by
// Everything here works in pages and in workers.

export const BLOCK_BYTES = 4 << 20;
export const HASH_BYTES = 16;
export const RECORD = "record.json";
const FOLDER = "pocketlm-models";

/** What is kept of a model. */
export interface ModelRecord {
  /** Names its folder. */
  key: string;
  name: string;
  /** Its address, or `file:` and what tells files apart. */
  url: string;
  size: number;
  /** What the server tells versions apart by: an ETag, else a date. */
  version?: string | undefined;
  sha256?: string | undefined;
  complete: boolean;
  /** Milliseconds since 1970. */
  created: number;
  /** Why it can only be deleted, or fetched anew from its address. */
  damaged?: string | undefined;
}

/** A model in the list: its record, and how much of it has come. */
export interface StoredModel extends ModelRecord {
  storedBytes: number;
}

/** What the browser lets this site keep. */
export interface Storage {
  usage: number;
  quota: number;
  /** The browser has promised to delete nothing by itself. */
  persisted: boolean;
}

/** An error with a word for programs and a sentence for people. */
export class PocketError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly hint = "",
    /** With `too-large`: the longest context that the device can hold, where there is one. */
    readonly fits?: number | undefined,
  ) {
    super(message);
    this.name = "PocketError";
  }
}

/** The browser's own storage. A private window may have none, and then nothing is kept. */
export async function root(): Promise<FileSystemDirectoryHandle> {
  try {
    return await navigator.storage.getDirectory();
  } catch {
    throw new PocketError("no-storage", "this browser keeps nothing for this page", "a window that is not private keeps models and sessions");
  }
}

export async function folder(): Promise<FileSystemDirectoryHandle> {
  return await (await root()).getDirectoryHandle(FOLDER, { create: true });
}

/** A folder's name for an address. */
export async function keyOf(url: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
  return [...new Uint8Array(digest, 0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function readRecord(models: FileSystemDirectoryHandle, key: string): Promise<ModelRecord | undefined> {
  try {
    const file = await (await (await models.getDirectoryHandle(key)).getFileHandle(RECORD)).getFile();
    const record = JSON.parse(await file.text());
    return typeof record.url === "string" && Number.isSafeInteger(record.size) ? { ...record, key } : undefined;
  } catch {
    return undefined;
  }
}

/** Models that are here, whole or in part. */
export async function list(): Promise<StoredModel[]> {
  const models: StoredModel[] = [];
  const place = await folder();
  for await (const entry of place.values()) {
    if (entry.kind !== "directory") continue;
    const model = entry as FileSystemDirectoryHandle;
    const bytesOf = (name: string) => model.getFileHandle(name).then((file) => file.getFile()).then(({ size }) => size, () => 0);
    const record = await readRecord(place, model.name);
    if (record) {
      const nBlocks = Math.floor(await bytesOf("blocks.bin") / HASH_BYTES);
      models.push({ ...record, storedBytes: Math.min(nBlocks * BLOCK_BYTES, record.size) });
      continue;
    }
    // The record is written before the first byte of the model.
    const size = await bytesOf("model.bin");
    if (size > 0) models.push({ key: model.name, name: `Damaged model ${model.name}`, url: "", size, complete: false, created: 0, storedBytes: size, damaged: "what was noted of it cannot be read" });
  }
  return models.sort((a, b) => a.name.localeCompare(b.name));
}

/** Deletes a model, unless a tab uses it. */
export async function remove(key: string): Promise<void> {
  await navigator.locks.request(useLock(key), { ifAvailable: true }, async (lock) => {
    if (!lock) throw new PocketError("in-use", "the model is in use", "close the conversation, also in other tabs, then delete it");
    await (await folder()).removeEntry(key, { recursive: true });
  });
}

export async function storage(): Promise<Storage> {
  const { usage = 0, quota = 0 } = await navigator.storage.estimate();
  return { usage, quota, persisted: (await navigator.storage.persisted?.()) ?? false };
}

/** Held by everyone who reads a model. */
export const useLock = (key: string) => `pocketlm use ${key}`;
/** Held by the one who writes it. */
export const writeLock = (key: string) => `pocketlm write ${key}`;

/** Takes a lock and returns what gives it back; `wait` is called if another tab has it. */
export async function hold(name: string, mode: LockMode, signal: AbortSignal, wait: () => void = () => undefined): Promise<() => void> {
  const ask = (options: LockOptions) => new Promise<(() => void) | undefined>((resolve, reject) => {
    const held = (lock: Lock | null) => (lock ? new Promise<void>((release) => resolve(release)) : resolve(undefined));
    navigator.locks.request(name, { mode, ...options }, held as LockGrantedCallback<void>).catch(reject);
  });
  const atOnce = await ask({ ifAvailable: true });
  if (atOnce) return atOnce;
  wait();
  return (await ask({ signal }))!;
}

export function bytesText(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(0)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
}
