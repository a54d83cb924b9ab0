// The settings: how tokens are chosen, what the model is told first, how the page looks.

import { announce, byId, h, setTheme, theme } from "./page.js";
import { KV, LIMITS, remember, settings } from "./settings.js";

const NUMBERS: ["temperature" | "topK" | "topP" | "minP" | "repeatPenalty" | "maxTokens", string, string][] = [
  ["temperature", "Temperature", "0 always takes the most probable word"],
  ["topK", "Top-k", "0: all"],
  ["topP", "Top-p", "1: all"],
  ["minP", "Min-p", "0: all"],
  ["repeatPenalty", "Repeat penalty", "1: none"],
  ["maxTokens", "Longest answer", "tokens"],
];

/** `context` is that of the model that is loaded. */
export function openOptions(context?: number): void {
  const dialog = byId<HTMLDialogElement>("options");
  const now = settings();
  const field = (name: string, label: string, words: string, input: HTMLElement, wide = false) => {
    if (words) input.setAttribute("aria-describedby", `about-${name}`);
    return h("div", { className: wide ? "wide" : "" }, h("label", { for: `option-${name}` }, label), input, h("small", { className: "soft", id: `about-${name}` }, words));
  };
  const number = (name: keyof typeof LIMITS, value: unknown, required = true) => {
    const { min, max, step } = LIMITS[name];
    return h("input", { type: "number", id: `option-${name}`, name, required, value: String(value ?? ""), min: String(min), max: String(max), step: String(step), inputMode: "decimal" });
  };
  const choice = (name: string, values: [string, string][], value: string) => h("select", { id: `option-${name}`, name },
    ...values.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  const form = h("form", { method: "dialog", onsubmit: () => {
    const data = new FormData(form);
    const text = (name: string) => String(data.get(name));
    const next = { ...now, seed: text("seed") && String(Number(text("seed"))), system: text("system"), kv: text("kv"), context: Number(text("context")) || undefined };
    const kept = remember("settings", Object.assign(next, Object.fromEntries(NUMBERS.map(([name]) => [name, Number(data.get(name))]))));
    setTheme(text("theme"));
    announce(kept ? "Settings kept" : "This browser keeps no settings here");
  } },
    h("h2", { id: "options-title" }, "Settings"),
    h("div", { className: "fields" },
      ...NUMBERS.map(([name, label, words]) => field(name, label, words, number(name, now[name]))),
      field("context", "Context", `tokens, for the next model loaded; empty: as the model has it${context ? `. The loaded model has ${context} tokens` : ""}`,
        number("context", now.context, false)),
      field("seed", "Seed", "empty: another each time", number("seed", now.seed, false)),
      field("kv", "Keys and values", "for the next model loaded", choice("kv", KV, now.kv)),
      field("theme", "Colours", "", choice("theme", [["auto", "System"], ["light", "Light"], ["dark", "Dark"]], theme())),
      field("system", "What the model is told first", "", h("textarea", { id: "option-system", name: "system", value: now.system, rows: 3 }), true)),
    h("div", { className: "buttons" }, h("button", { className: "main" }, "Keep"), h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  dialog.replaceChildren(form);
  dialog.showModal();
}
