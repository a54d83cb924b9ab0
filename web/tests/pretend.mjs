// The site with a pretended worker in the place of the engine's, so that what is tested is what the pages make of it, at the
// moments that matter; and what its tests do with a page.
import { fileURLToPath } from "node:url";
import fs from "node:fs";
import path from "node:path";
import { newPage, open, PHONE } from "./browser.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const worker = fs.readFileSync(path.join(here, "worker.js"), "utf8");

/** A browser with the pretended worker, on a device that is as `given` says. */
export async function pretend(given = {}, options = PHONE) {
  const { context, close } = await open({ ...options, serviceWorkers: "block" });
  await context.route("**/worker.js", (route) => route.fulfill({ headers: { "content-type": "text/javascript", "cross-origin-embedder-policy": "require-corp" }, body: `globalThis.given = ${JSON.stringify(given)};\n${worker}` }));
  await context.addInitScript(() => {
    // What pages ask of their workers, and what they say to those who listen.
    globalThis.calls = [];
    const { postMessage } = Worker.prototype;
    Worker.prototype.postMessage = function (message) {
      calls.push(message);
      postMessage.call(this, message);
    };
    globalThis.said = [];
    addEventListener("DOMContentLoaded", () => {
      const status = document.getElementById("status");
      if (status) new MutationObserver(() => said.push(status.textContent)).observe(status, { childList: true });
    });
  });
  return { context, close };
}

/** For tests each in a browser of its own, which has kept nothing yet: gives a context, and what opens a tab with a model. */
export const alone = (run, server) => (name, test) => run(`site: ${name}`, async () => {
  const { context, close } = await pretend();
  try {
    await test(context, (more) => ready(context, server, more));
  } finally {
    await close();
  }
});

/** A page with a model, and settings. */
export async function ready(context, server, more) {
  const page = await newPage(context, server.url);
  await settings(page, more);
  await button(page, LOCAL).click();
  await page.locator("#prompt:not([disabled])").waitFor();
  return page;
}

/** The model that the tests' server offers: no other server is asked for anything. */
export const LOCAL = "Download SmolLM2-135M-Instruct";
export const button = (page, name) => page.getByRole("button", { name });
export const visible = (page, text) => page.getByText(text).first().waitFor({ timeout: 120_000 });
export const settings = (page, more = {}) => page.evaluate((more) => localStorage.setItem("settings", JSON.stringify({ maxTokens: 1000, ...more })), more);
export const write = async (page, text) => {
  await page.locator("#prompt:not([disabled])").fill(text);
  await button(page, "Send").click();
};
export const words = (page, n) => page.locator(".message.assistant", { hasText: `word${n} ` }).waitFor({ timeout: 120_000 });
/** What is kept, as whoever opens the site finds it. */
export const kept = (page) => page.evaluate(() => new Promise((resolve, reject) => {
  const request = indexedDB.open("pocketlm", 1);
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const all = request.result.transaction("chats").objectStore("chats").getAll();
    all.onsuccess = () => (request.result.close(), resolve(all.result));
  };
}));
export const roles = (messages) => messages.map(({ role }) => role[0]).join("");
export const until = async (what, holds) => {
  const end = Date.now() + 120_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never so: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};
export const asked = ({ messages }) => messages.filter(({ role }) => role === "user").map(({ content }) => content).join();

/** Deletes the first conversation of the list. */
export const drop = async (page) => {
  await button(page, "Conversations and pages").click();
  await button(page, "Delete the conversation").first().click();
};

/** Several things in one turn of the page, before anything that they begin has ended. */
export const atOnce = (page, texts, then) => page.evaluate(([texts, then]) => {
  for (const text of texts) {
    document.getElementById("prompt").value = text;
    document.getElementById("form").requestSubmit();
  }
  if (then) document.getElementById(then).click();
}, [texts, then]);
