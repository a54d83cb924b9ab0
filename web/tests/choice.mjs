// Choosing a model on the site: what is offered, what is here, what is asked before it comes, and with which context it opens.
import { newPage } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { LOCAL, button, pretend, settings, until, visible, write } from "./pretend.mjs";

export async function choiceTests(run, { server }) {
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
      // One whose damage was noted, of an address that is on offer.
      const note = await (await models.getDirectoryHandle("noted", { create: true })).getFileHandle("record.json", { create: true });
      const pen = await note.createWritable();
      await pen.write(JSON.stringify({ name: "Noted", url: `${location.origin}/models/50%25%20of%20%231%3F.gguf`, size: 1e6, complete: true, created: 0, damaged: "it ends too soon" }));
      await pen.close();
    });
    await page.evaluate(() => localStorage.setItem("model", JSON.stringify({ key: "noted", name: "Noted" })));
    await page.goto(server.url);
    await visible(page, "2 MB, damaged and of no use any more: what was noted of it cannot be read");
    await visible(page, "damaged and of no use any more: it ends too soon");
    same("ways to run it", await button(page, /^(Start|Resume)/).count(), 0);
    await button(page, "Delete Damaged model torn").click();
    await until("it is gone", async () => (await page.getByText("of no use any more").count()) === 1);
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

  await run("site: a model is deleted once it is said what that costs", async () => {
    const { context, close } = await pretend();
    const page = await newPage(context, `${server.url}doctor.html`);
    await page.evaluate(async () => {
      const models = await (await navigator.storage.getDirectory()).getDirectoryHandle("pocketlm-models", { create: true });
      for (const [key, url] of [["a", "https://example.org/a.gguf"], ["b", "file:b.gguf:1:2"]]) {
        const file = await (await models.getDirectoryHandle(key, { create: true })).getFileHandle("record.json", { create: true });
        const writer = await file.createWritable();
        await writer.write(JSON.stringify({ name: `${key}.gguf`, url, size: 1.5e9, complete: true, created: 0 }));
        await writer.close();
      }
    });
    await page.goto(server.url);
    const dialog = page.getByRole("dialog");
    for (const [name, words] of [["a.gguf", "1.50 GB have to be downloaded"], ["b.gguf", "you need its file"]]) {
      const remove = button(page, `Delete ${name}`);
      await remove.click();
      await visible(page, words);
      same("focus", await page.evaluate(() => document.activeElement.textContent), "Keep it");
      if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/delete-${name}.png` });
      await page.keyboard.press("Escape");
      await dialog.waitFor({ state: "detached" });
      check("it is there, and has the focus", await remove.evaluate((element) => element === document.activeElement));
      await remove.click();
      await dialog.getByRole("button", { name: "Delete" }).click();
      await remove.waitFor({ state: "detached" });
    }
    same("models", await page.evaluate(() => pocketlm.models.list()), []);
    same("complaints", page.complaints, []);
    await close();
  });
}
