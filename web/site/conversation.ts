// The conversation that is shown: its messages, the answer that is on its way, and what is kept of both.

import { PocketError, type Answer, type Message, type Session, type Stats } from "../ts/index.js";
import { keepChat, newChat, onChange, readChat, type Chat } from "./chats.js";
import { growing, render } from "./markdown.js";
import { announce, byId, copy, h, problem, touched } from "./page.js";
import { settings } from "./settings.js";

/** Text is drawn this often while it comes, however fast that is, and kept this often. */
const DRAW_MS = 80;
const KEEP_MS = 500;
/** How long messages of a conversation that is opened are drawn before the page may do something else. */
const SLICE_MS = 6;

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
  enable();
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

/** A message to the conversation that is shown now, whatever is shown when its turn comes; the model answers. */
export function send(content: string): Promise<void> {
  const into = chat;
  return inTurn(async () => {
    into.messages.push({ role: "user", content });
    await answer(into);
  });
}

let turns: Promise<unknown> = Promise.resolve();

/** One change of a conversation after another, each when the answer that is on its way, which it stops, is over. */
function inTurn(work: () => Promise<void>): Promise<void> {
  stop();
  const turn = turns.then(async () => {
    stop();
    await answering?.over;
    await work();
  });
  turns = turn.catch(() => undefined);
  return turn;
}

/** Stops the answer that is on its way and waits until everything is kept. */
export const halt = () => inTurn(async () => undefined);

const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;

/** What the elements of the log show, in order; a reply that comes is the last. */
let shown: Message[] = [];
/** What is still to be drawn, by its element, which is there already. */
const undrawn = new Map<Element, () => void>();

const isDrawn = (message: Message, index: number) =>
  shown[index]?.role === message.role && shown[index].content === message.content && log.children[index]?.classList.contains(message.role) && log.children[index].tagName === "ARTICLE";

/** Shows the conversation as it is and its end: elements of messages that stay remain, the last ones are drawn at once and
 * those above a few at a time. */
function show(): void {
  const { messages } = chat;
  const n = messages.findIndex((message, index) => !isDrawn(message, index));
  const nSame = n < 0 ? messages.length : n;
  while (log.children.length > nSame) {
    undrawn.delete(log.lastChild as Element);
    log.lastChild!.remove();
  }
  for (const rate of log.querySelectorAll(".rate")) rate.remove();
  shown = messages.map(({ role, content }) => ({ role, content }));
  log.append(...messages.slice(nSame).map((message, index) => messageElement(message, nSame + index)));
  scroll.scrollTop = scroll.scrollHeight;
  drawSlice();
  dispatchEvent(new Event("conversation"));
}

let slice: ReturnType<typeof setTimeout> | undefined;

/** Draws messages from the last one up, as long as it may; what is seen stays where it is, since all that grows is above. */
function drawSlice(): void {
  clearTimeout(slice);
  if (undrawn.size === 0) return;
  const end = performance.now() + SLICE_MS;
  const fromEnd = scroll.scrollHeight - scroll.scrollTop;
  // Browsers that keep the place by themselves would do it twice.
  scroll.style.overflowAnchor = "none";
  for (const [element, draw] of [...undrawn].reverse()) {
    undrawn.delete(element);
    draw();
    if (performance.now() > end) break;
  }
  scroll.scrollTop = scroll.scrollHeight - fromEnd;
  scroll.style.overflowAnchor = "";
  if (undrawn.size > 0) slice = setTimeout(drawSlice);
}

function messageElement(message: Message, index: number): HTMLElement {
  const mine = message.role === "user";
  const element = h("article", { className: `message ${message.role}`, tabIndex: -1, "aria-label": mine ? "You" : "The model" });
  undrawn.set(element, () => {
    const body = h("div", { className: "body" });
    if (mine) body.textContent = message.content;
    else render(body, message.content);
    element.append(body, actionsOf(message, index));
  });
  return element;
}

function actionsOf(message: Message, index: number, stats?: Stats): HTMLElement {
  const actions = message.role === "user"
    ? [asking("Edit", "quiet", () => edit(index))]
    : [h("button", { className: "quiet", onclick: () => void copy(message.content) }, "Copy"), asking("Regenerate", "quiet", () => regenerate(index))];
  return h("div", { className: "actions" }, ...actions, stats && h("span", { className: "rate" }, figures(stats)));
}

/** A button that asks the model something: it is of no use while there is none. */
function asking(name: string, className: string, run?: () => unknown): HTMLElement {
  return h("button", { className: `asking ${className}`, disabled: !session, onclick: run && (() => void run()) }, name);
}

