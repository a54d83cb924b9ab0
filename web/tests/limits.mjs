// What does not depend on a machine's speed: memory while models load, tasks of the page while one answers; and pages that
// have no WebGPU.
import { loading, newPage, open, packagePage } from "./browser.mjs";
import { check, same } from "./check.mjs";

const MEMORY_BYTES = 150 << 20;
/** Of weights, 2.1 GB in q4_0. */
const LARGE = { source: { shape: "phi-3-mini" }, options: { context: 256 } };

export async function limitTests(run, { server, model, prompt }) {
  const { context, close } = await open();
  const page = await packagePage(context, server);

  /** Bytes that scripts of the page and its workers hold, with wasm and buffers, at most while `work` runs. */
  const most = async (work) => {
    const cdp = await context.newCDPSession(page);
    // By worker, as it answered last; a worker that is gone holds nothing.
    const held = new Map();
    const peak = { bytes: 0, samples: 0 };
    const note = (who, { usedSize, embedderHeapUsedSize, backingStorageSize }) => {
      held.set(who, usedSize + embedderHeapUsedSize + backingStorageSize);
      peak.bytes = Math.max(peak.bytes, [...held.values()].reduce((sum, bytes) => sum + bytes));
    };
    cdp.on("Target.attachedToTarget", ({ sessionId }) => held.set(sessionId, 0));
    cdp.on("Target.detachedFromTarget", ({ sessionId }) => held.delete(sessionId));
    cdp.on("Target.receivedMessageFromTarget", ({ sessionId, message }) => {
      const { result } = JSON.parse(message);
      if (!result || !held.has(sessionId)) return;
      peak.samples++;
      note(sessionId, result);
    });
    await cdp.send("Target.setAutoAttach", { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
    const message = JSON.stringify({ id: 1, method: "Runtime.getHeapUsage" });
    const timer = setInterval(() => {
      for (const sessionId of held.keys()) if (sessionId !== page) cdp.send("Target.sendMessageToTarget", { sessionId, message }).catch(() => undefined);
      cdp.send("Runtime.getHeapUsage").then((usage) => note(page, usage), () => undefined);
    }, 50);
    const found = await work().finally(() => clearInterval(timer));
    await cdp.detach();
    return { ...peak, found };
  };
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

  await run("limits: memory is small while a model comes and goes to the GPU", async () => {
    const told = [];
    for (const [name, source, options] of [["SmolLM2", model, {}], ["2 GB", LARGE.source, LARGE.options]]) {
      const { bytes, samples, found } = await most(() => loading(page, source, options));
      same("error", found.message, undefined);
      check("it was watched", samples > 5, samples);
      check("memory is small", bytes < MEMORY_BYTES, mib(bytes));
      told.push(`${name}: ${mib(found.info.weightsBytes)} of weights, ${mib(bytes)} of memory`);
    }
    return told.join("; ");
  });
  await run("limits: memory that is held is seen", async () => {
    const { bytes } = await most(() => page.evaluate(async () => {
      const hold = `const held = new Uint8Array(300 << 20).fill(1); setTimeout(() => postMessage(held.length), 1000);`;
      const worker = new Worker(URL.createObjectURL(new Blob([hold])));
      await new Promise((resolve) => (worker.onmessage = resolve));
      worker.terminate();
    }));
    check("it is more than is allowed", bytes > MEMORY_BYTES, mib(bytes));
  });

  await run("limits: the page is not blocked while it answers", async () => {
    const longest = await page.evaluate(async ([model, prompt]) => {
      const engine = await pocketlm.Engine.load(model);
      const tasks = [];
      const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)));
      observer.observe({ type: "longtask" });
      // A machine that is held up looks like a long task, but not three times.
      let [unseen, blocked] = [0, [Infinity]];
      for (let n = 0; n < 3 && blocked.length > 0; n++) {
        for await (const _ of engine.session().generate(prompt, { maxTokens: 24 }));
        await new Promise((resolve) => setTimeout(resolve, 100));
        blocked = tasks.slice(unseen);
        unseen = tasks.length;
      }
      // One that is long, so that the observer is known to see them.
      setTimeout(() => { for (const start = performance.now(); performance.now() - start < 80;); });
      await new Promise((resolve) => setTimeout(resolve, 300));
      engine.dispose();
      return { blocked, own: tasks.length - unseen };
    }, [model, prompt]);
    same("tasks above 50 ms, the third time too", longest.blocked, []);
    same("the one of the test", longest.own, 1);
  });

  await run("limits: a context that the device cannot hold is refused with the longest that it can", async () => {
    const fit = (context) => loading(page, { shape: "tiny-llama" }, { context, limits: "default" });
    const { code, fits } = await fit(1e7);
    same("code", code, "too-large");
    check("one fits", fits > 4096 && fits < 1e7, fits);
    const { message, info } = await fit(fits);
    same("that one", message, undefined);
    same("one more", (await fit(fits + 1)).fits, fits);
    check("what is usual is no more than the model's own", info.context <= info.modelContext, JSON.stringify(info));
    return `${fits} tokens`;
  });

  await run("limits: a page without WebGPU is told what it needs", async () => {
    const errors = (on) => on.evaluate(async () => {
      const ways = [() => pocketlm.Engine.load("/models/none.gguf"), () => pocketlm.doctor(), () => pocketlm.bench({ shape: "tiny-llama" })];
      return await Promise.all(ways.map((way) => way().catch(({ code, message, hint }) => ({ code, message, hint }))));
    });
    await page.evaluate(() => delete Navigator.prototype.gpu);
    const plain = await newPage(context, server.url.replace("localhost", "insecure.test") + "tests/blank.html");
    await plain.waitForFunction(() => globalThis.pocketlm);
    for (const [on, words, next] of [[page, /no WebGPU/, /Chrome/], [plain, /plain http/, /https.*localhost/]]) {
      for (const { code, message, hint } of await errors(on)) {
        same("code", code, "no-webgpu");
        check("it says what and what next", words.test(message) && next.test(hint), `${message} ${hint}`);
      }
    }
  });
  await close();
}
