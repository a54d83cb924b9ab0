// The conversation that is shown: its messages, the answer that is on its way, and what is kept of both.

import { PocketError, type Answer, type Message, type Session, type Stats } from "../ts/index.js";
import { keepChat, newChat, onChange, readChat, type Chat } from "./chats.js";
import { render } from "./markdown.js";
import { announce, byId, copy, h, problem, touched } from "./page.js";
import { settings } from "./settings.js";

/** Text is drawn this often while it comes, however fast that is, and kept this often. */
const DRAW_MS = 80;
const KEEP_MS = 500;

let chat: Chat = newChat();
let session: Session | undefined;
/** The answer that is on its way: whose it is, what ends it, and when it has ended. */
let answering: { chat: Chat; abort: AbortController; over: Promise<void> } | undefined;

const log = byId("messages");
const scroll = byId("scroll");

/** The id of the conversation that is shown. */
export const shownId = () => chat.id;

/** What answers from now on. */
export function answerWith(next: Session | undefined): void {
  stop();
  session = next;
}

/** Shows another conversation. */
export function openChat(next: Chat): void {
  stop();
  chat = next;
  show();
}

export function stop(): void {
  answering?.abort.abort();
}

/** Whether a message can be sent; if so it is, and the model answers. */
export async function send(content: string): Promise<void> {
  await halt();
  chat.messages.push({ role: "user", content });
  await answer();
}

/** Stops the answer that is on its way and waits until it is over. */
async function halt(): Promise<void> {
  stop();
  await answering?.over;
}

const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;

function show(): void {
  log.replaceChildren(...chat.messages.map((message, index) => messageElement(message, index)));
  scroll.scrollTop = scroll.scrollHeight;
  dispatchEvent(new Event("conversation"));
}

function messageElement(message: Message, index: number, stats?: Stats): HTMLElement {
  const mine = message.role === "user";
  const body = h("div", { className: "body" });
  if (mine) body.textContent = message.content;
  else render(body, message.content);
  const action = (name: string, run: () => unknown) => h("button", { className: "quiet", onclick: () => void run() }, name);
  const actions = mine
    ? [action("Edit", () => edit(index))]
    : [action("Copy", () => copy(message.content)), action("Regenerate", () => regenerate(index))];
  return h("article", { className: `message ${message.role}`, tabIndex: -1, "aria-label": mine ? "You" : "The model" },
    body, h("div", { className: "actions" }, ...actions, stats && h("span", { className: "rate" }, figures(stats))));
}

function figures({ answerTokens, tokensPerSecond, promptSeconds, stop }: Stats): string {
  const why = stop === "max-tokens" ? ", stopped at the longest answer that the settings allow" : stop === "context-full" ? ", the context is full" : "";
  return `${answerTokens} tokens, ${tokensPerSecond.toFixed(1)} per second, first after ${promptSeconds.toFixed(1)} s${why}`;
}

/** The model answers to the conversation as it is, or instead of the answer that it ends with: one that was stopped or
 * broke off makes way, so that there are never two in a row. */
async function answer(): Promise<void> {
  while (chat.messages.at(-1)?.role === "assistant") chat.messages.pop();
  void keep(chat);
  show();
  if (!session || answering) return;
  const abort = new AbortController();
  const over = speak(chat, session, abort.signal).finally(() => (answering = undefined));
  answering = { chat, abort, over };
  await over;
}

async function speak(into: Chat, session: Session, signal: AbortSignal): Promise<void> {
  const { system, seed, context: _, kv: __, ...sampling } = settings();
  const asked = [...(system ? [{ role: "system", content: system }] : []), ...into.messages];
  const index = into.messages.length;
  const reply: Message = { role: "assistant", content: "" };
  const body = h("div", { className: "body waiting" });
  const element = h("article", { className: "message assistant", "aria-label": "The model", "aria-busy": "true" }, body);
  log.append(element);
  scroll.scrollTop = scroll.scrollHeight;
  busy(true);
  let failure: unknown;
  let running: Answer | undefined;
  let [drawn, kept] = [0, performance.now()];
  try {
    running = session.generate(asked, { ...sampling, seed: seed === "" ? Math.floor(Math.random() * 2 ** 32) : Number(seed), signal });
    for await (const piece of running) {
      if (!reply.content) into.messages.push(reply);
      reply.content += piece;
      const now = performance.now();
      if (now - kept > KEEP_MS) {
        void keep(into);
        kept = now;
      }
      if (now - drawn < DRAW_MS) continue;
      draw(body, reply.content);
      drawn = now;
    }
  } catch (error) {
    failure = error;
  }
  const stats = await running?.stats.catch(() => undefined);
  await keep(into);
  busy(false);
  if (into !== chat) return;
  if (reply.content) {
    const whole = messageElement(reply, index, stats);
    element.replaceWith(whole);
    takeFocus(whole);
    announce(`Answer ${stats?.stop === "aborted" ? "stopped" : "complete"}: ${reply.content}`);
  } else element.remove();
  // A model that made way for another is no failure either.
  if (failure && !signal.aborted) log.append(problem(failure, h("button", { onclick: () => void again() }, "Try again")));
}

