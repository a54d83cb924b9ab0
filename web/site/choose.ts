// Choosing a model: what is here, what is on offer, a file, an address; and the progress of loading it.

import { Engine, PocketError, models, type Progress, type Source, type StoredModel } from "../ts/index.js";
import { addressOf, firstChoice, offers, parseSource, sizeThere, smaller, type Offer } from "./catalogue.js";
import { announce, byId, confirmed, h, problem, timeText } from "./page.js";
import { settings } from "./settings.js";

const size = models.bytesText;

/** Called with an engine once one is loaded, and the context that its sessions get. */
type Loaded = (engine: Engine, name: string, context: number) => void;

/** What a person has picked; `bytes` is what they were told. */
interface Pick {
  name: string;
  source: Source;
  bytes?: number | undefined;
}

/** Shows the choice; or, where there is a model to go on with, loads that. */
export async function choose(loaded: Loaded, last?: Pick): Promise<void> {
  if (last) return await load(last, loaded);
  const place = byId("choose");
  const [stored, all, room] = await Promise.all([models.list().catch(() => []), offers(), models.storage().catch(() => undefined)]);
  const pick = (picked: Pick) => void load(picked, loaded);
  // One that is damaged can be had anew.
  const urls = new Set(stored.filter(({ damaged }) => !damaged).map((model) => model.url));
  const offered = all.filter((offer) => !urls.has(addressOf(offer.source) ?? ""));
  const best = stored.some(({ damaged }) => !damaged) ? undefined : offered.find(({ name }) => name === firstChoice());
  const rest = offered.filter((offer) => offer !== best);
  place.replaceChildren(
    h("h1", { tabIndex: -1 }, "A language model on your own device"),
    h("p", { className: "soft" }, "Download a model once, then chat, also offline. What you write never leaves this device."),
    ...(stored.length ? [h("h2", {}, "On this device"), ...stored.map((model) => storedCard(model, pick, loaded))] : []),
    ...(best ? [h("h2", {}, "Start here"), offerCard(best, pick, true)] : []),
    h("h2", {}, "More models"),
    ...rest.map((offer) => offerCard(offer, pick)),
    ownModel(pick),
    ...(room ? [h("p", { className: "soft" }, h("small", {}, `This site uses ${size(room.usage)} of this device's storage and may use ${size(Math.max(0, room.quota - room.usage))} more.${room.persisted ? "" : " The browser may delete models when the device runs short."}`))] : []),
  );
}

function storedCard(model: StoredModel, pick: (picked: Pick) => void, loaded: Loaded): HTMLElement {
  const remove = async () => {
    // What is damaged is no loss.
    const again = model.url.startsWith("file:") ? "To use it again you need its file." : `To use it again, ${size(model.size)} have to be downloaded.`;
    if (!model.damaged && !(await confirmed(`Delete ${model.name}?`, again, "Delete"))) return;
    const error = await models.remove(model.key).then(() => undefined, (error) => error);
    await choose(loaded);
    const place = byId("choose");
    if (error) place.prepend(problem(error));
    else announce(`${model.name} is deleted`);
    place.querySelector<HTMLElement>("h1")!.focus();
  };
  const verb = model.complete ? "Start" : "Resume";
  const state = model.damaged ? `${size(model.storedBytes)}, damaged and of no use any more: ${model.damaged}`
    : model.complete ? `${size(model.size)}, ready to use` : `${size(model.storedBytes)} of ${size(model.size)} have come`;
  return h("div", { className: "card row" },
    h("div", {}, h("h3", {}, model.name), h("small", {}, state)),
    h("button", { className: "quiet bad", "aria-label": `Delete ${model.name}`, onclick: () => void remove() }, "Delete"),
    model.damaged ? undefined : h("button", { className: "main", "aria-label": `${verb} ${model.name}`, onclick: () => pick({ name: model.name, source: { key: model.key }, bytes: model.size }) }, verb));
}

function offerCard(offer: Offer, pick: (picked: Pick) => void, best = false): HTMLElement {
  const { name, bytes, words } = offer;
  return h("div", { className: `card row ${best ? "notice" : ""}` },
    h("div", {}, h("h3", {}, name), h("small", {}, words)),
    h("button", { className: best ? "main" : "", "aria-label": `Download ${name}, ${size(bytes)}`, onclick: () => pick(offer) },
      h("span", {}, "Download", h("small", {}, size(bytes)))));
}

