// Choosing a model: what is here, what is on offer, a file, an address; and the progress of loading it.

import { Engine, PocketError, models, type Progress, type Source } from "../ts/index.js";
import { offers, parseSource, smaller, type Offer } from "./catalogue.js";
import { settings } from "./chats.js";
import { announce, byId, h, problem, timeText } from "./page.js";

const size = models.bytesText;

/** Called with an engine once one is loaded. */
type Loaded = (engine: Engine, name: string) => void;

/** Shows the choice; or, where there is a model to go on with, loads that. */
export async function choose(loaded: Loaded, last?: { name: string; source: Source }): Promise<void> {
  if (last) return await load(last.name, last.source, loaded, []);
  const place = byId("choose");
  const [stored, all, room] = await Promise.all([models.list().catch(() => []), offers(), models.storage().catch(() => undefined)]);
  const pick = (name: string, source: Source, bytes?: number) => void load(name, source, loaded, all, bytes);
  const urls = new Set(stored.map((model) => model.url));
  const here = stored.map((model) => h("div", { className: "card row" },
    h("div", {},
      h("h3", {}, model.name),
      h("small", {}, model.complete ? `${size(model.size)}, on this device` : `${size(model.storedBytes)} of ${size(model.size)} are here`)),
    h("button", { className: "quiet bad", "aria-label": `Delete ${model.name}`, onclick: async () => {
      await models.remove(model.key).catch((error) => place.prepend(problem(error)));
      await choose(loaded);
    } }, "Delete"),
    h("button", { className: "main", "aria-label": `Load ${model.name}`, onclick: () => pick(model.name, { key: model.key }, model.size) }, model.complete ? "Load" : "Resume")));
  const offered = all.filter((offer) => !urls.has(addressOf(offer.source))).map((offer) => h("div", { className: "card row" },
    h("div", {}, h("h3", {}, offer.name), h("small", {}, `${size(offer.bytes)}. ${offer.words}`)),
    h("button", { "aria-label": `Load ${offer.name}`, onclick: () => pick(offer.name, offer.source, offer.bytes) }, "Load")));
  const file = h("input", { type: "file", accept: ".gguf", hidden: true, id: "file", onchange: () => {
    const chosen = file.files?.[0];
    if (chosen) pick(chosen.name, chosen, chosen.size);
  } });
  const address = h("input", { id: "address", placeholder: "owner/repo/model.gguf", autocomplete: "off", spellcheck: false, inputMode: "url" });
  const byAddress = h("form", { className: "card", onsubmit: (event: Event) => {
    event.preventDefault();
    const source = parseSource(address.value);
    if (source) pick(address.value.split("/").pop()!, source);
    else byAddress.after(problem(new PocketError("invalid", "this is no address of a model", "give an address, or owner/repo/file.gguf as on Hugging Face")));
  } },
    h("label", { for: "address" }, h("h3", {}, "From Hugging Face or any address")),
    h("div", { className: "pair" }, address, h("button", {}, "Load")));
  place.replaceChildren(
    h("h1", {}, "A language model on your own device"),
    h("p", { className: "soft" }, "What you write stays in this browser. A model is downloaded once; then it works offline."),
    ...(here.length ? [h("h2", {}, "On this device"), ...here] : []),
    h("h2", {}, here.length ? "More models" : "Choose a model"),
    ...offered,
    byAddress,
    h("div", { className: "buttons" }, h("button", { onclick: () => file.click() }, "Open a GGUF file"), file),
    room ? h("p", { className: "soft" }, h("small", {}, `${size(room.usage)} in use, ${size(Math.max(0, room.quota - room.usage))} more for this site${room.persisted ? "" : "; the browser may delete models when the device runs short"}.`)) : undefined!,
  );
}

function addressOf(source: Source): string {
  if (source instanceof URL) return source.href;
  if (typeof source === "object" && "repo" in source) return `https://huggingface.co/${source.repo}/resolve/main/${source.file}`;
  return "";
}

/** The load that is under way: another one takes its place. */
let loading: AbortController | undefined;

async function load(name: string, source: Source, loaded: Loaded, all: Offer[], bytes = Infinity): Promise<void> {
  const place = byId("choose");
  const bar = h("progress", { max: 1, "aria-label": `Loading ${name}` });
  const words = h("p", { className: "soft", id: "progress" }, "Starting");
  loading?.abort();
  const abort = (loading = new AbortController());
  place.replaceChildren(h("h1", {}, `Loading ${name}`), h("div", { className: "card" }, bar, words,
    h("div", { className: "buttons" }, h("button", { onclick: () => abort.abort() }, "Cancel"))));
  announce(`Loading ${name}`);
  const onProgress = (progress: Progress) => {
    const { doneBytes, totalBytes } = progress;
    if (totalBytes > 0) bar.value = doneBytes / totalBytes;
    else bar.removeAttribute("value");
    words.textContent = sentence(progress);
  };
  try {
    const { context, kv } = settings();
    const engine = await Engine.load(source, { onProgress, signal: abort.signal, context, kv });
    if (abort.signal.aborted) return engine.dispose();
    place.replaceChildren();
    announce(`${name} is ready`);
    loaded(engine, name);
  } catch (error) {
    // Whoever began another load looks at that one now.
    if (loading !== abort) return;
    await choose(loaded);
    all = all.length ? all : await offers();
    if ((error as Error).name === "AbortError") return;
    const other = (error as PocketError).code === "too-large" || (error as PocketError).code === "quota" ? smaller(all, bytes) : undefined;
    place.prepend(problem(error, other && h("button", { className: "main", onclick: () => void load(other.name, other.source, loaded, all, other.bytes) }, `Load ${other.name} instead`)));
  }
}

function sentence({ phase, doneBytes, totalBytes, secondsLeft }: Progress): string {
  const part = `${size(doneBytes)} of ${size(totalBytes)}`;
  switch (phase) {
    case "waiting": return "Another tab is fetching it; this one takes it over when it is here";
    case "downloading": return `${part}${secondsLeft === undefined ? "" : `, ${timeText(secondsLeft)} left`}`;
    case "reconnecting": return `${part}; the connection broke, trying again`;
    case "uploading": return `To the GPU: ${part}`;
    default: return "Starting";
  }
}
