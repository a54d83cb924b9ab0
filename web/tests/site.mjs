// The site without a model: a pretended worker answers, so that what is tested is what the pages make of it, at the moments
// that matter.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";
import { DESK, newPage, open, PHONE } from "./browser.mjs";
import { check, same } from "./check.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const worker = fs.readFileSync(path.join(here, "worker.js"), "utf8");
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A browser with the pretended worker, on a device that is as `given` says. */
async function pretend(given = {}, options = PHONE) {
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

/** The model that the tests' server offers: no other server is asked for anything. */
const LOCAL = "Download SmolLM2-135M-Instruct";
export const button = (page, name) => page.getByRole("button", { name });
export const visible = (page, text) => page.getByText(text).first().waitFor({ timeout: 120_000 });
const settings = (page, more = {}) => page.evaluate((more) => localStorage.setItem("settings", JSON.stringify({ maxTokens: 1000, ...more })), more);
const write = async (page, text) => {
  await page.locator("#prompt:not([disabled])").fill(text);
  await button(page, "Send").click();
};
const words = (page, n) => page.locator(".message.assistant", { hasText: `word${n} ` }).waitFor({ timeout: 120_000 });
/** What is kept, as whoever opens the site finds it. */
const kept = (page) => page.evaluate(() => new Promise((resolve, reject) => {
  const request = indexedDB.open("pocketlm", 1);
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const all = request.result.transaction("chats").objectStore("chats").getAll();
    all.onsuccess = () => (request.result.close(), resolve(all.result));
  };
}));
const roles = (messages) => messages.map(({ role }) => role[0]).join("");
export const until = async (what, holds) => {
  const end = Date.now() + 120_000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`never so: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};

export async function siteTests(run, { server }) {
  await conversations(run, server);
  await devices(run, server);
  await access(run, server);
  await run("site: hostile Markdown stays text, and deep Markdown does not overflow", () => markdown(server));
}

async function conversations(run, server) {
  // Each test in a browser of its own, which has kept nothing yet.
  const alone = (name, test) => run(`site: ${name}`, async () => {
    const { context, close } = await pretend();
    try {
      await test(context, (more) => tab(context, more));
    } finally {
      await close();
    }
  });
  const tab = async (context, more) => {
    const page = await newPage(context, server.url);
    await settings(page, more);
    await button(page, LOCAL).click();
    await page.locator("#prompt:not([disabled])").waitFor();
    return page;
  };
  const drop = async (page) => {
    await button(page, "Conversations and pages").click();
    await button(page, "Delete the conversation").first().click();
  };

  await alone("a conversation that is deleted while its answer comes stays deleted", async (context, tab) => {
    const page = await tab();
    await write(page, "First");
    await words(page, 3);
    await drop(page);
    await page.keyboard.press("Escape");
    await button(page, "Send").waitFor();
    await page.waitForTimeout(1500);
    same("kept", await kept(page), []);
    same("complaints", page.complaints, []);
  });

  await alone("a reply outlives a page that is closed in the middle", async (context, tab) => {
    // As a person closes it, and as a phone's system ends it.
    for (const kill of [false, true]) {
      let page = await tab();
      await write(page, "Second");
      await words(page, 80);
      if (kill) {
        const cdp = await context.newCDPSession(page);
        cdp.send("Page.crash").catch(() => undefined);
        await page.waitForEvent("crash");
      } else {
        await Promise.all([page.waitForEvent("close"), page.close({ runBeforeUnload: true })]);
      }
      page = await newPage(context, server.url);
      await words(page, 20);
      const [{ messages }] = await kept(page);
      same("messages", roles(messages), "ua");
      await drop(page);
      await until("it is deleted", async () => (await kept(page)).length === 0);
      await page.close();
    }
  });

  await alone("two tabs see each other's conversations, and neither writes over the other", async (context, tab) => {
    const one = await tab({ maxTokens: 3 });
    await write(one, "From one");
    await one.locator(".rate").waitFor();
    const two = await tab({ maxTokens: 3 });
    await write(two, "From two");
    await visible(one, "Answer 3: word1 word2");
    await write(one, "From one again");
    await visible(two, "Answer 5: word1 word2");
    same("conversations", (await kept(one)).map(({ messages }) => roles(messages)), ["uauaua"]);
    // One answers, and the other goes on meanwhile: then the first goes on with a copy.
    for (const page of [one, two]) await settings(page, { maxTokens: 80 });
    await write(one, "At once, one");
    await visible(two, "At once, one");
    await write(two, "At once, two");
    await until("both answers are kept", async () => (await kept(one)).filter(({ messages }) => /word79/.test(messages.at(-1).content)).length === 2);
    const both = (await kept(one)).map(({ messages }) => messages.filter(({ role }) => role === "user").map(({ content }) => content).join("; ")).sort();
    same("conversations", both, ["From one; From two; From one again; At once, one", "From one; From two; From one again; At once, one; At once, two"]);
    same("tabs that say so", await Promise.all([one, two].map((page) => page.getByText("a conversation of its own").count())), [1, 0]);
    // Deleted in one, gone in the other.
    const shown = await two.locator(".message.user").last().textContent();
    await button(one, "Conversations and pages").click();
    for (let n = 2; n > 0; n--) {
      same("in the list", await button(one, "Delete the conversation").count(), n);
      await button(one, "Delete the conversation").first().click();
      await until("one less", async () => (await button(one, "Delete the conversation").count()) === n - 1);
    }
    await until("the other tab shows none", async () => (await two.locator(".message").count()) === 0);
    check("it showed one", shown.includes("At once"), shown);
    same("kept", await kept(one), []);
    for (const page of [one, two]) same("complaints", page.complaints, []);
  });

  await alone("what the browser refuses to keep is said, once", async (context, tab) => {
    const page = await tab({ maxTokens: 120 });
    const cdp = await context.newCDPSession(page);
    const origin = new URL(server.url).origin;
    await cdp.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 1 });
    await write(page, "Third");
    await words(page, 100);
    await visible(page, "This browser does not keep conversations");
    same("alerts", await page.getByRole("alert").count(), 1);
    // Once there is room again, it is kept and no more is said.
    await cdp.send("Storage.overrideQuotaForOrigin", { origin });
    await page.locator(".rate").waitFor();
    same("alerts", await page.getByRole("alert").count(), 0);
  });

  await alone("there are never two answers in a row, and the focus stays in the conversation", async (context, tab) => {
    const page = await tab();
    const focus = () => page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.id ?? document.activeElement.tagName);
    await write(page, "Fourth");
    await words(page, 3);
    // Edited while the answer comes: it makes way.
    await button(page, "Edit").click();
    await page.getByRole("textbox", { name: "Edit your message" }).fill("Fourth, again");
    await page.locator("#messages").getByRole("button", { name: "Send" }).click();
    await page.locator(".message.user", { hasText: "again" }).waitFor();
    await words(page, 3);
    await button(page, "Stop").click();
    await button(page, "Regenerate").waitFor();
    await button(page, "Regenerate").focus();
    await page.keyboard.press("Enter");
    await words(page, 3);
    same("focus while it answers", await focus(), "Stop");
    await page.keyboard.press("Enter");
    await button(page, "Regenerate").waitFor();
    same("focus afterwards", await focus(), "The model");
    same("kept", (await kept(page)).map(({ messages }) => roles(messages) + messages[0].content), ["uaFourth, again"]);
    const said = await page.evaluate(() => globalThis.said);
    same("answers that were announced, all when they were over", said.filter((text) => text.startsWith("Answer stopped")).length, 3);
    check("nothing in between", said.length === 5, JSON.stringify(said));
  });

  /** Several things in one turn of the page, before anything that they begin has ended. */
  const atOnce = (page, texts, then) => page.evaluate(([texts, then]) => {
    for (const text of texts) {
      document.getElementById("prompt").value = text;
      document.getElementById("form").requestSubmit();
    }
    if (then) document.getElementById(then).click();
  }, [texts, then]);
  const asked = ({ messages }) => messages.filter(({ role }) => role === "user").map(({ content }) => content).join();

  await alone("without a model nothing that was answered is given up", async (context, tab) => {
    let page = await tab({ maxTokens: 3 });
    await write(page, "Question");
    await page.locator(".rate").waitFor();
    await page.reload();
    await visible(page, "Answer 1: word1 word2");
    const before = await kept(page);
    for (const name of ["Regenerate", "Edit"]) {
      same(`${name} is disabled`, await button(page, name).isDisabled(), true);
      // A finger that is faster than the page.
      await button(page, name).evaluate((element) => ((element.disabled = false), element.click()));
    }
    await page.getByRole("textbox", { name: "Edit your message" }).fill("Other");
    await page.locator("#messages form").evaluate((form) => form.requestSubmit());
    await page.waitForTimeout(500);
    same("kept", await kept(page), before);
    await button(page, "Cancel").click();
    await button(page, LOCAL).click();
    await page.locator("#prompt:not([disabled])").waitFor();
    await button(page, "Regenerate").click();
    await page.locator(".rate").waitFor();
    same("kept", (await kept(page)).map(({ messages }) => roles(messages)), ["ua"]);
    // A model that goes takes the buttons along.
    await page.locator("#model").click();
    same("Regenerate is disabled", await button(page, "Regenerate").isDisabled(), true);
    same("complaints", page.complaints, []);
  });

  await alone("messages sent in quick succession are all kept, and the last is answered", async (context, tab) => {
    const page = await tab({ maxTokens: 40 });
    await write(page, "a");
    await words(page, 3);
    await atOnce(page, ["b", "c"]);
    await page.locator(".rate").waitFor();
    await page.locator(".message.assistant", { hasText: "word39" }).waitFor();
    const [chat, ...rest] = await kept(page);
    same("conversations", rest.length, 0);
    same("kept", [asked(chat), roles(chat.messages)], ["a,b,c", "uauua"]);
    same("shown", await page.locator(".message").count(), 5);
    same("complaints", page.complaints, []);
  });

  await alone("a message goes into the conversation that was shown when it was sent", async (context, tab) => {
    const page = await tab({ maxTokens: 200 });
    await write(page, "a");
    await words(page, 3);
    await atOnce(page, ["b"], "new");
    await until("b is kept", async () => asked((await kept(page))[0]) === "a,b");
    same("conversations", (await kept(page)).map(({ messages }) => roles(messages)), ["uau"]);
    same("shown", await page.locator(".message").count(), 0);
    await write(page, "c");
    await words(page, 3);
    same("conversations", (await kept(page)).map(asked).sort(), ["a,b", "c"]);
    same("complaints", page.complaints, []);
  });

  await alone("looking at conversations while one is answered makes no copy", async (context, tab) => {
    const page = await tab({ maxTokens: 400 });
    const listed = (name) => page.locator("#chats li > button:first-child", { hasText: name });
    for (const name of ["first", "second"]) {
      if (name === "second") await page.evaluate(() => document.getElementById("new").click());
      await write(page, name);
      await words(page, 3);
    }
    await button(page, "Conversations and pages").click();
    await listed("second").click();
    await words(page, 20);
    await button(page, "Conversations and pages").click();
    await listed("first").click();
    await page.locator(".message.user", { hasText: "first" }).waitFor();
    await button(page, "Conversations and pages").click();
    await listed("second").click();
    // What had come by then is there.
    await words(page, 20);
    await write(page, "third");
    await page.locator(".message.assistant").nth(1).waitFor();
    same("conversations", (await kept(page)).map(asked).sort(), ["first", "second,third"]);
    same("told", await page.locator("#kept").textContent(), "");
    same("complaints", page.complaints, []);
  });

  await alone("what cannot be read in the store does not keep the page from working", async (context, tab) => {
    let page = await tab({ maxTokens: 3 });
    await write(page, "Sound");
    await page.locator(".rate").waitFor();
    await page.evaluate(() => new Promise((resolve) => {
      const request = indexedDB.open("pocketlm", 1);
      request.onsuccess = () => {
        const transaction = request.result.transaction("chats", "readwrite");
        const updated = Date.now() + 1e6;
        for (const [id, rest] of Object.entries({ a: {}, b: { messages: "text" }, c: { messages: [{ role: "user", content: null }] }, d: { messages: [null] }, e: { messages: null, updated: "x" } })) transaction.objectStore("chats").put({ id, title: "Broken", updated, revision: 1, ...rest });
        transaction.oncomplete = () => (request.result.close(), resolve());
      };
    }));
    await page.reload();
    await button(page, LOCAL).waitFor();
    await visible(page, "Answer 1: word1 word2");
    same("listed", await page.locator("#chats li").count(), 1);
    same("complaints", page.complaints, []);
  });

  await run("site: a conversation that is full says so", async () => {
    const { context, close } = await pretend({ full: 5 });
    const page = await newPage(context, server.url);
    await settings(page);
    await button(page, LOCAL).click();
    await write(page, "Much");
    await visible(page, "This conversation is full");
    await page.locator("#messages").getByRole("button", { name: "New conversation" }).click();
    same("shown", await page.locator(".message").count(), 0);
    await close();
  });

  await run("site: a load makes way for another choice, also where the server says nothing", async () => {
    const { context, close } = await pretend({ slow: 10_000 });
    const page = await newPage(context, server.url);
    await button(page, LOCAL).click();
    await visible(page, "Loading SmolLM2-135M-Instruct");
    await page.route("**/models/", () => undefined);
    await page.locator("#model").click();
    await button(page, "Download SmolLM2 360M").waitFor();
    const stopped = await page.evaluate(() => calls.filter(({ method }) => method === "load").map(({ id }) => calls.some(({ abort }) => abort === id)));
    same("loads that were stopped", stopped, [true]);
    same("complaints", page.complaints, []);
    await close();
  });

  await run("site: long answers leave the page usable while they come", async () => {
    const LENGTH = 16_000;
    const table = "| name | value | **what** it is |\n|---|---|---|\n" + "| some `name` | 12.5 | a few *words* on it |\n".repeat(400);
    const texts = {
      table,
      code: "Look:\n\n```rust\n" + "    let value = compute(&input[..n], 12); // a line\n".repeat(400),
      prose: "A sentence of **some** words, with `code` and [a link](https://example.com), goes on for a while. ".repeat(5).concat("\n\n").repeat(40),
      list: "- an item with **some** words and `code` in it\n".repeat(400),
    };
    const told = [];
    const longestTask = async (text) => {
      const { context, close } = await pretend({ text });
      const page = await newPage(context, server.url);
      await settings(page);
      await button(page, LOCAL).click();
      await page.locator("#prompt:not([disabled])").waitFor();
      await page.evaluate(() => {
        globalThis.tasks = [];
        new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
      });
      await write(page, "Long");
      await page.locator(".rate").waitFor({ timeout: 120_000 });
      const longest = Math.max(0, ...(await page.evaluate(() => tasks)));
      await close();
      return longest;
    };
    for (const [name, text] of Object.entries(texts)) {
      // A machine that is held up looks like a long task, but not three times.
      let longest = Infinity;
      for (let n = 0; n < 3 && longest >= 200; n++) longest = Math.min(longest, await longestTask(text.slice(0, LENGTH)));
      told.push(`${name} ${longest} ms`);
      check(`no task is long with a ${name}`, longest < 200, longest);
    }
    return `longest tasks: ${told.join(", ")} (0: none above 50)`;
  });

  await run("site: an answer that breaks off can be asked for again", async () => {
    const { context, close } = await pretend({ failing: true });
    const page = await newPage(context, server.url);
    await settings(page);
    await button(page, LOCAL).click();
    await write(page, "Fifth");
    for (let n = 0; n < 2; n++) {
      await page.getByRole("alert").waitFor();
      await button(page, "Try again").click();
      await page.getByRole("alert").waitFor({ state: "detached" });
    }
    await page.getByRole("alert").waitFor();
    same("kept", (await kept(page)).map(({ messages }) => roles(messages)), ["ua"]);
    await close();
  });

  await run("site: a model gets its own context, what was asked for, or what fits", async () => {
    for (const [given, asked, opened] of [[{ context: 4096 }, undefined, 4096], [{ context: 2048 }, 9999, 2048], [{ context: 8192 }, 9999, 8192], [{ context: 4096 }, 1000, 1000], [{ context: 4096, fits: 777 }, undefined, 777]]) {
      const { context, close } = await pretend(given);
      const page = await newPage(context, server.url);
      await settings(page, { maxTokens: 2, context: asked });
      await button(page, LOCAL).click();
      await write(page, "Hi");
      await page.locator(".rate").waitFor();
      const found = await page.evaluate(() => calls.filter(({ method }) => method === "load" || method === "session").map(({ method, args }) => (method === "load" ? args[1] : args[0]).context ?? null));
      same("asked for first", found[0], asked ?? null);
      same("opened", found.at(-1), opened);
      await button(page, "Settings").click();
      await visible(page, `The loaded model has ${opened} tokens`);
      await close();
    }
  });
}

