// How models come and are kept, in Chromium: cuts, stalls, other versions, other tabs, the hub, damaged records, no storage.
import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fetching, loading, open, packagePage } from "./browser.mjs";
import { check, same } from "./check.mjs";

const BLOCK = 4 << 20;
/** A name that addresses must spell otherwise. */
const NAME = "tiny 100% #1.gguf";
const PACKAGE = path.join(fileURLToPath(new URL(".", import.meta.url)), "../dist");

export async function downloadTests(run, { server, program }) {
  const place = fs.mkdtempSync(path.join(os.tmpdir(), "pocketlm-models-"));
  const file = path.join(place, NAME);
  // A small model, and behind it bytes that nobody reads: some blocks for which nothing has to be computed.
  const write = (seed, size) => {
    execFileSync(program, ["synth", "tiny-llama", file, "--weights", "f32", "--seed", String(seed), "--force"], { stdio: "ignore" });
    fs.appendFileSync(file, Buffer.alloc(size - fs.statSync(file).size, seed));
    return createHash("sha256").update(fs.readFileSync(file)).digest("hex");
  };
  Object.assign(server.roots, { "/own/": place, "/hub/me/tiny/resolve/main/q/": place });
  const url = (query) => `/own/${encodeURIComponent(NAME)}?${query}`;
  const { context, close } = await open();
  const page = await packagePage(context, server);
  const kept = async (query) => (await page.evaluate(() => pocketlm.models.list())).find((model) => model.url.endsWith(`?${query}`));
  const begins = () => server.log.filter(({ name, range }) => name.endsWith(NAME) && range !== "bytes=0-0").map(({ range }) => Number(range.match(/\d+/)[0]));
  const until = async (what, holds) => {
    for (let n = 0; !(await holds()); n++) {
      check(what, n < 600);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  /** Fetches two blocks and a bit, and leaves. */
  const begin = async (query) => {
    server.stalls.push(2 * BLOCK + 1000);
    await page.evaluate((url) => {
      globalThis.abort = new AbortController();
      globalThis.left = pocketlm.models.fetch(url, { signal: abort.signal }).catch(({ name }) => name);
    }, url(query));
    await until("two blocks come", async () => (await kept(query))?.storedBytes === 2 * BLOCK);
    same("what an abort ends with", await page.evaluate(() => (abort.abort(), left)), "AbortError");
    server.log.length = 0;
  };
  const whole = async (query, sha256, options) => {
    const { code, message, phases } = await fetching(page, url(query), options);
    same("error", [code, message], [undefined, undefined]);
    same("what is kept", [(await kept(query)).sha256, (await kept(query)).complete], [sha256, true]);
    return phases;
  };

  await run("downloads: connections that never last a block bring the whole", async () => {
    const sha256 = write(1, BLOCK + 1e6);
    server.limit = 700_000;
    server.log.length = 0;
    await whole("limit", sha256);
    // The last bytes before a cut may be lost with it, but what came is never fetched again.
    const from = begins();
    check("each went on where the last one broke", from[0] === 0 && from.slice(1).every((at, n) => at >= from[n] && at <= from[n] + server.limit), from);
    check("there were as many as it takes", from.length >= 8, from);
    server.limit = Infinity;
  });

  await run("downloads: a connection that brings nothing is given up", async () => {
    const sha256 = write(1, BLOCK + 1e6);
    server.stalls.push(1, 1e6, BLOCK + 10);
    await whole("stall", sha256, { stallMs: 300 });
    same("stalls that are left", server.stalls, []);
  });

  await run("downloads: only another tab is waited for, and what it left is taken up", async () => {
    const sha256 = write(1, 3 * BLOCK);
    await begin("tabs");
    const second = await packagePage(context, server);
    server.stalls.push(2 * BLOCK + 2000);
    await second.evaluate((url) => {
      globalThis.abort = new AbortController();
      globalThis.phases = new Set();
      globalThis.left = pocketlm.models.fetch(url, { signal: abort.signal, onProgress: ({ phase }) => phases.add(phase) }).catch(({ name }) => name);
    }, url("tabs"));
    await until("the second tab fetches", () => server.stalls.length === 0);
    same("phases of the one that fetches", await second.evaluate(() => [...phases]), ["starting", "downloading"]);
    const first = fetching(page, url("tabs"));
    await until("the first tab waits", () => page.evaluate(async () => (await navigator.locks.query()).pending.length > 0));
    await second.close();
    const { phases, code } = await first;
    same("error", code, undefined);
    check("it told that it waits", phases[1] === "waiting", phases);
    same("what is kept", (await kept("tabs")).sha256, sha256);
    same("where connections began", begins(), [2 * BLOCK, 2 * BLOCK]);
  });

  await run("downloads: two versions are never mixed", async () => {
    write(1, 3 * BLOCK);
    await begin("date");
    const again = async (query, versions, sha256, from) => {
      server.versions = versions;
      await whole(query, sha256);
      same(`where connections began with ${versions}`, begins(), from);
      server.versions = ["etag", "last-modified"];
    };
    server.versions = ["last-modified"];
    await begin("dated");
    const old = createHash("sha256").update(fs.readFileSync(file)).digest("hex");
    await again("dated", ["last-modified"], old, [2 * BLOCK]);
    server.versions = [];
    await begin("unknown");
    const sha256 = write(2, 3 * BLOCK);
    await again("unknown", [], sha256, [0]);
    server.log.length = 0;
    await again("date", ["etag", "last-modified"], sha256, [0]);
  });

  await run("downloads: a server without ranges is borne, a file of another length is not", async () => {
    const sha256 = write(1, BLOCK + 1e6);
    Object.assign(server, { ranges: false, versions: [], cuts: [1e6, BLOCK + 10] });
    await whole("whole", sha256);
    // Twice, since the question for its size may bring the file too, where a server knows no ranges.
    server.stalls.push(1e6, 1e6);
    const longer = fetching(page, url("longer"), { stallMs: 2000 });
    await until("it stalls", () => server.stalls.length === 0);
    write(1, BLOCK + 2e6);
    same("code", (await longer).code, "changed");
    Object.assign(server, { ranges: true, versions: ["etag", "last-modified"] });
  });

  await run("downloads: a checksum that is given is compared, whether the model is new or here", async () => {
    const sha256 = write(1, BLOCK + 1e6);
    const given = (query, sha256) => fetching(page, { url: url(query), sha256 });
    const wrong = "0".repeat(64);
    same("new", (await given("new", wrong)).code, "corrupt");
    same("what is kept", await kept("new"), undefined);
    same("new again, with the right one", (await given("new", sha256.toUpperCase())).code, undefined);
    server.log.length = 0;
    same("here", (await given("new", wrong)).code, "changed");
    same("here, with the right one", (await given("new", sha256)).code, undefined);
    same("what was fetched", server.log.filter(({ name }) => name.endsWith(NAME)), []);
  });

  await run("downloads: a model of the hub is compared with its checksum, and needs no hub once it is here", async () => {
    const sha256 = write(1, BLOCK + 1e6);
    const source = { repo: "me/tiny", file: `q/${NAME}`, endpoint: `${server.url}hub` };
    const tree = (oid) => (server.answers["/hub/api/models/me/tiny/tree/main/q"] = [{ path: "q/other.gguf" }, { path: `q/${NAME}`, lfs: { oid } }]);
    tree("0".repeat(64));
    same("with a wrong checksum", (await fetching(page, source)).code, "corrupt");
    tree(sha256);
    const { code, key } = await fetching(page, source);
    same("with the right one", code, undefined);
    same("name", (await page.evaluate(() => pocketlm.models.list())).find((model) => model.key === key).name, NAME);
    server.log.length = 0;
    same("once it is here", (await fetching(page, source)).code, undefined);
    same("what was asked for", server.log.filter(({ name }) => name.startsWith("/hub/")), []);
  });

  await run("downloads: a torn record hides nothing", async () => {
    write(1, BLOCK + 1e6);
    const { key } = await fetching(page, url("torn"));
    const put = (name) => page.evaluate(async ([key, name]) => {
      const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("pocketlm-models");
      const writer = await (await (await models.getDirectoryHandle(key)).getFileHandle(name, { create: true })).createWritable();
      await writer.write('{"url":"http');
      await writer.close();
    }, [key, name]);
    // What a crash leaves that came before the record moved.
    await put("record.json+new");
    same("with a record that was not finished", (await fetching(page, { key })).code, undefined);
    await put("record.json");
    const damaged = async () => (await page.evaluate(() => pocketlm.models.list())).filter((model) => model.damaged).map(({ key, storedBytes }) => ({ key, storedBytes }));
    same("the list", await damaged(), [{ key, storedBytes: BLOCK + 1e6 }]);
    same("loading it", (await fetching(page, { key })).code, "corrupt");
    await page.evaluate((key) => pocketlm.models.remove(key), key);
    same("the list after it was deleted", await damaged(), []);
  });

  await run("downloads: what is no model is named, and nothing of it is kept", async () => {
    const before = await page.evaluate(async () => (await pocketlm.models.list()).length);
    const page200 = "<!doctype html><title>Sign in</title>".padEnd(BLOCK + 1e6);
    for (const [text, words] of [[page200, /web page/], ["\n<html>", /web page/], [Buffer.alloc(1e6, 7), /no GGUF file/], ["GG", /no GGUF file/]]) {
      fs.writeFileSync(file, text);
      for (const way of [fetching, loading]) {
        const { code, message } = await way(page, url("none"));
        same("code", code, "no-model");
        check("it says what came", words.test(message), message);
        same("models", await page.evaluate(async () => (await pocketlm.models.list()).length), before);
        same("folders", await page.evaluate(async () => {
          const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("pocketlm-models");
          return (await Array.fromAsync(models.keys())).length;
        }), before);
      }
    }
  });

  await run("downloads: a model that the engine finds damaged says so in the list, and can be had anew", async () => {
    const sha256 = write(1, BLOCK + 1e6);
    const size = fs.statSync(file).size;
    for (const n of [100, 40_000]) {
      fs.truncateSync(file, n);
      same("code", (await loading(page, url("half"))).code, "corrupt");
      const { key, damaged } = await kept("half");
      check("why", damaged.includes(NAME), damaged);
      same("loading it by its key", (await loading(page, { key })).code, "corrupt");
      write(1, size);
    }
    await whole("half", sha256);
    same("damaged", (await kept("half")).damaged, undefined);
  });

  await run("downloads: where the browser keeps nothing, a model runs all the same", async () => {
    write(1, 3 * BLOCK);
    const loose = fs.mkdtempSync(path.join(os.tmpdir(), "pocketlm-loose-"));
    fs.cpSync(PACKAGE, loose, { recursive: true });
    const none = `StorageManager.prototype.getDirectory = () => Promise.reject(new DOMException("no", "SecurityError"));\n`;
    for (const script of ["index.js", "worker.js"]) fs.writeFileSync(path.join(loose, script), none + fs.readFileSync(path.join(loose, script)));
    server.roots["/loose/"] = loose;
    const ids = (asFile) => page.evaluate(async ([url, asFile]) => {
      const { Engine } = await import("/loose/index.js");
      const source = asFile ? new File([await (await fetch(url)).blob()], "tiny.gguf") : url;
      const engine = await Engine.load(source);
      const session = engine.session();
      const answer = session.generate(new Uint32Array([1, 2, 3]), { maxTokens: 6 });
      await answer.stats;
      const saved = await session.save("here").then(() => "saved", ({ code }) => code);
      engine.dispose();
      return { ids: answer.tokens, saved, kept: Boolean(engine.info.key) };
    }, [url("loose"), asFile]);
    server.cuts.push(1e6, 2 * BLOCK + 10);
    const found = await ids(false);
    same("cuts that are left", server.cuts, []);
    same("the rest", { saved: found.saved, kept: found.kept }, { saved: "no-storage", kept: false });
    same("a file's answer", await ids(true), found);
    same("ids", found.ids.length, 6);
    fs.rmSync(loose, { recursive: true });
  });

  await run("downloads: nothing else was complained of", () => same("complaints", page.complaints.filter((text) => !/Failed to load resource/.test(text)), []));
  await close();
  fs.rmSync(place, { recursive: true });
}
