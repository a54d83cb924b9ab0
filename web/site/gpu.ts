// Test this GPU: prompt and decode speed of a model's shape, and each of its kernels against what the device can do.
// The weights are random and made on the device: nothing is downloaded.

import { PocketError, adapters, bench, kernels, shapes, type AdapterReport, type Measured } from "../ts/index.js";
import { memoryGb, phone } from "./device.js";
import { announce, begin, byId, copy, h, problem, timeText } from "./page.js";
import { fromLink, toLink, type Shared } from "./share.js";

/** Shapes to begin with, largest first; one that does not fit makes way for the next. `gb`: memory of a device that holds it
 * beside everything else. */
const LADDER = [{ shape: "phi-3-mini", gb: 8 }, { shape: "qwen2.5-1.5b", gb: 4 }, { shape: "smollm2-135m", gb: 0 }];
/** Such a binding is what the largest matrices of billions of weights take. */
const LARGE_BINDING_BYTES = 256 << 20;

/** A result, and what it is of. */
interface Result extends Measured {
  name: string;
  shape: string;
  html?: string | undefined;
}

const content = byId("content");
const result = h("div", {});
const bar = h("progress", { max: 1, "aria-label": "Measuring" });
const words = h("p", { className: "soft" });
let abort: AbortController | undefined;
let last: Result | undefined;

content.append(h("p", { className: "soft" }, "Measures how fast this browser and GPU run a language model, with random weights of a published model's shape. Nothing is downloaded, and nothing leaves this device unless you share it."));
const usable = begin();
await showShared();
addEventListener("hashchange", () => void showShared());
if (usable) await show().catch((error) => content.append(problem(error)));
content.append(result);

async function show(): Promise<void> {
  const [found, names] = await Promise.all([adapters(), shapes()]);
  const adapter = found[0];
  // Why there is none is said above.
  if (!adapter) return;
  const software = adapter.kind === "software";
  const first = firstShape(adapter);
  const shape = h("select", { id: "shape" }, ...names.map((name) => h("option", { value: name, selected: name === first }, name)));
  const thorough = h("input", { type: "checkbox", id: "thorough", checked: !software });
  const start = (name: string, run: (shape: string) => Promise<Measured & { html?: string }>) =>
    h("button", { className: "main start", onclick: () => void measure(name, run, shape.value) }, name);
  const size = software ? { prompt: 16, n: 8, rounds: 2 } : { prompt: 512, n: 128, rounds: 5 };
  content.append(
    h("div", { className: "card" }, h("h2", {}, adapter.name || "A GPU without a name"), h("p", { className: "soft" }, abilities(adapter)),
      h("div", { className: "fields" },
        h("div", {}, h("label", { for: "shape" }, "Shape"), shape),
        h("label", { className: "check wide" }, thorough, "take a minute or two, and be surer")),
      h("div", { className: "buttons" },
        start("Measure speed", (shape) => bench({ shape }, { ...size, ...(thorough.checked ? {} : { rounds: 2 }), ...heard() })),
        start("Measure kernels", (shape) => kernels({ shape }, { prompt: size.prompt, quick: !thorough.checked, ...heard() })))));
}

/** The largest that the device is likely to hold. A phone's memory is the system's, which ends pages that take much of it. */
function firstShape({ kind, max_binding_bytes }: AdapterReport): string {
  const least = LADDER.at(-1)!.shape;
  if (kind === "software" || max_binding_bytes < LARGE_BINDING_BYTES) return least;
  return LADDER.find(({ gb }) => (phone() ? 2 * gb : gb) <= memoryGb())?.shape ?? least;
}

function abilities(adapter: AdapterReport): string {
  const { kind, subgroups, subgroup_size, f16, timestamps, max_binding_bytes, max_buffer_bytes } = adapter;
  const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
  return `${kind}, subgroups ${subgroups ? `of ${[...new Set(subgroup_size)].join(" to ")}` : "none"}, f16 ${f16 ? "yes" : "no"}, timestamps ${timestamps ? "yes" : "no"}, bindings up to ${mib(max_binding_bytes)}, buffers up to ${mib(max_buffer_bytes)}`;
}

function heard() {
  abort = new AbortController();
  const begun = performance.now();
  const onProgress = ({ what, share }: { what: string; share: number }) => {
    bar.value = share;
    words.textContent = `${what}, ${Math.round(100 * share)} %, ${timeText((performance.now() - begun) / 1000)} so far`;
  };
  return { signal: abort.signal, onProgress };
}