async function devices(run, server) {
  await run("site: a browser without WebGPU, and a page without https, say so in plain words", async () => {
    const { context, close } = await open({ ...PHONE, serviceWorkers: "block", args: ["--headless=new", "--no-sandbox", "--host-resolver-rules=MAP pocketlm.test 127.0.0.1"] });
    await context.addInitScript(() => delete Navigator.prototype.gpu);
    for (const name of ["", "gpu.html", "doctor.html"]) {
      const page = await newPage(context, server.url + name);
      await page.getByRole("alert").waitFor();
      const text = await page.getByRole("alert").textContent();
      check(`${name} says what to do`, /no WebGPU/.test(text) && /Chrome/.test(text), text);
      await page.goto(server.url.replace("localhost", "pocketlm.test") + name);
      await page.getByText("begins with https").waitFor();
      same("complaints", page.complaints.filter((text) => !/Failed to load|Cross-Origin-Opener-Policy/.test(text)), []);
      await page.close();
    }
    await close();
  });

  await run("site: shapes begin with what fits, and make way for smaller ones", async () => {
    const cases = [
      [DESK, {}, 8, "phi-3-mini"], [DESK, {}, 4, "qwen2.5-1.5b"], [PHONE, {}, 8, "qwen2.5-1.5b"], [PHONE, {}, 4, "smollm2-135m"],
      [DESK, { adapter: { max_binding_bytes: 128 << 20 } }, 8, "smollm2-135m"],
    ];
    for (const [options, given, memory, wanted] of cases) {
      const { context, close } = await pretend(given, options);
      await context.addInitScript((memory) => Object.defineProperty(Navigator.prototype, "deviceMemory", { value: memory }), memory);
      const page = await newPage(context, `${server.url}gpu.html`);
      same(`with ${memory} GB`, await page.getByLabel("Shape").inputValue(), wanted);
      await close();
    }
    const { context, close } = await pretend({ tooLarge: ["mixtral-8x7b", "phi-3-mini", "qwen2.5-1.5b"] });
    const page = await newPage(context, `${server.url}gpu.html`);
    for (const shape of ["phi-3-mini", "mixtral-8x7b"]) {
      await page.getByLabel("Shape").selectOption(shape);
      await button(page, "Measure speed").click();
      await visible(page, "too much for this GPU, so smollm2-135m is measured instead");
      await button(page, "Save JSON").waitFor();
    }
    await close();
  });

  await run("site: a result travels in a link, as text only", async () => {
    const { context, close } = await pretend({ adapter: { name: "Somebody's <b>GPU</b>" } });
    const page = await newPage(context, `${server.url}gpu.html`);
    await page.evaluate(() => (navigator.clipboard.writeText = async (text) => (globalThis.copied = text)));
    for (const [measure, text] of [["Measure speed", "12.5"], ["Measure kernels", "matvec <img src=x> 80 %"]]) {
      await button(page, measure).click();
      await button(page, "Copy link").click();
      await page.waitForFunction(() => globalThis.copied);
      const link = await page.evaluate(() => copied);
      await page.evaluate(() => (copied = undefined));
      check("it can be sent", link.length < 1000, link.length);
      const other = await newPage(context, link);
      await visible(other, text);
      await visible(other, "Somebody's <b>GPU</b>");
      same("elements that came with it", await other.locator("#content img, #content b").count(), 0);
      await other.close();
    }
    const cut = await newPage(context, `${server.url}gpu.html#result=abc`);
    await visible(cut, "cannot be read");
    await close();
  });

  await run("site: a damaged model can only be deleted, and a local file may have any name", async () => {
    const { context, close } = await pretend();
    const name = "50% of #1?.gguf";
    await context.route("**/models/", (route) => route.fulfill({ json: [{ name, size: 1e6 }] }));
    const page = await newPage(context, `${server.url}doctor.html`);
    await page.evaluate(async () => {
      const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("pocketlm-models", { create: true });
      const file = await (await models.getDirectoryHandle("torn", { create: true })).getFileHandle("model.bin", { create: true });
      const writer = await file.createWritable();
      await writer.write(new Uint8Array(2e6));
      await writer.close();
    });
    await page.goto(server.url);
    await visible(page, "2 MB, of no use any more");
    same("ways to run it", await button(page, /^(Start|Resume)/).count(), 0);
    await button(page, "Delete Damaged model torn").click();
    await until("it is gone", async () => (await page.getByText("of no use any more").count()) === 0);
    await button(page, `Download ${name.replace(".gguf", "")}`).click();
    await page.locator("#prompt:not([disabled])").waitFor();
    const [{ args }] = await page.evaluate(() => calls.filter(({ method }) => method === "load"));
    same("what is loaded", [args[0].name, args[0].url], [name, `${server.url}models/50%25%20of%20%231%3F.gguf`]);
    await close();
  });

  await run("site: a size that is not as announced is asked about", async () => {
    const { context, close } = await pretend();
    await context.route("https://huggingface.co/**", (route) => route.fulfill({ status: 206, headers: { "content-range": "bytes 0-0/700000000", "access-control-allow-origin": "*", "access-control-expose-headers": "content-range" }, body: "x" }));
    const page = await newPage(context, server.url);
    await button(page, "Download SmolLM2 360M, 386 MB").click();
    await visible(page, "a file of 700 MB, not of 386 MB");
    same("loads before the answer", await page.evaluate(() => calls.length), 0);
    await button(page, "Cancel").click();
    await page.getByText("Use a model of your own").click();
    await page.getByLabel("A file on Hugging Face").fill("javascript:alert(1)//x.gguf");
    await page.locator("details form button").click();
    await visible(page, "this is no address of a model");
    await page.getByLabel("A file on Hugging Face").fill("someone/some-repo/some.gguf");
    await page.locator("details form button").click();
    await button(page, "Download 700 MB").click();
    await page.locator("#prompt:not([disabled])").waitFor();
    await close();
  });
}

