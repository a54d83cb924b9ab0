// Browsers without a window, for tests: Chromium on its software GPU.
import { chromium } from "playwright-core";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const FLAGS = [
  // Without the first there is no adapter on a machine without a GPU.
  "--enable-unsafe-webgpu", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
  // A name that is not this machine's own: pages from there are not safe ones.
  "--host-resolver-rules=MAP insecure.test 127.0.0.1",
];

/** A phone's window, which can be touched. */
export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 3, isMobile: true, hasTouch: true };
export const DESK = { viewport: { width: 1200, height: 800 } };

/** A browser with a storage of its own, which `close` deletes. */
export async function open(options = {}) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "pocketlm-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: ["--headless=new", ...FLAGS], ...options,
  });
  // A busy machine may hold a browser up for a minute.
  context.setDefaultTimeout(120_000);
  const close = async () => {
    await context.close();
    fs.rmSync(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/** A page with the package in `pocketlm`. */
export async function packagePage(context, server) {
  const page = await newPage(context, `${server.url}tests/blank.html`);
  await page.waitForFunction(() => globalThis.pocketlm);
  return page;
}

/** What bringing or loading a model comes to: its key or what the engine says of itself, or what went wrong; and the phases. */
const outcome = (page, how, source, options) => page.evaluate(async ([how, source, options]) => {
  const phases = new Set();
  const given = { ...options, onProgress: ({ phase }) => phases.add(phase) };
  const ways = { load: (engine) => (engine.dispose(), { info: engine.info }), fetch: (key) => ({ key }) };
  try {
    const found = await (how === "load" ? pocketlm.Engine.load(source, given) : pocketlm.models.fetch(source, given));
    return { ...ways[how](found), phases: [...phases] };
  } catch ({ name, code, message, hint, fits }) {
    return { name, code, message, hint, fits, phases: [...phases] };
  }
}, [how, source, options]);
export const loading = (page, source, options) => outcome(page, "load", source, options);
export const fetching = (page, source, options) => outcome(page, "fetch", source, options);

/** A page whose complaints end up in `complaints`. */
export async function newPage(context, url) {
  const page = await context.newPage();
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  await page.goto(url);
  return page;
}
