// Test this GPU: prompt and decode speed of a model's shape, and each of its kernels against what the device can do.
// The weights are random and made on the device: nothing is downloaded.

import { PocketError, adapters, bench, kernels, shapes, type AdapterReport, type Measured } from "../ts/index.js";
import { announce, begin, byId, h, problem, timeText } from "./page.js";

/** Shapes to begin with, the first that fits. */
const FIRST = ["phi-3-mini", "qwen2.5-1.5b", "smollm2-135m"];

begin();
const content = byId("content");
const result = h("div", {});
let abort: AbortController | undefined;
let last: Measured | undefined;

try {
  await show();
} catch (error) {
  content.append(problem(error));
}

async function show(): Promise<void> {
  const [found, names] = await Promise.all([adapters(), shapes()]);
  const adapter = found[0];
  if (!adapter) throw new PocketError("no-adapter", "this browser offers no WebGPU here", "a newer one may, and so may its settings for graphics");
  const software = adapter.kind === "software";
  const first = software ? names.find((name) => name.startsWith("smollm2")) : FIRST.find((name) => names.includes(name));
  const shape = h("select", { id: "shape" }, ...names.map((name) => h("option", { value: name, selected: name === first }, name)));
  const thorough = h("input", { type: "checkbox", id: "thorough", checked: !software });
  const start = (name: string, run: (shape: string) => Promise<Measured & { html?: string }>) =>
    h("button", { className: "main start", onclick: () => void measure(name, run, shape.value, names) }, name);
  const size = software ? { prompt: 16, n: 8, rounds: 2 } : { prompt: 512, n: 128, rounds: 5 };
  content.append(
    h("p", { className: "soft" }, "Measures how fast this browser and GPU run a language model, with random weights of a published model's shape. Nothing is downloaded, and nothing leaves the page unless you share it."),
    h("div", { className: "card" }, h("h2", {}, adapter.name || "A GPU without a name"), h("p", { className: "soft" }, abilities(adapter)),
      h("div", { className: "fields" },
        h("div", {}, h("label", { for: "shape" }, "Shape"), shape),
        h("label", { className: "check" }, thorough, " take a minute or two, and be surer")),
      h("div", { className: "buttons" },
        start("Measure speed", (shape) => bench({ shape }, { ...size, ...(thorough.checked ? {} : { rounds: 2 }), ...heard() })),
        start("Measure kernels", (shape) => kernels({ shape }, { prompt: size.prompt, quick: !thorough.checked, ...heard() })))),
    result);
}

function abilities(adapter: AdapterReport): string {
  const { subgroups, subgroup_size, f16, timestamps, max_binding_bytes, max_buffer_bytes } = adapter;
  const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
  return `${adapter.kind}, subgroups ${subgroups ? `of ${[...new Set(subgroup_size)].join(" to ")}` : "none"}, f16 ${f16 ? "yes" : "no"}, timestamps ${timestamps ? "yes" : "no"}, bindings up to ${mib(max_binding_bytes)}, buffers up to ${mib(max_buffer_bytes)}`;
}

const bar = h("progress", { max: 1, "aria-label": "Measuring" });
const words = h("p", { className: "soft" });

function heard() {
  abort = new AbortController();
  const begun = performance.now();
  const onProgress = ({ what, share }: { what: string; share: number }) => {
    bar.value = share;
    words.textContent = `${what}, ${Math.round(100 * share)} %, ${timeText((performance.now() - begun) / 1000)} so far`;
  };
  return { signal: abort.signal, onProgress };
}

async function measure(name: string, run: (shape: string) => Promise<Measured & { html?: string }>, shape: string, names: string[]): Promise<void> {
  const buttons = document.querySelectorAll<HTMLButtonElement>("button.start");
  for (const button of buttons) button.disabled = true;
  bar.removeAttribute("value");
  words.textContent = `Making a model of the shape ${shape}`;
  result.replaceChildren(h("div", { className: "card" }, bar, words, h("button", { onclick: () => abort?.abort() }, "Stop")));
  try {
    const found = (last = await run(shape));
    result.replaceChildren(h("h2", {}, `${name}: ${shape}`), sharing(found, shape), shown(found));
    announce("Measured");
  } catch (error) {
    const next = FIRST[FIRST.indexOf(shape) + 1];
    const fits = (error as PocketError).code === "too-large" && next && names.includes(next) ? next : undefined;
    if ((error as Error).name === "AbortError") result.replaceChildren();
    else result.replaceChildren(problem(error, fits && h("button", { className: "main", onclick: () => void measure(name, run, fits, names) }, `Measure ${fits} instead`)));
  }
  for (const button of buttons) button.disabled = false;
}

function sharing({ report, text, html }: Measured & { html?: string }, shape: string): HTMLElement {
  const json = JSON.stringify(report, null, 2);
  const save = (name: string, content: string, type: string) => {
    const url = URL.createObjectURL(new Blob([content], { type }));
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  return h("div", { className: "buttons sharing" },
    h("button", { onclick: () => void navigator.clipboard.writeText(text) }, "Copy as text"),
    h("button", { onclick: () => save(`${shape}.json`, json, "application/json") }, "Save JSON"),
    html ? h("button", { onclick: () => save(`${shape}.html`, html, "text/html") }, "Save the page") : undefined,
    "share" in navigator ? h("button", { onclick: () => void navigator.share({ title: `pocketlm: ${shape}`, text }).catch(() => undefined) }, "Share") : undefined);
}

/** The page of plots in a frame that runs no script, as tall as what is in it; or the table. */
function shown({ report, html }: Measured & { html?: string }): HTMLElement {
  if (!html) return speeds(report);
  const frame = h("iframe", { title: "The report", srcdoc: html, className: "report", onload: () => {
    frame.style.height = `${frame.contentDocument!.documentElement.scrollHeight + 20}px`;
  } });
  frame.setAttribute("sandbox", "allow-same-origin");
  return frame;
}

/** What bench found, a row for each test. */
function speeds(report: Measured["report"]): HTMLElement {
  const names: Record<string, string> = { pp: "prompt of", tg: "decode" };
  const row = ({ test, n_tokens, depth, median, low, high, first_token_s, bandwidth_share, per_step }: Record<string, any>) => h("tr", {},
    h("td", {}, h("strong", {}, `${names[String(test).slice(0, 2)] ?? test} ${n_tokens}${depth ? ` at ${depth}` : ""}`),
      h("div", {}, h("small", { className: "soft" }, [
        first_token_s == null ? "" : `first token after ${first_token_s.toFixed(2)} s`,
        bandwidth_share == null ? "" : `${Math.round(100 * bandwidth_share)} % of a copy's bandwidth`,
        `${per_step.dispatches} dispatches`,
      ].filter(Boolean).join(", ")))),
    h("td", { className: "n" }, h("strong", {}, median.toFixed(1)), h("div", {}, h("small", { className: "soft" }, `${low.toFixed(1)} to ${high.toFixed(1)}`))));
  return h("div", {},
    h("table", { className: "figures" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Test"), h("th", { scope: "col", className: "n" }, "Tokens/s"))),
      h("tbody", {}, ...report.rows.map(row))),
    ...(report.warnings ?? []).map((warning: string) => h("p", { className: "card notice" }, warning)));
}
// For tests.
Object.assign(globalThis, { measured: () => last });