async function access(run, server) {
  await run("site: the doctor tells listeners little, and after a stop claims no more than it knows", async () => {
    const { context, close } = await pretend({ fails: 5 });
    const page = await newPage(context, `${server.url}doctor.html`);
    await button(page, "Examine this GPU").click();
    await page.locator("tbody tr").nth(20).waitFor();
    await button(page, "Stop").click();
    await visible(page, /Stopped after \d+ variants, of which 1 fail/);
    const said = await page.evaluate(() => globalThis.said);
    same("said", said.map((text) => text.replace(/\d+ variants.*/, "…")), ["Examining this GPU", "variant 5 fails", "Stopped after …"]);
    same("live regions", await page.locator("#content [role=status], #content [aria-live]").count(), 0);
    await close();
  });

  await run("site: the drawer takes the focus and gives it back", async () => {
    const { context, close } = await pretend();
    for (const name of ["", "gpu.html"]) {
      const page = await newPage(context, server.url + name);
      const menu = page.locator("#menu");
      const inert = () => page.evaluate(() => document.querySelector("main").inert && document.querySelector("header").inert);
      same("closed", await page.evaluate(() => getComputedStyle(document.getElementById("side")).visibility), "hidden");
      for (const end of ["Escape", "shade"]) {
        await menu.click();
        same("behind is inert", await inert(), true);
        check("the focus is in it", await page.evaluate(() => document.getElementById("side").contains(document.activeElement)));
        for (let n = 0; n < 12; n++) {
          await page.keyboard.press("Tab");
          check("Tab stays out of what is behind", await page.evaluate(() => !document.activeElement.closest("main, header")));
        }
        if (end === "Escape") await page.keyboard.press("Escape");
        else await button(page, "Close").click({ position: { x: 380, y: 400 } });
        same("behind is inert", await inert(), false);
        same("focus", await page.evaluate(() => document.activeElement.id), "menu");
      }
      await page.close();
    }
    await close();
  });

  for (const scheme of ["light", "dark"]) {
    await run(`site: pages pass axe and can be touched, in ${scheme}`, async () => {
      const { context, close } = await pretend({}, { ...PHONE, colorScheme: scheme });
      const shots = process.env.SHOTS;
      const examine = async (page, where) => {
        if (shots) {
          for (const [name, size] of [["phone", PHONE.viewport], ["laptop", { width: 1280, height: 800 }]]) {
            await page.setViewportSize(size);
            await page.waitForTimeout(200);
            await page.screenshot({ path: `${shots}/${where.replaceAll(" ", "-")}-${name}-${scheme}.png` });
          }
          await page.setViewportSize(PHONE.viewport);
        }
        await page.evaluate(axe);
        const found = await page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"] }));
        same(`axe on ${where}`, found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, any }) => `${html} ${any[0]?.message ?? ""}`).join("; ")}`), []);
        const small = await page.evaluate(() => [...document.querySelectorAll("button, a, input, select, textarea, summary")]
          .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.closest(".unseen, p"))
          .map((element) => [element.closest("label") ?? element, element.outerHTML.slice(0, 80)])
          .map(([element, html]) => [element.getBoundingClientRect(), html])
          .filter(([box]) => box.height < 43.9 || box.width < 43.9).map(([box, html]) => `${box.width}x${box.height} ${html}`));
        same(`what is too small to touch on ${where}`, small, []);
      };
      const page = await newPage(context, server.url);
      await button(page, "Download").first().waitFor();
      await examine(page, "choice");
      await page.getByText("Use a model of your own").click();
      await examine(page, "own model");
      await settings(page, { maxTokens: 30 });
      await button(page, LOCAL).click();
      await write(page, "Hello, what can you do for me?");
      await words(page, 5);
      await examine(page, "answering");
      await page.locator(".rate").waitFor();
      await button(page, "Edit").click();
      await examine(page, "editing");
      await button(page, "Conversations and pages").click();
      await examine(page, "drawer");
      await page.keyboard.press("Escape");
      await button(page, "Settings").click();
      await examine(page, "settings");
      await page.goto(`${server.url}gpu.html`);
      await button(page, "Measure speed").click();
      await button(page, "Copy link").waitFor();
      await examine(page, "gpu");
      await page.goto(`${server.url}doctor.html`);
      await button(page, "Examine this GPU").click();
      await page.locator("tbody tr").nth(8).waitFor();
      await button(page, "Stop").click();
      await visible(page, "Stopped after");
      await examine(page, "doctor");
      await close();
    });
  }
}

/** What a model might write, by accident or on command. */
async function markdown(server) {
  const code = await build({
    stdin: { contents: 'import { growing, render } from "./site/markdown.ts"; Object.assign(globalThis, { growing, render });', resolveDir: path.join(here, "..") },
    bundle: true, write: false, format: "esm", target: "es2022",
  });
  const { context, close } = await open();
  const page = await newPage(context, `${server.url}tests/blank.html`);
  await page.addScriptTag({ type: "module", content: code.outputFiles[0].text });
  await page.waitForFunction(() => globalThis.render);
  const told = await page.evaluate(() => {
    const PIECES = ["<script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "[a](javascript:window.hit=1)", "[a](JavaScript:x)", "[a](data:text/html,x)", "[ok](https://example.com/\"onclick=x)", "<svg/onload=hit>", "**", "__", "*", "_", "`", "```", "~~~", "> ", ">", "- ", "1. ", "# ", "| ", "|", "---", "\n", "\n\n", "    ", "&lt;", "&#x3C;b>", "[", "](", ")", "word", "\\", "\u202e", "0", "{{", "<!--", "999999999999. ", "````", "\n```js\n", "\n| word | b |", "\n|---|---|", "\n| a | word |\n"];
    let seed = 1;
    const random = (n) => ((seed = (seed * 1103515245 + 12345) % 2 ** 31) >>> 8) % n;
    const ALLOWED = "P BR H2 H3 HR PRE CODE STRONG EM A UL OL LI BLOCKQUOTE TABLE TBODY TR TD TH".split(" ");
    const target = document.body.appendChild(document.createElement("div"));
    const look = (text) => {
      const begun = performance.now();
      render(target, text);
      for (const element of target.querySelectorAll("*")) {
        let depth = 0;
        for (let parent = element; parent !== target; parent = parent.parentElement) depth += 1;
        if (depth > 60) throw new Error(`elements ${depth} deep out of ${text.slice(0, 100)}`);
        if (!ALLOWED.includes(element.tagName)) throw new Error(`${element.tagName} out of ${text}`);
        for (const { name, value } of element.attributes) {
          const fine = ["tabindex", "start", "target", "rel"].includes(name) || (name === "href" && /^https?:/.test(value));
          if (!fine) throw new Error(`${name}=${value} out of ${text}`);
        }
      }
      return performance.now() - begun;
    };
    let longest = 0;
    let worst = "";
    // What is said stays on the page, except beside a fence, where the name of a language is.
    const count = (text) => text.split("word").length - 1;
    for (let n = 0; n < 3000; n++) {
      const text = Array.from({ length: 1 + random(40) }, () => PIECES[random(PIECES.length)]).join("");
      look(text);
      const said = count(text.split("\n").filter((line) => !/```|~~~/.test(line)).join("\n"));
      if (count(target.textContent) < said) throw new Error(`words are lost of ${JSON.stringify(text)}: ${target.innerHTML}`);
      // It comes in pieces, and ends as if it had come at once.
      const whole = target.innerHTML;
      target.replaceChildren();
      const grow = growing(target);
      for (let end = 0; end < text.length; ) grow(text.slice(0, (end += 1 + random(12))));
      if (target.innerHTML !== whole) throw new Error(`in pieces ${JSON.stringify(text)} becomes ${target.innerHTML}, and not ${whole}`);
    }
    // One piece for ever, in a line and in lines, and each as deep as it goes.
    for (const piece of PIECES) {
      for (const text of [piece.repeat(120_000 / piece.length), `${piece}a `.repeat(2000), `${piece}\n`.repeat(2000), Array.from({ length: 1000 }, (_, n) => " ".repeat(2 * n) + piece + "x").join("\n"), `${piece.repeat(1990 / piece.length)}a${piece.repeat(1990 / piece.length)}`]) {
        const took = look(text);
        if (took > longest) [longest, worst] = [took, text.slice(0, 20)];
      }
    }
    if (globalThis.hit) throw new Error("a script ran");
    render(target, "> a\n> > b\n\n1. x\n   - y\n\n**b** *i* `c` [l](https://example.com)");
    const { innerHTML: html } = target;
    render(target, "```npm install```\n\nthen\n\n````md\n```js\n1\n```\n````\nend");
    return { longest, worst, html, fences: target.innerHTML };
  });
  await close();
  same("what is meant still is", told.html, "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><ol start=\"1\"><li>x<ul><li>y</li></ul></li></ol><p><strong>b</strong> <em>i</em> <code>c</code> <a href=\"https://example.com\" target=\"_blank\" rel=\"noopener noreferrer\">l</a></p>");
  same("fences", told.fences, "<p><code>npm install</code></p><p>then</p><pre tabindex=\"0\"><code>```js\n1\n```</code></pre><p>end</p>");
  check("nothing takes long", told.longest < 2000, JSON.stringify([told.longest, told.worst]));
  return `longest ${Math.round(told.longest)} ms (${JSON.stringify(told.worst)})`;
}
