// Where a model comes from, as a program says it, and as the worker fetches it.

import type { Origin } from "./origin.js";
import { PocketError, folder, keyOf, list, readRecord } from "./store.js";

const HUB = "https://huggingface.co";
/** How long the hub may think about a checksum. */
const HUB_MS = 10_000;

/** Where a model comes from: an address, a file, a file on the Hugging Face hub, the browser's storage (a key of
 * {@link models}), or random weights of a known shape. */
export type Source = string | URL | File
  | { url: string | URL; name?: string; sha256?: string }
  | { repo: string; file: string; revision?: string; endpoint?: string; sha256?: string }
  | { key: string }
  | { shape: string };

/** What the worker fetches for a source. */
export async function resolve(source: Source, signal?: AbortSignal): Promise<Origin | { shape: string }> {
  if (source instanceof File) {
    return { name: source.name, url: `file:${source.name}:${source.size}:${source.lastModified}`, file: source };
  }
  if (typeof source === "string" || source instanceof URL) return { name: nameOf(String(source)), url: absolute(source) };
  if ("shape" in source) return source;
  if ("key" in source) {
    const model = (await list()).find(({ key }) => key === source.key);
    if (!model) throw new PocketError("not-found", "this model is not in the browser's storage", "add it again");
    if (model.damaged) throw new PocketError("corrupt", `${model.name} is damaged: ${model.damaged}`, "delete it and add it again");
    return { name: model.name, url: model.url, sha256: model.sha256 };
  }
  const sha256 = source.sha256?.toLowerCase();
  if ("url" in source) return { name: source.name ?? nameOf(String(source.url)), url: absolute(source.url), sha256 };
  const { repo, file, revision = "main", endpoint = HUB } = source;
  const url = `${endpoint}/${repo}/resolve/${encodeURIComponent(revision)}/${file.split("/").map(encodeURIComponent).join("/")}`;
  // What is here needs no hub.
  const here = await folder().then(async (models) => readRecord(models, await keyOf(url))).catch(() => undefined);
  return { name: nameOf(url), url, sha256: sha256 ?? (here?.complete && !here.damaged ? undefined : await published({ repo, file, revision, endpoint }, signal)) };
}

/** The checksum that the hub has of a file; without it the file is taken as it comes. */
async function published({ repo, file, revision, endpoint }: { repo: string; file: string; revision: string; endpoint: string }, signal?: AbortSignal): Promise<string | undefined> {
  const folder = file.split("/").slice(0, -1).map((part) => `/${encodeURIComponent(part)}`).join("");
  try {
    const soon = AbortSignal.timeout(HUB_MS);
    const answer = await fetch(`${endpoint}/api/models/${repo}/tree/${encodeURIComponent(revision)}${folder}`, { signal: signal ? AbortSignal.any([signal, soon]) : soon });
    const entries = (await answer.json()) as { path: string; lfs?: { oid?: string } }[];
    return entries.find((entry) => entry.path === file)?.lfs?.oid;
  } catch {
    signal?.throwIfAborted();
    return undefined;
  }
}

const absolute = (url: string | URL) => new URL(url, globalThis.location?.href).href;

function nameOf(url: string): string {
  const last = url.split(/[?#]/)[0]!.split("/").pop() || "model";
  try {
    return decodeURIComponent(last);
  } catch {
    // A lone `%` is no mistake in an address that works.
    return last;
  }
}
