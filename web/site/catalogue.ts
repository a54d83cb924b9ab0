// Models to begin with, smallest first, and those that the server of this page offers itself.

import type { Source } from "../ts/index.js";
import { look } from "../ts/origin.js";
import { memoryGb, phone } from "./device.js";

export interface Offer {
  name: string;
  bytes: number;
  words: string;
  source: Source;
}

/** How long a server may think about a file's size. */
const PATIENCE_MS = 10_000;

const hub = (repo: string, file: string): Source => ({ repo, file });

/** Sizes are those of the files on the hub on 2026-11-24. */
const OFFERS: Offer[] = [
  { name: "SmolLM2 135M", bytes: 105_454_432, words: "Tiny and quick, often wrong. English.", source: hub("bartowski/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct-Q4_K_M.gguf") },
  { name: "SmolLM2 360M", bytes: 386_404_992, words: "Small, for any phone. English.", source: hub("HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", "smollm2-360m-instruct-q8_0.gguf") },
  { name: "Qwen 2.5 0.5B", bytes: 491_400_032, words: "Small, many languages.", source: hub("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf") },
  { name: "Qwen 2.5 1.5B", bytes: 1_117_320_736, words: "Better answers; for good phones and any laptop.", source: hub("Qwen/Qwen2.5-1.5B-Instruct-GGUF", "qwen2.5-1.5b-instruct-q4_k_m.gguf") },
  { name: "Phi-3 mini", bytes: 2_393_231_072, words: "The best of these; for laptops with 16 GB or a graphics card. English.", source: hub("microsoft/Phi-3-mini-4k-instruct-gguf", "Phi-3-mini-4k-instruct-q4.gguf") },
];

/** Everything there is to choose from. */
export async function offers(): Promise<Offer[]> {
  const own = await fetch("models/", { signal: AbortSignal.timeout(3000) }).then((answer) => (answer.ok ? answer.json() : []), () => []).catch(() => []);
  const local = (own as { name: string; size: number }[]).map(({ name, size }): Offer => ({
    name: name.replace(/\.gguf$/, ""), bytes: size, words: "From the server of this page.", source: new URL(`models/${encodeURIComponent(name)}`, location.href),
  }));
  return [...local, ...OFFERS];
}

/** What to begin with on this device: the best that it will hold beside everything else, and that does not take an hour to
 * come over a mobile network. */
export function firstChoice(): string {
  if (memoryGb() < 3) return "SmolLM2 135M";
  return phone() ? "SmolLM2 360M" : "Qwen 2.5 1.5B";
}

/** The largest offer that is smaller than `bytes`. */
export function smaller(all: Offer[], bytes: number): Offer | undefined {
  return all.filter((offer) => offer.bytes < 0.9 * bytes).sort((a, b) => b.bytes - a.bytes)[0];
}

/** Where a source lies on the net, if it does. */
export function addressOf(source: Source): string | undefined {
  if (source instanceof URL) return source.href;
  if (typeof source === "object" && "repo" in source) return `https://huggingface.co/${source.repo}/resolve/main/${source.file}`;
  return undefined;
}

/** How large the server says that it is, if it says so; where it does not, loading it says what is wrong. */
export async function sizeThere(url: string, signal: AbortSignal): Promise<number | undefined> {
  return await look({ name: url, url }, { signal, stallMs: PATIENCE_MS }).then(({ size }) => size, () => undefined);
}

/** What a person types: an address, or `owner/repo/file.gguf` on the hub. */
export function parseSource(text: string): Source | undefined {
  const trimmed = text.trim();
  const onHub = trimmed.match(/^(?:https:\/\/huggingface\.co\/)?([\w.-]+\/[\w.-]+)\/(?:(?:resolve|blob)\/[\w.-]+\/)?([^?\s]+\.gguf)$/);
  if (onHub) return hub(onHub[1]!, onHub[2]!);
  return /^https?:\/\//.test(trimmed) && URL.canParse(trimmed) ? new URL(trimmed) : undefined;
}
