// The package in Chromium: loading and its faults, answers, sessions, lost devices, other tabs.
import { fileURLToPath } from "node:url";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { open, packagePage } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { openaiTests } from "./openai.mjs";

const sizeOf = (model) => fs.statSync(fileOf(model)).size;
const fileOf = (model) => path.join(fileURLToPath(new URL(".", import.meta.url)), "../..", model);
const MEMORY_BYTES = 150 << 20;

export async function apiTests(run, { server, model, prompt, options, native }) {
  const { context, close } = await open();
  const page = await packagePage(context, server);
  const given = { model, prompt, options };
  // What every test after the first begins with: the model from storage, an answer.
  const answer = (on = page, more = {}) => on.evaluate(async ({ model, prompt, options, load }) => {
    globalThis.engine?.dispose();
    const phases = new Set();
    globalThis.engine = await pocketlm.Engine.load(model, { ...load, onProgress: ({ phase }) => phases.add(phase) });
    const answer = engine.session().generate(prompt, options);
    const stats = await answer.stats;
    return { ids: answer.tokens, stats, phases: [...phases], memory: await engine.memory(), adapter: engine.info.adapter };
  }, { ...given, ...more });
  const errorOf = (on, more = {}) => on.evaluate(async ({ model, load }) => {
    try {
      (await pocketlm.Engine.load(model, load)).dispose();
    } catch ({ name, code, message, hint }) {
      return { name, code, message, hint };
    }
  }, { ...given, ...more });

  await run("a download that is cut ten times is whole in the end", async () => {
    const size = sizeOf(model);
    // As often as not in the same block; never before the size is known.
    const cuts = Array.from({ length: 10 }, () => 1 + Math.floor(Math.random() * (size - 1)));
    server.cuts.push(...cuts);
    const { ids, memory } = await answer();
    same("cuts that are left", server.cuts, []);
    same("ids", ids, native);
    const [kept] = await page.evaluate(() => pocketlm.models.list());
    same("sha256", kept.sha256, createHash("sha256").update(fs.readFileSync(fileOf(model))).digest("hex"));
    same("complete", kept.complete, true);
    check("wasm memory is small", memory.wasmBytes < MEMORY_BYTES, memory.wasmBytes);
    return `cut at ${cuts.join(", ")}; ${(memory.wasmBytes / 2 ** 20).toFixed(0)} MiB of wasm memory`;
  });

  await run("an answer is stopped, and the next one reuses what is there", async () => {
    const found = await page.evaluate(async (prompt) => {
      const session = engine.session();
      const abort = new AbortController();
      const answer = session.generate(prompt, { maxTokens: 100, signal: abort.signal });
      for await (const _ of answer) abort.abort();
      const { stop, answerTokens } = await answer.stats;
      const tokens = await session.tokens();
      await session.truncate(tokens.length - answerTokens);
      return { stop, answerTokens, before: tokens.length, after: (await session.tokens()).length };
    }, prompt);
    same("stop", found.stop, "aborted");
    check("it stopped early", found.answerTokens < 20, found.answerTokens);
    same("tokens left", found.after, found.before - found.answerTokens);
  });

  await run("a saved session goes on where it was", async () => {
    const found = await page.evaluate(async ({ prompt, options }) => {
      const one = engine.session();
      await one.generate(prompt, { maxTokens: 4 }).text();
      await one.save("a test", { title: "Paris" });
      const other = engine.session();
      const note = await other.restore("a test");
      const tokens = [...await other.tokens()];
      // The last token of an answer is not in the context yet.
      const answer = other.generate(new Uint32Array(options.rest), { maxTokens: 3 });
      const stats = await answer.stats;
      return { note, tokens, ids: answer.tokens, stats };
    }, { prompt, options: { rest: native.slice(3, 4) } });
    same("note", found.note, { title: "Paris" });
    same("reused", found.stats.reusedTokens, found.tokens.length);
    same("ids", found.ids, native.slice(4, 7));
  });

  await run("saved sessions are replaced whole or not at all, listed and deleted", async () => {
    const name = "../50%";
    const save = (note) => page.evaluate(async ([name, note]) => {
      const session = engine.session();
      await session.generate("One", { maxTokens: 1 }).text();
      return await session.save(name, note).then(() => "saved", ({ code, message }) => ({ code, message }));
    }, [name, note]);
    const note = () => page.evaluate(async (name) => await engine.session().restore(name).catch(({ code }) => code), name);
    const list = () => page.evaluate(() => pocketlm.sessions.list());
    same("saving", await save(1), "saved");
    const [{ bytes, saved }] = await list();
    check("it has a size and a time", bytes > 1000 && saved > 1.7e12, `${bytes} ${saved}`);
    // What a crash leaves of one that was being written, still open in another tab.
    await page.evaluate(async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("pocketlm-sessions");
      globalThis.writer = await (await folder.getFileHandle("s..%2F50%25+new", { create: true })).createWritable();
    });
    same("saving while another tab does", (await save(2)).code, "io");
    await page.evaluate(() => writer.abort());
    const cdp = await context.newCDPSession(page);
    const quota = (more) => cdp.send("Storage.overrideQuotaForOrigin", { origin: new URL(server.url).origin, ...more });
    await quota({ quotaSize: 1e6 });
    same("saving where there is no room", (await save(2)).code, "quota");
    await quota({});
    await cdp.detach();
    same("the old one", await note(), 1);
    same("names", (await list()).map(({ name }) => name), [name, "a test"]);
    same("saving again", [await save(3), await note()], ["saved", 3]);
    await page.evaluate(async (names) => { for (const name of names) await pocketlm.sessions.remove(name); }, [name, "a test"]);
    same("what is left", [await list(), await note()], [[], "not-found"]);
    same("deleting it again", await page.evaluate((name) => pocketlm.sessions.remove(name).catch(({ code }) => code), name), "not-found");
  });

  await run("a device that is lost in the middle of an answer is replaced", async () => {
    const ids = await page.evaluate(async ({ prompt, options }) => {
      const session = engine.session();
      const answer = session.generate(prompt, options);
      let n = 0;
      for await (const _ of answer) if (++n === 2) await session.destroyDevice();
      await answer.stats;
      // Another session of the same engine finds the new device.
      const other = engine.session().generate(prompt, options);
      await other.stats;
      return [answer.tokens, other.tokens];
    }, { prompt, options });
    same("ids", ids[0], native);
    same("ids of the other session", ids[1], native);
  });

  await run("a long prompt is stopped between two batches, and the next answer is right", async () => {
    const found = await page.evaluate(async ({ prompt, options }) => {
      const session = engine.session({ batch: 32 });
      const begin = (signal) => session.generate(new Uint32Array(1500).fill(1000), { maxTokens: 1, signal });
      const abort = new AbortController();
      setTimeout(() => abort.abort(), 300);
      const one = await begin(abort.signal).stats;
      const two = await begin(AbortSignal.abort()).stats;
      const after = (await session.tokens()).length;
      await session.truncate(0);
      const answer = session.generate(prompt, options);
      await answer.stats;
      return { one, two, after, ids: answer.tokens };
    }, { prompt, options });
    const { stop, answerTokens, promptTokens } = found.one;
    same("stop", [stop, answerTokens], ["aborted", 0]);
    check("a part of it was processed", promptTokens > 0 && promptTokens < 1500 && promptTokens % 32 === 0, promptTokens);
    same("stopped before it began", [found.two.stop, found.two.promptTokens], ["aborted", 0]);
    same("tokens", found.after, promptTokens);
    same("ids", found.ids, native);
    return `after ${promptTokens} tokens`;
  });

  await openaiTests(run, { page, model });

  await run("a frozen tab goes on when it is looked at again", async () => {
    const cdp = await context.newCDPSession(page);
    const running = page.evaluate(async ({ prompt, options }) => {
      const answer = engine.session().generate(prompt, options);
      await answer.stats;
      return answer.tokens;
    }, { prompt, options });
    await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
    await new Promise((resolve) => setTimeout(resolve, 2000));
    await cdp.send("Page.setWebLifecycleState", { state: "active" });
    same("ids", await running, native);
    await cdp.detach();
  });

  await run("a second tab loads from storage, and what it uses is not deleted", async () => {
    const before = server.log.filter(({ name }) => name === model).length;
    const second = await packagePage(context, server);
    same("ids", (await answer(second)).ids, native);
    same("requests", server.log.filter(({ name }) => name === model).length, before);
    const remove = (on) => on.evaluate(async () => {
      const [{ key }] = await pocketlm.models.list();
      return await pocketlm.models.remove(key).then(() => "deleted", ({ code }) => code);
    });
    await page.evaluate(() => engine.dispose());
    same("deleting what the second tab uses", await remove(page), "in-use");
    await second.close();
  });

  await run("a load is cancelled at once, and gives back what it held", async () => {
    const cancel = (source) => page.evaluate(async (source) => {
      const abort = new AbortController();
      let begun = 0;
      const onProgress = ({ phase }) => phase === "uploading" && (begun ||= performance.now(), abort.abort());
      const error = await pocketlm.Engine.load(source, { signal: abort.signal, onProgress }).catch((error) => error);
      const { held } = await navigator.locks.query();
      return { name: error.name, ms: performance.now() - begun, held: held.map(({ name }) => name).filter((name) => name.startsWith("pocketlm")) };
    }, source);
    await page.evaluate(() => globalThis.engine?.dispose());
    for (const source of [model, { shape: "llama-3.2-1b" }]) {
      const { name, ms, held } = await cancel(source);
      same("error", name, "AbortError");
      same("locks", held, []);
      check("at once", ms < 2000, ms);
    }
  });

  await run("a block that storage has damaged is fetched again, or named", async () => {
    const damage = () => page.evaluate(async () => {
      globalThis.engine?.dispose();
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("pocketlm-models");
      const [{ key }] = await pocketlm.models.list();
      const file = await (await folder.getDirectoryHandle(key)).getFileHandle("model.bin");
      const writer = await file.createWritable({ keepExistingData: true });
      await writer.write({ type: "write", position: 50e6, data: new Uint8Array(1000).fill(77) });
      await writer.close();
    });
    await damage();
    server.log.length = 0;
    same("ids", (await answer()).ids, native);
    same("what was fetched", server.log.filter(({ name }) => name === model).map(({ range }) => range), ["bytes=46137344-50331647"]);
    server.log.length = 0;
    same("ids the next time", (await answer()).ids, native);
    same("what was fetched the next time", server.log.filter(({ name }) => name === model), []);
    await damage();
    server.down = "models";
    const error = await errorOf(page);
    server.down = false;
    // It may be whole again once there is a connection.
    same("code", error?.code, "network");
    same("models that can only be deleted", await page.evaluate(async () => (await pocketlm.models.list()).filter(({ damaged }) => damaged)), []);
    check("it names the block", /block 11 of .* is damaged/.test(error.message), error.message);
  });

  await run("what cannot be is refused before it is fetched, in words", async () => {
    await page.evaluate(() => globalThis.engine?.dispose());
    const fetched = () => server.log.filter(({ name, range }) => name === model && range !== "bytes=0-0").length;
    server.log.length = 0;
    const full = await page.evaluate(async (model) => {
      const real = StorageManager.prototype.estimate;
      StorageManager.prototype.estimate = async () => ({ usage: 100e6, quota: 150e6 });
      try {
        await pocketlm.Engine.load(`${model}?another`);
      } catch ({ code, message }) {
        return { code, message };
      } finally {
        StorageManager.prototype.estimate = real;
      }
    }, model);
    same("code", full?.code, "quota");
    check("it says how much is missing", /98 MB are still to come, .* 50 MB more; 65 MB are missing/.test(full.message), full.message);
    same("blocks fetched", fetched(), 0);
    server.log.length = 0;
    const long = await errorOf(page, { model: `${model}?third`, load: { context: 16_000_000 } });
    same("code", long?.code, "too-large");
    check("it names a context that fits", /`context` \d+ is the longest/.test(long.hint), long.hint);
    check("little was fetched", (await page.evaluate(() => pocketlm.models.list())).every(({ url, storedBytes }) => !url.endsWith("third") || storedBytes < 40e6));
    same("code", (await errorOf(page, { model: "/models/none.gguf" }))?.code, "network");
    // A disk that fills up on the way, as far as Chromium plays it.
    const cdp = await context.newCDPSession(page);
    await cdp.send("Storage.overrideQuotaForOrigin", { origin: new URL(server.url).origin, quotaSize: 150e6 });
    const filled = await errorOf(page, { model: `${model}?fourth` });
    same("code", filled?.code, "quota");
    await cdp.send("Storage.overrideQuotaForOrigin", { origin: new URL(server.url).origin });
    same("the model that was whole before", (await answer()).ids, native);
    await page.evaluate(async (model) => {
      for (const { key, url } of await pocketlm.models.list()) if (!url.endsWith(model)) await pocketlm.models.remove(key);
    }, model);
    same("models", (await page.evaluate(() => pocketlm.models.list())).length, 1);
  });

  await run("WebGPU's default limits are enough, without any feature", async () => {
    const second = await packagePage(context, server);
    same("subgroups, where there are some", await second.evaluate(async () => (await pocketlm.adapters()).some(({ subgroups }) => subgroups)), true);
    const { ids, adapter } = await answer(second, { load: { limits: "default", features: "none" } });
    same("ids", ids, native);
    same("subgroups", adapter.subgroups, false);
    same("limits", [adapter.max_binding_bytes, adapter.max_buffer_bytes, adapter.max_workgroup_bytes], [128 << 20, 256 << 20, 16 << 10]);
    await second.close();
  });
  await run("nothing else was complained of", () => same("complaints", page.complaints.filter((text) => !/Failed to load resource/.test(text)), []));
  await close();
}
