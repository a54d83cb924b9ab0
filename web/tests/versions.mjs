// The service worker, with the real files: updates, and other sites and servers than the tests' own.
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { buildSite } from "../site/build.mjs";
import { serve } from "../serve.mjs";
import { newPage, open, PHONE } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { button, until, visible } from "./pretend.mjs";

export async function versionTests(run) {
  await run("site: an update leaves open pages what they began with", updates);
  await run("site: a server with clean addresses, and a site beside it", besides);
}

const folder = () => fs.mkdtempSync(path.join(os.tmpdir(), "pocketlm-site-"));
const versionOf = (page) => page.evaluate(() => document.querySelector("meta[name=version]").content);
const examined = async (page) => {
  await button(page, "Examine this GPU").click();
  await page.locator("tbody tr").nth(2).waitFor({ timeout: 120_000 });
  await button(page, "Stop").click();
  await visible(page, "Stopped after");
};

async function updates() {
  const site = folder();
  const first = await buildSite({ out: site });
  const server = await serve({ site });
  const { context, close } = await open(PHONE);
  const names = (page) => page.evaluate(() => caches.keys());
  const old = await newPage(context, `${server.url}doctor.html`);
  await old.waitForFunction(() => navigator.serviceWorker.controller);
  const versions = [first];
  for (let n = 0; n < 3; n++) {
    versions.push(await buildSite({ out: site, banner: `/* ${n} */` }));
    await old.evaluate(async () => (await navigator.serviceWorker.getRegistration()).update());
    await visible(old, "A new version is ready");
    await until("the new version has taken over", () => old.evaluate(async (version) => {
      const { installing, waiting } = await navigator.serviceWorker.getRegistration();
      return !installing && !waiting && (await caches.keys()).some((name) => name.endsWith(version));
    }, versions.at(-1)));
  }
  // The server has nothing of the first version any more.
  same("the old page", await versionOf(old), first);
  same("its worker on the server", (await fetch(`${server.url}v-${first}/worker.js`)).status, 404);
  server.down = true;
  await examined(old);
  const young = await newPage(context, `${server.url}doctor.html`);
  same("a page that is opened now", await versionOf(young), versions.at(-1));
  await examined(young);
  await until("versions that no page uses are gone", async () => (await names(young)).length <= 3);
  check("the first one's is there", (await names(young)).some((name) => name.endsWith(first)));
  await button(old, "Reload").click();
  await old.waitForFunction((version) => document.querySelector("meta[name=version]").content === version, versions.at(-1));
  for (const page of [old, young]) same("complaints", page.complaints, []);
  await close();
  server.close();
  fs.rmSync(site, { recursive: true });
}

/** A server as some hosts are: X.html is at X, and index.html at its folder. */
async function cleanAddresses(site) {
  const types = { html: "text/html", js: "text/javascript", css: "text/css", wasm: "application/wasm", svg: "image/svg+xml" };
  const server = http.createServer(({ url }, response) => {
    const { pathname } = new URL(url, "http://localhost");
    if (pathname.endsWith(".html")) return response.writeHead(308, { location: pathname.replace(/(index)?\.html$/, "") }).end();
    const name = pathname.endsWith("/") ? `${pathname}index.html` : path.extname(pathname) ? pathname : `${pathname}.html`;
    const file = path.join(site, name);
    if (!fs.existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": types[path.extname(name).slice(1)] ?? "application/octet-stream" }).end(fs.readFileSync(file));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://localhost:${server.address().port}/`, close: () => (server.closeAllConnections(), server.close()) };
}

async function besides() {
  const site = folder();
  await buildSite({ out: path.join(site, "a") });
  await buildSite({ out: path.join(site, "b"), banner: "/* b */" });
  const server = await cleanAddresses(site);
  const { context, close } = await open(PHONE);
  let page;
  for (const name of ["a/", "b/"]) {
    page = await newPage(context, server.url + name);
    await page.waitForFunction(() => navigator.serviceWorker.controller);
  }
  same("caches", (await page.evaluate(() => caches.keys())).map((name) => name.split(" ")[1]).sort(), ["/a/", "/b/"]);
  server.close();
  await context.setOffline(true);
  for (const name of ["a/", "a/index.html", "a/gpu", "a/gpu.html", "b/doctor"]) {
    await page.goto(server.url + name);
    await page.locator("h1").first().waitFor();
  }
  await close();
  fs.rmSync(site, { recursive: true });
}
