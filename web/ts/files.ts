// Files in the browser's own storage (OPFS), as workers write them: in place, or whole or not at all.

/** The one way to write a file in place, and to read it meanwhile; workers have it. */
export interface SyncHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

/** Between a file's name and what tells the one that is being written; names of ours never hold it. */
const BESIDE = "+new";

export const openSync = (file: FileSystemFileHandle): Promise<SyncHandle> =>
  (file as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle();

/** Writes bytes, all of them: a disk that is full may take a part. */
export function writeAll(handle: SyncHandle, bytes: Uint8Array, at: number): void {
  const n = handle.write(bytes, { at });
  if (n < bytes.length) throw new DOMException("only a part could be written", "QuotaExceededError");
}

/** Writes a file beside the one of that name, in whose place it moves once it is whole: a crash leaves the old one. */
export async function replaceFile(folder: FileSystemDirectoryHandle, name: string, fill: (write: (bytes: Uint8Array) => void) => void | Promise<void>): Promise<void> {
  const beside = await folder.getFileHandle(name + BESIDE, { create: true });
  const handle = await openSync(beside);
  try {
    handle.truncate(0);
    let at = 0;
    await fill((bytes) => {
      writeAll(handle, bytes, at);
      at += bytes.length;
    });
    handle.flush();
  } catch (error) {
    handle.close();
    await folder.removeEntry(beside.name).catch(() => undefined);
    throw error;
  }
  handle.close();
  // Every browser that has WebGPU has this, though TypeScript does not know it.
  await (beside as unknown as { move(name: string): Promise<void> }).move(name);
}

/** Whether a file is one that {@link replaceFile} has not finished. */
export const isUnfinished = (name: string): boolean => name.endsWith(BESIDE);
