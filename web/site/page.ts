// What the three pages share: elements made in one line, the drawer, the theme, and the service worker.

import { PocketError } from "../ts/index.js";

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

/** What went wrong and what to do, as a card. */
export function problem(error: unknown, ...actions: Child[]): HTMLElement {
  const { message, hint } = error instanceof PocketError ? error : { message: String((error as Error)?.message ?? error), hint: "" };
  announce(message);
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

export function setTheme(theme: string): void {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
}

export function closeDrawer(): void {
  byId("side").classList.remove("open");
  document.querySelector(".shade")?.remove();
  byId("menu").setAttribute("aria-expanded", "false");
}

/** Once per page. */
export function begin(): void {
  setTheme(localStorage.getItem("theme") ?? "auto");
  byId("menu").addEventListener("click", () => {
    byId("side").classList.add("open");
    byId("menu").setAttribute("aria-expanded", "true");
    document.body.append(h("button", { className: "shade", "aria-label": "Close", onclick: closeDrawer }));
    byId("side").querySelector<HTMLElement>("button, a")?.focus();
  });
  addEventListener("keydown", (event) => event.key === "Escape" && closeDrawer());
  navigator.serviceWorker?.register("sw.js").catch(() => undefined);
}