/** For those who know what they want. */
function ownModel(pick: (picked: Pick) => void): HTMLElement {
  const file = h("input", { type: "file", accept: ".gguf", hidden: true, id: "file", onchange: () => {
    const chosen = file.files?.[0];
    if (chosen) pick({ name: chosen.name, source: chosen, bytes: chosen.size });
  } });
  const wrong = h("div", {});
  const address = h("input", { id: "address", placeholder: "owner/repo/model.gguf", autocomplete: "off", spellcheck: false, inputMode: "url" });
  const form = h("form", { onsubmit: (event: Event) => {
    event.preventDefault();
    const source = parseSource(address.value);
    if (source) pick({ name: address.value.trim().split("/").pop()!, source });
    else wrong.replaceChildren(problem(new PocketError("invalid", "this is no address of a model", "give one that begins with https://, or owner/repo/file.gguf as on Hugging Face")));
  } },
    h("label", { for: "address" }, "A file on Hugging Face, or any address"),
    h("div", { className: "pair" }, address, h("button", {}, "Download")), wrong);
  return h("details", { className: "card" }, h("summary", {}, "Use a model of your own (GGUF)"),
    h("div", { className: "buttons" }, h("button", { onclick: () => file.click() }, "Open a file"), file), form);
}

/** The load that is under way: another one takes its place. */
let loading: AbortController | undefined;

/** Gives up the load that is under way, for something else to be shown in its place. */
export function abandon(): void {
  loading?.abort();
  loading = undefined;
}

async function load(picked: Pick, loaded: Loaded): Promise<void> {
  const { name, source } = picked;
  const place = byId("choose");
  const bar = h("progress", { max: 1, "aria-label": `Loading ${name}` });
  const words = h("p", { className: "soft", id: "progress" }, "Starting");
  loading?.abort();
  const abort = (loading = new AbortController());
  const show = (...children: HTMLElement[]) => place.replaceChildren(h("h1", { tabIndex: -1 }, `Loading ${name}`), h("div", { className: "card" }, ...children,
    h("div", { className: "buttons" }, h("button", { onclick: () => abort.abort() }, "Cancel"))));
  show(bar, words);
  if (document.activeElement === document.body) place.querySelector("button")!.focus();
  announce(`Loading ${name}`);
  const onProgress = (progress: Progress) => {
    const { doneBytes, totalBytes } = progress;
    if (totalBytes > 0) bar.value = doneBytes / totalBytes;
    else bar.removeAttribute("value");
    words.textContent = sentence(progress);
  };
  try {
    await agree(picked, abort.signal, show);
    show(bar, words);
    const { engine, context } = await open(source, { onProgress, signal: abort.signal });
    if (abort.signal.aborted) return engine.dispose();
    place.replaceChildren(h("h1", { className: "unseen" }, `Chat with ${name}`));
    announce(`${name} is ready`);
    loaded(engine, name, context);
  } catch (error) {
    // Whoever began another load looks at that one now.
    if (loading !== abort) return;
    await choose(loaded);
    place.querySelector<HTMLElement>("h1")!.focus();
    if (abort.signal.aborted) return;
    const { code } = error as PocketError;
    const other = code === "too-large" || code === "quota" ? smaller(await offers(), picked.bytes ?? Infinity) : undefined;
    place.prepend(problem(error, other && h("button", { className: "main", onclick: () => void load(other, loaded) }, `Download ${other.name} instead, ${size(other.bytes)}`)));
  }
}

/** Where the server has another size than the person was told, or they were told none: asks whether they want that. */
async function agree({ source, bytes }: Pick, signal: AbortSignal, show: (...children: HTMLElement[]) => void): Promise<void> {
  const address = addressOf(source);
  const there = address && (await sizeThere(address, signal));
  signal.throwIfAborted();
  if (!there || (bytes && Math.abs(there - bytes) < 0.02 * bytes)) return;
  await new Promise<void>((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
    const yes = h("button", { className: "main", onclick: () => resolve() }, `Download ${size(there)}`);
    show(h("p", {}, bytes ? `The server now has a file of ${size(there)}, not of ${size(bytes)}.` : `This is a file of ${size(there)}.`), yes);
    yes.focus();
  });
}

/** Loads with the context that was asked for, as far as the model has it and the device can hold it. */
async function open(source: Source, options: { onProgress: (progress: Progress) => void; signal: AbortSignal }): Promise<{ engine: Engine; context: number }> {
  const { context, kv } = settings();
  const load = async (context?: number) => {
    const engine = await Engine.load(source, { ...options, context, kv });
    // The setting may be meant for another model.
    return { engine, context: Math.min(context ?? engine.info.context, engine.info.modelContext) };
  };
  try {
    return await load(context);
  } catch (error) {
    const { fits } = error as PocketError;
    if (!fits) throw error;
    return await load(fits);
  }
}

function sentence({ phase, doneBytes, totalBytes, secondsLeft }: Progress): string {
  const part = `${size(doneBytes)} of ${size(totalBytes)}`;
  switch (phase) {
    case "waiting": return "Another tab is fetching it; this one takes it over when it is here";
    case "downloading": return `${part}${secondsLeft === undefined ? "" : `, ${timeText(secondsLeft)} left`}`;
    case "reconnecting": return `${part}; the connection broke, trying again`;
    case "uploading": return `To the graphics processor: ${part}`;
    default: return "Starting";
  }
}
