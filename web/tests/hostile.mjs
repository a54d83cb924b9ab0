// What the site must bear: words that models write on command, scripts that got into a page, storage that somebody changed.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { newPage, open } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { LOCAL, button, pretend, settings, until, visible, write } from "./pretend.mjs";

const WEB = fileURLToPath(new URL("..", import.meta.url));
/** Where a model may come from. */
const ELSEWHERE = "https://models.example.org/tiny.gguf";

export async function hostileTests(run, { server }) {
  await run("site: a script that got into a page does not run, and nothing that the site does is refused", async () => {
    const { context, close } = await pretend();
    await context.route(ELSEWHERE, (route) => route.fulfill({ body: "x", headers: { "access-control-allow-origin": "*" } }));
    const used = {
      "": async (page) => {
        await settings(page, { maxTokens: 3 });
        await button(page, LOCAL).click();
        await write(page, "Hi");
        await page.locator(".rate").waitFor();
        await button(page, "Settings").click();
        await button(page, "Keep").click();
      },
      "gpu.html": async (page) => {
        await button(page, "Measure kernels").click();
        await button(page, "Save the page").waitFor();
        const width = () => page.evaluate(() => {
          const svg = document.querySelector("iframe.report").contentDocument.querySelector("svg");
          return svg && getComputedStyle(svg).width;
        });
        await until("the report has its style", async () => (await width()) === "123px");
        await button(page, "Save the page").click();
      },
      "doctor.html": async (page) => {
        await button(page, "Examine this GPU").click();
        await page.locator("tbody tr").nth(2).waitFor();
        await button(page, "Stop").click();
        await visible(page, "Stopped after");
      },
    };
    for (const [name, use] of Object.entries(used)) {
      const page = await newPage(context, server.url + name);
      await use(page);
      same("a model is fetched", await page.evaluate((url) => fetch(url).then(({ ok }) => ok), ELSEWHERE), true);
      // The script that the test puts into every frame is refused in the report's.
      same(`complaints of ${name}`, page.complaints.filter((text) => !/about:srcdoc.*sandboxed/.test(text)), []);
      const ran = await page.evaluate(async () => {
        globalThis.ran = [];
        const inject = (tag, more) => document.querySelector("main").appendChild(Object.assign(document.createElement(tag), more));
        inject("script", { textContent: "ran.push('element')" });
        inject("script", { src: "data:text/javascript,ran.push('data')" });
        inject("script", { src: "https://models.example.org/evil.js" });
        inject("div", { innerHTML: "<img src=x: onerror=\"ran.push('handler')\">" });
        inject("a", { href: "javascript:ran.push('link')" }).click();
        inject("iframe", { srcdoc: "<script>parent.ran.push('frame')</script>" });
        setTimeout("ran.push('text')");
        await fetch("http://models.example.org/").then(() => ran.push("plain"), () => undefined);
        await new Promise((resolve) => setTimeout(resolve, 300));
        return ran;
      });
      same(`what ran on ${name}`, ran, []);
      check("all of it was refused", page.complaints.filter((text) => /Content Security Policy/.test(text)).length >= 7, page.complaints);
      await page.close();
    }
    await close();
  });

  await run("site: settings that somebody spoiled are mended, and keep no page from working", async () => {
    const { context, close } = await pretend();
    const usual = { temperature: 0.7, topK: 40, topP: 0.95, minP: 0.05, repeatPenalty: 1 };
    const spoiled = [
      [{ maxTokens: 3 }, usual],
      [5, {}], ["text", {}], [[1], {}], [{ temperature: "hot", topK: null, seed: 7, system: {}, kv: "f17", maxTokens: 3 }, usual],
      [{ temperature: 99, topK: -5, topP: 0, minP: -1, repeatPenalty: 1e9, maxTokens: -3 }, { temperature: 2, topK: 0, topP: 0.01, minP: 0, repeatPenalty: 2, maxTokens: 1 }],
      [{ temperature: 0.333, topK: 1.5, seed: "18446744073709551616", maxTokens: 3 }, { temperature: 0.35, topK: 2 }],
      [{ seed: "12", context: 1, maxTokens: 3 }, { seed: 12 }],
    ];
    const page = await newPage(context, server.url);
    for (const [kept, wanted] of spoiled) {
      await page.evaluate((kept) => {
        localStorage.setItem("settings", JSON.stringify(kept));
        localStorage.setItem("theme", JSON.stringify({ dark: 1 }));
        localStorage.setItem("model", JSON.stringify(["x", { key: {} }]));
      }, kept);
      await page.reload();
      await button(page, LOCAL).click();
      await write(page, "Hi");
      await page.waitForFunction(() => calls.some(({ method }) => method === "generate"));
      const [options] = await page.evaluate(() => calls.filter(({ method }) => method === "generate").map(({ args }) => args[2]));
      for (const [name, value] of Object.entries(wanted)) same(`${name} of ${JSON.stringify(kept)}`, options[name], value);
      check("the seed is one", Number.isSafeInteger(options.seed) && options.seed >= 0, options.seed);
      await button(page, "Settings").click();
      same("fields that are not valid", await page.locator("#options :invalid").evaluateAll((all) => all.map(({ name, value }) => `${name}: ${value}`)), []);
      await page.locator("#option-seed").fill("1e999");
      check("no number that is none is kept", await page.locator("#option-seed").evaluate((field) => !field.value || !field.validity.valid));
      await page.locator("#option-seed").fill("1e3");
      await button(page, "Keep").click();
      same("the seed as it is kept", await page.evaluate(() => JSON.parse(localStorage.getItem("settings")).seed), "1000");
      same("theme", await page.evaluate(() => document.documentElement.dataset.theme ?? "none"), "none");
      await page.evaluate(() => document.getElementById("new").click());
    }
    same("complaints", page.complaints, []);
    await close();
  });

  await run("site: hostile Markdown stays text, and deep Markdown does not overflow", () => markdown(server));
}

/** What a model might write, by accident or on command. */
async function markdown(server) {
  const code = await build({
    stdin: { contents: 'import { growing, render } from "./site/markdown.ts"; Object.assign(globalThis, { growing, render });', resolveDir: WEB },
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