async function measure(name: string, run: (shape: string) => Promise<Measured & { html?: string }>, shape: string): Promise<void> {
  const buttons = document.querySelectorAll<HTMLButtonElement>("button.start");
  for (const button of buttons) button.disabled = true;
  const stop = h("button", { onclick: () => abort?.abort() }, "Stop");
  const given = h("p", {});
  result.replaceChildren(h("div", { className: "card" }, given, bar, words, stop));
  stop.focus();
  announce(`Measuring ${shape}`);
  try {
    last = { name, ...(await fitting(shape, run, (smaller) => {
      given.textContent = `${shape} is too much for this GPU, so ${smaller} is measured instead.`;
      announce(given.textContent);
    })) };
    const heading = h("h2", { tabIndex: -1 }, `${name}: ${last.shape}`);
    result.replaceChildren(heading, ...(given.textContent ? [given] : []), sharing(last), shown(last));
    heading.focus();
    announce("Measured");
  } catch (error) {
    if ((error as Error).name === "AbortError") result.replaceChildren();
    else result.replaceChildren(problem(error));
  }
  for (const button of buttons) button.disabled = false;
  if (document.activeElement === document.body) buttons[0]?.focus();
}

/** Measures a shape, or the largest smaller one that the device holds; a phone's may be lost instead of saying no. */
async function fitting(shape: string, run: (shape: string) => Promise<Measured & { html?: string }>, told: (smaller: string) => void): Promise<Omit<Result, "name">> {
  for (;;) {
    bar.removeAttribute("value");
    words.textContent = `Making a model of the shape ${shape}`;
    try {
      return { shape, ...(await run(shape)) };
    } catch (error) {
      const index = LADDER.findIndex((rung) => rung.shape === shape);
      // Of shapes that are not on it nothing is known but that they were chosen.
      const next = index < 0 ? LADDER.at(-1) : LADDER[index + 1];
      const tooMuch = ["too-large", "device"].includes((error as PocketError).code);
      if (!tooMuch || !next || next.shape === shape) throw error;
      told((shape = next.shape));
    }
  }
}

function sharing({ name, report, text, html, shape }: Result): HTMLElement {
  const save = (file: string, content: string, type: string) => {
    const url = URL.createObjectURL(new Blob([content], { type }));
    h("a", { href: url, download: file }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  const shared: Shared = { name, shape, adapter: report.about?.adapter ?? "", ...(html ? { text } : { report }) };
  const share = async () => void navigator.share({ title: `pocketlm: ${shape}`, text, url: await toLink(shared) }).catch(() => undefined);
  return h("div", { className: "buttons sharing" },
    "share" in navigator ? h("button", { onclick: () => void share() }, "Share") : undefined,
    h("button", { onclick: async () => void copy(await toLink(shared)) }, "Copy link"),
    h("button", { onclick: () => void copy(text) }, "Copy as text"),
    h("button", { onclick: () => save(`${shape}.json`, JSON.stringify(report, null, 2), "application/json") }, "Save JSON"),
    html ? h("button", { onclick: () => save(`${shape}.html`, html, "text/html") }, "Save the page") : undefined);
}

/** A result that came with the link: a stranger's words, which are shown as text and nothing else. */
async function showShared(): Promise<void> {
  try {
    const shared = await fromLink();
    if (!shared) return;
    const body = shared.report ? speeds(shared.report) : h("pre", { className: "overflow", tabIndex: 0 }, shared.text!);
    result.replaceChildren(
      h("h2", {}, `${shared.name}: ${shared.shape}`),
      h("p", { className: "soft" }, `Somebody shared this result with you. It was measured on ${shared.adapter || "a GPU without a name"}, not on this device.`),
      body);
  } catch (error) {
    result.replaceChildren(problem(new PocketError("invalid", `the result in this page's address cannot be read: ${(error as Error).message}`, "it may have been cut: ask for the whole link")));
  }
}

/** The page of plots in a frame that runs no script, as tall as what is in it; or the table. */
function shown({ report, html }: Result): HTMLElement {
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
    ...(report.warnings ?? []).map((warning: string) => h("p", { className: "card notice" }, String(warning))));
}
// For tests.
Object.assign(globalThis, { measured: () => last });