function enable(): void {
  for (const button of log.querySelectorAll<HTMLButtonElement>("button.asking")) button.disabled = !session;
}

function figures({ answerTokens, tokensPerSecond, promptSeconds, stop }: Stats): string {
  const why = stop === "max-tokens" ? ", stopped at the longest answer that the settings allow" : stop === "context-full" ? ", the context is full" : "";
  return `${answerTokens} tokens, ${tokensPerSecond.toFixed(1)} per second, first after ${promptSeconds.toFixed(1)} s${why}`;
}

/** The model answers to the conversation as it is, or instead of the answer that it ends with: one that was stopped or
 * broke off makes way, so that there are never two in a row. Nobody waits for one that is not shown. */
async function answer(into: Chat): Promise<void> {
  const by = into === chat ? session : undefined;
  if (by) while (into.messages.at(-1)?.role === "assistant") into.messages.pop();
  const kept = keep(into);
  if (into === chat) show();
  if (!by) return await kept;
  const abort = new AbortController();
  const over = speak(into, by, abort.signal).finally(() => (answering = undefined));
  answering = { chat: into, abort, over };
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
  const grow = growing(body);
  let [drawn, took, kept] = [0, 0, performance.now()];
  try {
    running = session.generate(asked, { ...sampling, seed: seed === "" ? Math.floor(Math.random() * 2 ** 32) : Number(seed), signal });
    for await (const piece of running) {
      if (!reply.content) {
        into.messages.push(reply);
        body.classList.remove("waiting");
      }
      reply.content += piece;
      const now = performance.now();
      if (now - kept > KEEP_MS) {
        void keep(into);
        kept = now;
      }
      // What takes long to draw is drawn less often, so that the page can be used meanwhile.
      if (now - drawn < Math.max(DRAW_MS, 5 * took)) continue;
      draw(() => grow(reply.content));
      drawn = performance.now();
      took = drawn - now;
    }
  } catch (error) {
    failure = error;
  }
  const stats = await running?.stats.catch(() => undefined);
  await keep(into);
  busy(false);
  if (into !== chat) return;
  if (reply.content) {
    draw(() => grow(reply.content));
    // The element stays: putting a long table in anew would take as long as drawing it.
    element.removeAttribute("aria-busy");
    element.tabIndex = -1;
    element.append(actionsOf(reply, index, stats));
    shown[index] = { ...reply };
    takeFocus(element);
    announce(`Answer ${stats?.stop === "aborted" ? "stopped" : "complete"}: ${reply.content}`);
  } else element.remove();
  const full = stats?.stop === "context-full" || (failure as PocketError | undefined)?.code === "context-full";
  // A model that made way for another is no failure either.
  if (failure && !full && !signal.aborted) log.append(problem(failure, asking("Try again", "", again)));
  if (full) {
    log.append(h("div", { className: "card notice", role: "status" }, h("p", {}, "This conversation is full: the model's context holds no more."),
      h("p", { className: "soft" }, "Go on in a new conversation, or allow a longer context in the settings and load the model again."),
      h("div", { className: "buttons" }, h("button", { onclick: () => openChat(newChat()) }, "New conversation"))));
    scroll.scrollTop = scroll.scrollHeight;
  }
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

function draw(grow: () => void): void {
  const follow = atEnd();
  grow();
  if (follow) scroll.scrollTop = scroll.scrollHeight;
}

/** What is there is given up only for something that can take its place. */
function askAgain(change: (messages: Message[]) => void): Promise<void> {
  const into = chat;
  return inTurn(async () => {
    if (!session || into !== chat) return;
    change(into.messages);
    await answer(into);
  });
}

const again = () => askAgain(() => undefined);
const regenerate = (index: number) => askAgain((messages) => messages.splice(index));

function edit(index: number): void {
  const before = log.children[index]!;
  const text = h("textarea", { value: chat.messages[index]!.content, "aria-label": "Edit your message" });
  const cancel = () => {
    form.replaceWith(before);
    enable();
    before.querySelector("button")?.focus();
  };
  const form = h("form", { className: "message", onsubmit: async (event: Event) => {
    event.preventDefault();
    const content = text.value.trim();
    if (!content) return;
    const into = chat;
    await inTurn(async () => {
      if (!session) return;
      into.messages.splice(index, into.messages.length, { role: "user", content });
      await answer(into);
    });
  }, onkeydown: (event: KeyboardEvent) => event.key === "Escape" && cancel() },
    text, h("div", { className: "buttons" }, asking("Send", "main"), h("button", { type: "button", onclick: cancel }, "Cancel")));
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
