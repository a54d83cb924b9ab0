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

export function settings(): Settings {
  return { ...DEFAULTS, ...recall<Partial<Settings>>("settings") };
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
