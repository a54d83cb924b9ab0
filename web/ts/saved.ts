// Sessions that were saved in the browser's own storage: a file each, beside the models' folders.

import { isUnfinished, replaceFile } from "./files.js";
import { PocketError, root } from "./store.js";

const FOLDER = "pocketlm-sessions";

/** A saved session in the list. */
export interface SavedSession {
  name: string;
  bytes: number;
  /** Milliseconds since 1970. */
  saved: number;
}

const folder = async () => (await root()).getDirectoryHandle(FOLDER, { create: true });
/** Any name can name a file so. The letter keeps `.` and `..` apart from folders. */
const fileName = (name: string) => `s${encodeURIComponent(name)}`;
const missing = (name: string) => new PocketError("not-found", `there is no saved session \`${name}\``);

/** Sessions that are here, the last one saved first. */
export async function listSaved(): Promise<SavedSession[]> {
  const found: SavedSession[] = [];
  for await (const entry of (await folder()).values()) {
    if (entry.kind !== "file" || isUnfinished(entry.name)) continue;
    const { size, lastModified } = await (entry as FileSystemFileHandle).getFile();
    found.push({ name: decodeURIComponent(entry.name.slice(1)), bytes: size, saved: lastModified });
  }
  return found.sort((a, b) => b.saved - a.saved);
}

export async function removeSaved(name: string): Promise<void> {
  await (await folder()).removeEntry(fileName(name)).catch(() => {
    throw missing(name);
  });
}

/** Replaces what was saved under the name, once all of it is written. */
export async function writeSaved(name: string, fill: (write: (bytes: Uint8Array) => void) => Promise<void>): Promise<void> {
  await replaceFile(await folder(), fileName(name), fill);
}

export async function openSaved(name: string): Promise<File> {
  const handle = await (await folder()).getFileHandle(fileName(name)).catch(() => {
    throw missing(name);
  });
  return await handle.getFile();
}
