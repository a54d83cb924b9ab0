// What the settings dialog holds, kept in this browser (localStorage).

export interface Settings {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repeatPenalty: number;
  /** Empty: another one each time. */
  seed: string;
  maxTokens: number;
  /** Left out: what the model takes by itself. */
  context?: number | undefined;
  kv: string;
  system: string;
}

const DEFAULTS: Settings = {
  temperature: 0.7, topK: 40, topP: 0.95, minP: 0.05, repeatPenalty: 1, seed: "", maxTokens: 1024, kv: "f16", system: "",
};

/** What numbers may be. */
export const LIMITS: Record<"temperature" | "topK" | "topP" | "minP" | "repeatPenalty" | "maxTokens" | "context" | "seed", { min: number; max: number; step: number }> = {
  temperature: { min: 0, max: 2, step: 0.05 },
  topK: { min: 0, max: 1_000_000, step: 1 },
  topP: { min: 0.01, max: 1, step: 0.01 },
  minP: { min: 0, max: 1, step: 0.01 },
  repeatPenalty: { min: 0.5, max: 2, step: 0.01 },
  maxTokens: { min: 1, max: 1_000_000, step: 1 },
  context: { min: 64, max: 16_777_216, step: 1 },
  // What a number of JavaScript holds exactly; the engine takes twice as many bits.
  seed: { min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 },
};
/** How keys and values can be held, and what that is called. */
export const KV: [string, string][] = [["f16", "f16"], ["q8_0", "q8_0, half"], ["q4_0", "q4_0, a quarter"]];
const MAX_SYSTEM = 100_000;

/** The settings that are kept, each as near to what is there as it may be: an older version, or anybody, may have written it. */
export function settings(): Settings {
  const found = recall<Record<string, unknown>>("settings");
  const kept = typeof found === "object" && !Array.isArray(found) ? found : {};
  const number = (name: keyof typeof LIMITS) => (typeof kept[name] === "number" && Number.isFinite(kept[name]) ? within(name, kept[name]) : undefined);
  const numbers = ["temperature", "topK", "topP", "minP", "repeatPenalty", "maxTokens"] as const;
  return {
    ...DEFAULTS,
    ...Object.fromEntries(numbers.map((name) => [name, number(name) ?? DEFAULTS[name]])),
    context: number("context"),
    seed: soundSeed(kept.seed),
    kv: KV.find(([name]) => name === kept.kv)?.[0] ?? DEFAULTS.kv,
    system: typeof kept.system === "string" ? kept.system.slice(0, MAX_SYSTEM) : DEFAULTS.system,
  };
}

/** The nearest value that a setting may have. */
export function within(name: keyof typeof LIMITS, value: number): number {
  const { min, max, step } = LIMITS[name];
  const steps = Math.round((Math.min(max, Math.max(min, value)) - min) / step);
  return Number((min + steps * step).toFixed(4));
}

/** Digits that are a number which the engine takes, or nothing. */
function soundSeed(seed: unknown): string {
  return typeof seed === "string" && /^\d+$/.test(seed) && Number(seed) <= LIMITS.seed.max ? String(Number(seed)) : "";
}

/** Something small out of the browser's memory; nothing where that is forbidden or unreadable. */
export function recall<T>(key: string): T | undefined {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}

/** Whether it could be remembered. */
export function remember(key: string, value: unknown): boolean {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
