// The chat page: conversations on a model that runs in this browser.

import type { Answer, Engine, Message, Session, Stats } from "../ts/index.js";
import * as pocketlm from "../ts/index.js";
import { chats, deleteChat, keepChat, newChat, settings, type Chat } from "./chats.js";
import { choose } from "./choose.js";
import { render } from "./markdown.js";
import { openOptions } from "./options.js";
import { announce, begin, byId, closeDrawer, h, problem } from "./page.js";

/** Text is drawn this often while it comes, however fast that is. */
const DRAW_MS = 80;

let engine: Engine | undefined;
let session: Session | undefined;
let chat: Chat = newChat();
let answering: AbortController | undefined;

const log = byId("messages");
const scroll = byId("scroll");
const prompt = byId<HTMLTextAreaElement>("prompt");

function setEngine(next: Engine | undefined, name = ""): void {
  // Another model's memory, where two loads ended one after the other.
  if (engine !== next) engine?.dispose();
  engine = next;
  session = next?.session();
  byId("model").textContent = next ? name : "no model";
  prompt.disabled = !next;
  prompt.placeholder = next ? "Message" : "Load a model first";
  byId<HTMLButtonElement>("send").disabled = !next;
  if (next && next.info.key) localStorage.setItem("model", JSON.stringify({ key: next.info.key, name }));
  if (next && matchMedia("(pointer: fine)").matches) prompt.focus();
}

/** Back to the choice; the model on the GPU makes way. */
async function change(): Promise<void> {
  answering?.abort();
  setEngine(undefined);
  await choose(setEngine);
}

function show(): void {
  log.replaceChildren(...chat.messages.map((message, index) => messageElement(message, index)));
  scroll.scrollTop = scroll.scrollHeight;
  void listChats();
}

function messageElement(message: Message, index: number): HTMLElement {
  const body = h("div", { className: "body" });
  if (message.role === "user") body.textContent = message.content;
  else render(body, message.content);
  const actions = message.role === "user"
    ? [action("Edit", () => edit(index))]
    : [action("Copy", () => navigator.clipboard.writeText(message.content)), action("Regenerate", () => regenerate(index))];
  return h("article", { className: `message ${message.role}`, "aria-label": message.role === "user" ? "You" : "The model" },
    body, h("div", { className: "actions" }, ...actions));
}

function action(name: string, run: () => unknown): HTMLElement {
  return h("button", { className: "quiet", onclick: () => void run() }, name);
}

/** The model answers to the conversation as it is. */
async function answer(): Promise<void> {
  if (!session || answering) return;
  const { system, seed, context: _, kv: __, ...sampling } = settings();
  answering = new AbortController();
  byId("stop").hidden = false;
  byId("send").hidden = true;
  const reply: Message = { role: "assistant", content: "" };
  const asked = [...(system ? [{ role: "system", content: system }] : []), ...chat.messages];
  chat.messages.push(reply);
  const into = chat;
  const body = h("div", { className: "body waiting" });
  const element = h("article", { className: "message assistant", "aria-label": "The model", "aria-busy": "true" }, body);
  log.append(element);
  scroll.scrollTop = scroll.scrollHeight;
  let failure: unknown;
  let running: Answer | undefined;
  try {
    running = session.generate(asked, { ...sampling, seed: seed === "" ? Math.floor(Math.random() * 2 ** 32) : Number(seed), signal: answering.signal });
    let drawn = 0;
    for await (const piece of running) {
      reply.content += piece;
      if (performance.now() - drawn < DRAW_MS) continue;
      draw(body, reply.content);
      drawn = performance.now();
    }
  } catch (error) {
    failure = error;
  }
  answering = undefined;
  byId("stop").hidden = true;
  byId("send").hidden = false;
  if (!reply.content && failure) into.messages.splice(into.messages.indexOf(reply), 1);
  await keepChat(into);
  if (into !== chat) return void listChats();
  show();
  if (failure && (failure as Error).name !== "AbortError") log.append(problem(failure, h("button", { onclick: () => void retry() }, "Try again")));
  else {
    const stats = await running!.stats.catch(() => undefined);
    if (stats) log.lastElementChild?.querySelector(".actions")?.append(h("span", { className: "rate" }, figures(stats)));
    announce(`Answer complete: ${reply.content}`);
  }
}

function draw(body: HTMLElement, text: string): void {
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  body.classList.toggle("waiting", !text);
  render(body, text);
  if (atEnd) scroll.scrollTop = scroll.scrollHeight;
}

function figures({ answerTokens, tokensPerSecond, promptSeconds, stop }: Stats): string {
  const why = stop === "max-tokens" ? ", cut at the most tokens" : stop === "context-full" ? ", the context is full" : "";
  return `${answerTokens} tokens, ${tokensPerSecond.toFixed(1)} per second, first after ${promptSeconds.toFixed(1)} s${why}`;
}

async function retry(): Promise<void> {
  show();
  await answer();
}

async function send(): Promise<void> {
  const content = prompt.value.trim();
  if (!content || !session || answering) return;
  prompt.value = "";
  chat.messages.push({ role: "user", content });
  await keepChat(chat);
  show();
  await answer();
}

async function regenerate(index: number): Promise<void> {
  if (answering) return;
  chat.messages.splice(index);
  show();
  await answer();
}

function edit(index: number): void {
  const old = chat.messages[index]!;
  const text = h("textarea", { value: old.content, "aria-label": "Edit your message" });
  const form = h("form", { className: "message", onsubmit: async (event: Event) => {
    event.preventDefault();
    if (answering || !text.value.trim()) return;
    chat.messages.splice(index, chat.messages.length, { role: "user", content: text.value.trim() });
    await keepChat(chat);
    show();
    await answer();
  } }, text, h("div", { className: "buttons" }, h("button", { className: "main" }, "Send"), h("button", { type: "button", onclick: show }, "Cancel")));
  log.children[index]!.replaceWith(form);
  text.focus();
}

async function listChats(): Promise<void> {
  const entries = (await chats()).map((entry) => h("li", { "aria-current": entry.id === chat.id ? "true" : undefined },
    h("button", { onclick: () => openChat(entry) }, h("span", {}, entry.title)),
    h("button", { className: "quiet icon", "aria-label": `Delete the conversation ${entry.title}`, onclick: async () => {
      await deleteChat(entry.id);
      if (entry.id === chat.id) openChat(newChat());
      else await listChats();
    } }, "×")));
  byId("chats").replaceChildren(...entries);
}

function openChat(next: Chat): void {
  answering?.abort();
  chat = next;
  closeDrawer();
  show();
}

/** The model that was used last, if all of it is here. */
async function lastModel(): Promise<{ key: string; name: string } | undefined> {
  const last = JSON.parse(localStorage.getItem("model") ?? "null");
  const stored = await pocketlm.models.list().catch(() => []);
  return stored.some((model) => model.key === last?.key && model.complete) ? last : undefined;
}

begin();
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void send();
});
prompt.addEventListener("keydown", (event) => {
  // On a phone's keyboard the same key makes a new line.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || !matchMedia("(pointer: fine)").matches) return;
  event.preventDefault();
  void send();
});
byId("stop").addEventListener("click", () => answering?.abort());
byId("new").addEventListener("click", () => openChat(newChat()));
byId("model").addEventListener("click", () => void change());
byId("settings").addEventListener("click", () => openOptions());
const [latest] = await chats();
if (latest) chat = latest;
show();
const last = await lastModel();
await choose(setEngine, last && { name: last.name, source: { key: last.key } });
// For tests, and for the curious.
Object.assign(globalThis, { pocketlm, session: () => session });
