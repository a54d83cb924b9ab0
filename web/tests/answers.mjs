// What the chat page makes of answers: their order, their end, their length, and where the focus is.
import { newPage } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { LOCAL, alone, asked, atOnce, button, kept, pretend, roles, settings, visible, words, write } from "./pretend.mjs";

export async function answerTests(run, { server }) {
  const test = alone(run, server);

  await test("there are never two answers in a row, and the focus stays in the conversation", async (context, tab) => {
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

  await test("without a model nothing that was answered is given up", async (context, tab) => {
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

  await test("messages sent in quick succession are all kept, and the last is answered", async (context, tab) => {
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
}
