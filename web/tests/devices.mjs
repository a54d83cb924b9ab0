// What the site says on devices that lack something, and the results that it measures and shares.
import { deflateRawSync } from "node:zlib";
import { DESK, newPage, open, PHONE } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { button, pretend, visible } from "./pretend.mjs";

export async function deviceTests(run, { server }) {
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

  await run("site: a link that holds something else is refused in plain words", async () => {
    const { context, close } = await pretend();
    const row = { test: "tg8", n_tokens: 8, depth: 0, median: 12.5, low: 12, high: 13, first_token_s: null, bandwidth_share: null, per_step: { dispatches: 7 } };
    const shared = { name: "Measure speed", shape: "tiny", adapter: "", report: { rows: [row] } };
    const cases = [
      [shared, /12.5/], [{ ...shared, report: undefined, text: "a table" }, /a table/],
      [null, /name is not/], ["text", /name is not/], [{ ...shared, name: { toString: 1 } }, /name is not/], [{ ...shared, shape: "x".repeat(1e5) }, /shape is not/],
      [{ ...shared, report: { rows: {} } }, /rows is not/], [{ ...shared, report: { rows: Array(5000).fill(row) } }, /rows is not/],
      [{ ...shared, report: { rows: [null] } }, /test is not/], [{ ...shared, report: { rows: [{ ...row, median: "1" }] } }, /median is not/],
      [{ ...shared, report: { rows: [{ ...row, high: 1e300 }] } }, /high is not/], [{ ...shared, report: { rows: [{ ...row, per_step: 0 }] } }, /dispatches is not/],
      [{ ...shared, report: { rows: [row], warnings: "none" } }, /warnings is not/], [{ ...shared, report: undefined }, /text is not/],
    ];
    for (const [held, words] of cases) {
      const packed = deflateRawSync(JSON.stringify(held)).toString("base64url");
      const page = await newPage(context, `${server.url}gpu.html#result=${packed}`);
      const found = page.locator("#content table, #content pre.overflow, #content .bad");
      await found.waitFor();
      const text = await found.textContent();
      check(`${JSON.stringify(held).slice(0, 200)} is shown or refused`, words.test(text), text.slice(0, 300));
      same("complaints", page.complaints, []);
      await page.close();
    }
    await close();
  });
}
