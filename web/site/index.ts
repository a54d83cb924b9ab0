// The chat page: the model, the conversations in the drawer, and the line to write on.

import type { Engine, Session } from "../ts/index.js";
import * as pocketlm from "../ts/index.js";
import { chats, deleteChat, newChat, readChat, restoreChat, type Chat } from "./chats.js";
import { abandon, choose } from "./choose.js";
import { answerWith, halt, notKept, openChat, send, shownId, stop } from "./conversation.js";
import { openOptions } from "./options.js";
import { announce, begin, byId, closeDrawer, h, offerUndo, problem, touched } from "./page.js";
import { recall, remember } from "./settings.js";

let engine: Engine | undefined;
let session: Session | undefined;
let context: number | undefined;

const prompt = byId<HTMLTextAreaElement>("prompt");

function setEngine(next: Engine | undefined, name = "", nTokens?: number): void {
  // Another model's memory, where two loads ended one after the other.
  if (engine !== next) engine?.dispose();
  engine = next;
  context = nTokens;
  session = next?.session({ context });
  answerWith(session);
  byId("model").textContent = next ? name : "no model";
  prompt.disabled = !next;
  prompt.placeholder = next ? "Message" : "Choose a model first";
  byId<HTMLButtonElement>("send").disabled = !next;
  if (next?.info.key) remember("model", { key: next.info.key, name });
  if (next && !touched()) prompt.focus();
}

/** Back to the choice; the model on the GPU, or the one on its way, makes way. */
async function change(): Promise<void> {
  abandon();
  setEngine(undefined);
  await choose(setEngine);
  byId("choose").querySelector<HTMLElement>("h1")?.focus();
}

function say(): void {
  const content = prompt.value.trim();
  if (!content || !session) return;
  prompt.value = "";
  void send(content);
}

/** What the list shows: a button that is made anew under a finger is not pressed. */
let listed = "";

async function listChats(): Promise<void> {
  const list = byId("chats");
  const all = await chats().catch(() => []);
  const entries = JSON.stringify([shownId(), ...all.map(({ id, title }) => [id, title])]);
  if (entries === listed) return;
  listed = entries;
  const focused = [...list.querySelectorAll("button")].indexOf(document.activeElement as HTMLButtonElement);
  list.replaceChildren(...all.map(({ id, title }) => h("li", { "aria-current": id === shownId() ? "true" : undefined },
    h("button", { onclick: () => void open(id) }, h("span", {}, title)),
    h("button", { className: "quiet icon", "aria-label": `Delete the conversation ${title}`, onclick: () => void forget(id) }, "×"))));
  // Whoever deletes one after another, or looks through them, stays where they were.
  if (focused >= 0) (list.querySelectorAll("button")[focused] ?? byId("new")).focus();
}

/** The conversation that was picked last. */
let picked: string | undefined;

/** As it is now, with the end of the answer that comes to it: the list may be older. */
async function open(id: string): Promise<void> {
  picked = id;
  if (id === shownId()) return closeDrawer();
  await halt();
  const chat = await readChat(id).catch(() => undefined);
  if (picked !== id) return;
  if (!chat) return await listChats();
  openChat(chat);
  closeDrawer();
}

function openNew(): void {
  picked = undefined;
  openChat(newChat());
}

async function forget(id: string): Promise<void> {
  let chat: Chat | undefined;
  try {
    chat = await deleteChat(id);
  } catch (error) {
    byId("kept").replaceChildren(notKept(error));
    return closeDrawer();
  }
  // Another may have been opened meanwhile, or this one.
  const shown = id === shownId();
  if (shown) openNew();
  else await listChats();
  if (chat) offerUndo(`“${chat.title}” is deleted`, () => void restore(chat, shown));
}

async function restore(chat: Chat, show: boolean): Promise<void> {
  try {
    await restoreChat(chat);
  } catch (error) {
    byId("kept").replaceChildren(notKept(error));
    return offerUndo(`“${chat.title}” is deleted`, () => void restore(chat, show));
  }
  announce(`“${chat.title}” is back`);
  if (show) await open(chat.id);
  else await listChats();
}

/** The model that was used last, if all of it is here. */
async function lastModel(): Promise<{ key: string; name: string } | undefined> {
  const last = recall<{ key: string; name: string }>("model");
  const stored = await pocketlm.models.list().catch(() => []);
  return stored.some((model) => model.key === last?.key && model.complete && !model.damaged) ? last : undefined;
}

addEventListener("conversation", () => void listChats());
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  say();
});
prompt.addEventListener("keydown", (event) => {
  // On a phone's keyboard the same key makes a new line.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || touched()) return;
  event.preventDefault();
  say();
});
byId("stop").addEventListener("click", stop);
byId("new").addEventListener("click", () => {
  openNew();
  closeDrawer();
});
byId("model").addEventListener("click", () => void change());
byId("settings").addEventListener("click", () => openOptions(context));
// Firefox brings back after a reload what could be used before it.
setEngine(undefined);
const usable = begin();
const latest: Chat | undefined = await chats().then((all) => all[0], (error) => {
  byId("kept").replaceChildren(notKept(error));
  return undefined;
});
try {
  openChat(latest ?? newChat());
} catch (error) {
  // One that cannot be shown is no reason to have no model.
  openNew();
  byId("kept").replaceChildren(problem(error));
}
if (usable) {
  const last = await lastModel();
  await choose(setEngine, last && { name: last.name, source: { key: last.key } });
} else byId("model").hidden = true;
// For tests, and for the curious.
Object.assign(globalThis, { pocketlm, session: () => session });
