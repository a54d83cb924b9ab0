// Models to begin with, smallest first, and those that the server of this page offers itself.

import type { Source } from "../ts/index.js";

export interface Offer {
  name: string;
  bytes: number;
  words: string;
  source: Source;
}

const hub = (repo: string, file: string): Source => ({ repo, file });

const OFFERS: Offer[] = [
  { name: "SmolLM2 135M", bytes: 105e6, words: "Tiny and quick; good to try things out.", source: hub("bartowski/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct-Q4_K_M.gguf") },
  { name: "SmolLM2 360M", bytes: 386e6, words: "Small, for any phone.", source: hub("HuggingFaceTB/SmolLM2-360M-Instruct-GGUF", "smollm2-360m-instruct-q8_0.gguf") },
  { name: "Qwen 2.5 0.5B", bytes: 491e6, words: "Small, many languages.", source: hub("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf") },
  { name: "Qwen 2.5 1.5B", bytes: 1.12e9, words: "For good phones and any laptop.", source: hub("Qwen/Qwen2.5-1.5B-Instruct-GGUF", "qwen2.5-1.5b-instruct-q4_k_m.gguf") },
  { name: "Phi-3 mini", bytes: 2.39e9, words: "For laptops with a GPU or 16 GB.", source: hub("microsoft/Phi-3-mini-4k-instruct-gguf", "Phi-3-mini-4k-instruct-q4.gguf") },
];

/** Everything there is to choose from. */
export async function offers(): Promise<Offer[]> {
  const own = await fetch("models/").then((answer) => (answer.ok ? answer.json() : []), () => []).catch(() => []);
  const local = (own as { name: string; size: number }[]).map(({ name, size }): Offer => ({
    name: name.replace(/\.gguf$/, ""), bytes: size, words: "From the server of this page.", source: new URL(`models/${name}`, location.href),
  }));
  return [...local, ...OFFERS];
}

/** The largest offer that is smaller than `bytes`. */
export function smaller(all: Offer[], bytes: number): Offer | undefined {
  return all.filter((offer) => offer.bytes < 0.9 * bytes).sort((a, b) => b.bytes - a.bytes)[0];
}

/** What a person types: an address, or `owner/repo/file.gguf` on the hub. */
export function parseSource(text: string): Source | undefined {
  const trimmed = text.trim();
  const onHub = trimmed.match(/^(?:https:\/\/huggingface\.co\/)?([\w.-]+\/[\w.-]+)\/(?:(?:resolve|blob)\/[\w.-]+\/)?([^?\s]+\.gguf)$/);
  if (onHub) return hub(onHub[1]!, onHub[2]!);
  return URL.canParse(trimmed) ? new URL(trimmed) : undefined;
}