/** Stop takes the place of Send, and back. */
function busy(is: boolean): void {
  const button = byId("stop");
  if (!is && document.activeElement === button) button.blur();
  button.hidden = !is;
  byId("send").hidden = is;
  if (is && document.activeElement === document.body) button.focus();
}

/** Where the focus was on something that is gone: to where one goes on, but no keyboard comes up on a phone by itself. */
function takeFocus(element: HTMLElement): void {
  if (document.activeElement !== document.body) return;
  if (touched()) element.focus({ preventScroll: true });
  else byId("prompt").focus();
}

function draw(body: HTMLElement, text: string): void {
  const follow = atEnd();
  body.classList.toggle("waiting", !text);
  render(body, text);
  if (follow) scroll.scrollTop = scroll.scrollHeight;
}

async function again(): Promise<void> {
  await halt();
  await answer();
}

async function regenerate(index: number): Promise<void> {
  await halt();
  chat.messages.splice(index);
  await answer();
}

function edit(index: number): void {
  const before = log.children[index]!;
  const text = h("textarea", { value: chat.messages[index]!.content, "aria-label": "Edit your message" });
  const cancel = () => {
    form.replaceWith(before);
    before.querySelector("button")?.focus();
  };
  const form = h("form", { className: "message", onsubmit: async (event: Event) => {
    event.preventDefault();
    const content = text.value.trim();
    if (!content) return;
    await halt();
    chat.messages.splice(index, chat.messages.length, { role: "user", content });
    await answer();
  }, onkeydown: (event: KeyboardEvent) => event.key === "Escape" && cancel() },
    text, h("div", { className: "buttons" }, h("button", { className: "main" }, "Send"), h("button", { type: "button", onclick: cancel }, "Cancel")));
  before.replaceWith(form);
  text.focus();
}

/** Keeps a conversation, and says what the person should know of it. */
async function keep(it: Chat): Promise<void> {
  const trouble = byId("kept");
  try {
    const kept = await keepChat(it);
    if (kept === "copied") {
      trouble.replaceChildren(h("p", { className: "card notice", role: "status" }, "Another tab went on with this conversation, so what is here is now a conversation of its own."));
    } else if (trouble.querySelector("[role=alert]")) trouble.replaceChildren();
    if (kept === "deleted" && answering?.chat === it) stop();
    dispatchEvent(new Event("conversation"));
  } catch (error) {
    if (!trouble.firstChild) trouble.replaceChildren(notKept(error));
  }
}

/** What a person is told whose browser keeps nothing. */
export function notKept(error: unknown): HTMLElement {
  return problem(new PocketError("storage", `this browser does not keep conversations: ${(error as Error)?.message || (error as Error)?.name || "it gives no reason"}`,
    "free some space, or leave the private window; until then copy what you want to have later"));
}

onChange(async ({ id, deleted }) => {
  dispatchEvent(new Event("conversation"));
  if (id !== chat.id) return;
  if (deleted) {
    openChat(newChat());
    announce("This conversation was deleted in another tab");
  } else if (!answering && !log.querySelector("form")) {
    // Whoever writes here wins nothing by looking at what was: an edit under way becomes a copy when it is kept.
    const there = await readChat(id).catch(() => undefined);
    if (there && there.id === chat.id && there.revision > chat.revision && !answering) {
      const [follow, at] = [atEnd(), scroll.scrollTop];
      openChat(there);
      if (!follow) scroll.scrollTop = at;
    }
  }
});
// A phone closes pages without asking: what has come by then is kept.
const leave = () => answering && void keep(answering.chat);
addEventListener("pagehide", leave);
document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && leave());
