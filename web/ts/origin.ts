// Where a model's bytes come from: a server that is asked for ranges, or a file that the user chose.

import { PocketError } from "./store.js";

export interface Origin {
  name: string;
  /** Tells models apart. */
  url: string;
  /** What the publisher says they hash to. */
  sha256?: string | undefined;
  /** A file that the user chose. */
  file?: File | undefined;
}

/** What a server tells of a file before it is fetched. */
export interface Found {
  size: number;
  /** Tells versions apart: an ETag, else a date; many servers show pages of other sites the date alone. */
  version?: string | undefined;
}

/** How long nothing may come before a connection is given up. */
export interface Patience {
  signal: AbortSignal;
  stallMs: number;
}

/** Looks at a file without fetching it. */
export async function look(origin: Origin, { signal, stallMs }: Patience): Promise<Found> {
  if (origin.file) return { size: origin.file.size, version: origin.url };
  if (origin.url.startsWith("file:")) throw new PocketError("not-found", `only a part of ${origin.name} is here`, "open the file again: it goes on from there");
  const what = `cannot fetch ${origin.url}`;
  let answer: Response;
  try {
    // One byte instead of HEAD: stores that redirect often sign addresses for GET alone.
    answer = await fetch(origin.url, { headers: { Range: "bytes=0-0" }, signal: AbortSignal.any([signal, AbortSignal.timeout(stallMs)]) });
  } catch (error) {
    signal.throwIfAborted();
    throw new PocketError("network", `${what}: ${(error as Error).message}`, "check the connection and the address; the server must allow this page to read it (CORS)");
  }
  await answer.body?.cancel();
  if (!answer.ok) throw new PocketError("network", `${what}: the server answers ${answer.status}`, "check the address");
  const range = answer.headers.get("content-range")?.match(/\/(\d+)$/)?.[1];
  const size = Number(range ?? (answer.status === 200 ? answer.headers.get("content-length") : NaN));
  if (!Number.isSafeInteger(size) || size <= 0) throw new PocketError("network", `${what}: the server does not say how large it is`, "it must answer ranges and expose Content-Range");
  return { size, version: versionOf(answer) };
}

/** The bytes from an offset on, of the version that was found. */
export async function openStream(origin: Origin, from: number, { size, version }: Found, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  if (origin.file) return origin.file.slice(from).stream();
  // In the browser's cache it would take its room twice, and what is damaged could come again.
  const answer = await fetch(origin.url, { headers: { Range: `bytes=${from}-` }, cache: "no-store", signal });
  const { status, headers, body } = answer;
  if (status >= 500 || status === 429 || status === 408) throw new TypeError(`the server answers ${status}`);
  if (!body || (!answer.ok && status !== 416)) throw new PocketError("network", `cannot fetch ${origin.url}: the server answers ${status}`, "check the address");
  const now = versionOf(answer);
  const range = headers.get("content-range")?.match(/bytes (\d+)-\d+\/(\d+)/);
  const moved = status === 206 && range && (Number(range[1]) !== from || Number(range[2]) !== size);
  const resized = status === 200 && headers.has("content-length") && Number(headers.get("content-length")) !== size;
  if (status === 416 || moved || resized || (version && now && version !== now)) {
    throw new PocketError("changed", `${origin.name} has changed on the server since its download began`, "load it again: it begins anew");
  }
  // A server without ranges sends all of it again.
  return status === 206 || from === 0 ? body : body.pipeThrough(skip(from));
}

/** Fails as a broken connection does where nothing comes. */
export async function inTime<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TypeError(`nothing came for ${ms / 1000} s`)), ms);
  });
  return await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function versionOf({ headers }: Response): string | undefined {
  return headers.get("etag") ?? headers.get("last-modified") ?? undefined;
}

function skip(n: number): TransformStream<Uint8Array, Uint8Array> {
  return new TransformStream({
    transform(chunk, out) {
      if (n < chunk.length) out.enqueue(chunk.subarray(n));
      n = Math.max(0, n - chunk.length);
    },
  });
}
