// What the three pages share: elements made in one line, the drawer, the theme, what is wrong with the browser, and the
// service worker.

import { PocketError } from "../ts/index.js";
import { recall, remember } from "./settings.js";

type Child = Node | string | undefined | false;

/** An element with properties and children; `on…` properties are listeners, others with a dash are attributes. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, properties: Record<string, unknown> = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value as EventListener);
    else if (name.includes("-") || name === "for" || name === "role") element.setAttribute(name, String(value));
    else Object.assign(element, { [name]: value });
  }
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** Says something to those who listen instead of looking. */
export function announce(text: string): void {
  byId("status").textContent = text;
}

/** How long something that was done can be undone; longer while it is pointed at, or has the focus. */
const UNDO_MS = 10_000;
/** Ends the offer that stands. */
let withdraw: (() => void) | undefined;

/** Says what was done and offers to undo it: by the button, or by Ctrl+Z outside of what is written in. */
export function offerUndo(done: string, undo: () => void): void {
  withdraw?.();
  const take = () => {
    withdraw?.();
    undo();
  };
  const key = (event: KeyboardEvent) => {
    if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || (event.target as Element).matches("input, textarea")) return;
    event.preventDefault();
    take();
  };
  const toast = h("section", { className: "toast card", "aria-label": "Undo" }, h("span", {}, done), h("button", { onclick: take, "aria-keyshortcuts": "Control+Z" }, "Undo"));
  let timer = setTimeout(later, UNDO_MS);
  function later(): void {
    if (toast.matches(":hover, :focus-within")) timer = setTimeout(later, UNDO_MS);
    else withdraw?.();
  }
  withdraw = () => {
    withdraw = undefined;
    clearTimeout(timer);
    removeEventListener("keydown", key);
    toast.remove();
  };
  addEventListener("keydown", key);
  byId("status").after(toast);
  announce(`${done}. Control Z, or the button Undo, brings it back`);
}

/** Asks before something that cannot be undone; whether it is wanted. */
export function confirmed(title: string, words: string, verb: string): Promise<boolean> {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "confirm-title", "aria-describedby": "confirm-words", onclose: () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    } }, h("form", { method: "dialog" }, h("h2", { id: "confirm-title" }, title), h("p", { id: "confirm-words" }, words),
      h("div", { className: "buttons" }, h("button", { value: "no", autofocus: true }, "Keep it"), h("button", { value: "yes", className: "bad" }, verb))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** What went wrong and what to do, as a card, which is read out by itself. */
export function problem(error: unknown, ...actions: Child[]): HTMLElement {
  const { message, hint } = error instanceof PocketError ? error : { message: String((error as Error)?.message ?? error), hint: "" };
  return h("div", { className: "card notice bad", role: "alert" },
    h("p", {}, capital(message) + "."),
    hint ? h("p", { className: "soft" }, capital(hint) + ".") : undefined,
    h("div", { className: "buttons" }, ...actions));
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

export function timeText(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Whether a finger is what there is to point with. */
export const touched = () => !matchMedia("(pointer: fine)").matches;

/** Puts text on the clipboard, and says so. */
export async function copy(text: string): Promise<void> {
  await navigator.clipboard.writeText(text).then(() => announce("Copied"), () => announce("This browser did not allow copying"));
}

export function setTheme(theme: string): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  remember("theme", theme);
}

export const theme = () => ["light", "dark"].find((name) => name === recall("theme")) ?? "auto";

/** What is behind the drawer while it is open. */
const behind = () => document.querySelectorAll<HTMLElement>("header.top, main");

export function closeDrawer(): void {
  const side = byId("side");
  if (!side.classList.contains("open")) return;
  side.classList.remove("open");
  document.querySelector(".shade")?.remove();
  for (const element of behind()) element.inert = false;
  byId("menu").setAttribute("aria-expanded", "false");
  byId("menu").focus();
}

function openDrawer(): void {
  const side = byId("side");
  side.classList.add("open");
  for (const element of behind()) element.inert = true;
  byId("menu").setAttribute("aria-expanded", "true");
  side.after(h("button", { className: "shade", "aria-label": "Close", onclick: closeDrawer }));
  side.querySelector<HTMLElement>("button, a")?.focus();
}

/** Once per page; whether models can run in this browser, as far as can be told at once. */
export function begin(): boolean {
  setTheme(theme());
  byId("menu").addEventListener("click", openDrawer);
  addEventListener("keydown", (event) => event.key === "Escape" && closeDrawer());
  // A wide window always shows it.
  matchMedia("(min-width: 860px)").addEventListener("change", closeDrawer);
  watchVersion();
  const trouble = lacking();
  if (trouble) byId("lacking").append(problem(trouble));
  else void navigator.gpu.requestAdapter().then((adapter) => adapter || byId("lacking").append(problem(NO_ADAPTER)), () => undefined);
  return !trouble;
}

const NO_ADAPTER = new PocketError("no-adapter", "this browser knows WebGPU, but offers no graphics processor to it",
  "switch graphics acceleration on in the browser's settings and start it again, update the device's system, or try another browser");

/** What this browser lacks, in words that say which one does not. */
function lacking(): PocketError | undefined {
  const what = "models cannot run in this browser as it is";
  if (!isSecureContext) {
    return new PocketError("insecure", `${what}: the page came over an insecure connection (${location.protocol}//)`,
      `open it at an address that begins with https, such as https://${location.hostname}${location.pathname}`);
  }
  if (navigator.gpu) return undefined;
  const agent = navigator.userAgent;
  const hint = /iPhone|iPad/.test(agent) ? "it takes iOS or iPadOS 26 or later: look for an update in the settings, under General"
    : /Android/.test(agent) ? "open this page in Chrome 121 or later, on Android 12 or later"
    : /Firefox/.test(agent) ? "update Firefox (version 141 has WebGPU on Windows, 145 on Macs with Apple's chips), or open this page in Chrome or Edge"
    : /Macintosh/.test(agent) ? "open this page in Chrome 113 or later, or in Safari 26 or later"
    : "open this page in Chrome or Edge, version 113 or later; on Linux it may have to be switched on at chrome://flags, as Unsafe WebGPU";
  return new PocketError("no-webgpu", `${what}: it has no WebGPU, which is how web pages compute on the graphics processor`, hint);
}

/** Keeps the site for offline use, and says when another version has taken over. */
function watchVersion(): void {
  const workers = navigator.serviceWorker;
  if (!workers) return;
  // A page uses the files of its own version to its end, and what is said here keeps them from being deleted.
  const version = document.querySelector<HTMLMetaElement>("meta[name=version]")!.content;
  void navigator.locks?.request(`pocketlm version ${version}`, { mode: "shared" }, () => new Promise(() => undefined));
  let controlled = Boolean(workers.controller);
  workers.addEventListener("controllerchange", () => {
    if (controlled) {
      byId("version").replaceChildren(h("div", { className: "card notice row", role: "status" }, h("div", {}, "A new version is ready."),
        h("button", { className: "main", onclick: () => location.reload() }, "Reload")));
    }
    controlled = true;
  });
  workers.register("sw.js").catch(() => undefined);
}
