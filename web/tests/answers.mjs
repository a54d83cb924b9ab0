// What the chat page makes of answers: their order, their end, their length, and where the focus is.
import { newPage } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { LOCAL, alone, asked, atOnce, button, kept, pretend, roles, settings, until, visible, words, write } from "./pretend.mjs";

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

  await run("site: a long conversation opens without a long task, its end first, and keeps its place", async () => {
    const N = 200;
    const text = "A sentence of **some** words, with `code` and [a link](https://example.com).\n\n- an item\n- another *one*\n\n| a | b |\n|---|---|\n| 1 | `2` |\n\n```\nlet a = 1;\n```\n\n".repeat(6);
    const { context, close } = await pretend();
    const page = await newPage(context, `${server.url}doctor.html`);
    await page.evaluate(([n, text]) => new Promise((resolve) => {
      const request = indexedDB.open("pocketlm", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("chats", { keyPath: "id" });
      request.onsuccess = () => {
        const transaction = request.result.transaction("chats", "readwrite");
        const messages = Array.from({ length: n }, (_, index) => ({ role: index % 2 ? "assistant" : "user", content: index % 2 ? text : `Question ${index}` }));
        transaction.objectStore("chats").put({ id: "long", title: "Long", updated: 1, revision: 1, messages });
        transaction.oncomplete = () => (request.result.close(), resolve());
      };
    }), [N, text]);
    await context.addInitScript(() => {
      globalThis.tasks = [];
      new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask", buffered: true });
      // What is drawn when the first message is, and where it is then.
      addEventListener("DOMContentLoaded", () => {
        const log = document.getElementById("messages");
        if (!log) return;
        const look = () => {
          const bodies = [...log.children].map((element) => Boolean(element.firstChild));
          if (!bodies.includes(true)) return;
          globalThis.first ??= { count: bodies.filter(Boolean).length, last: bodies.at(-1) };
          const last = log.lastChild.getBoundingClientRect().bottom;
          (globalThis.places ??= new Set()).add(Math.round(last));
        };
        new MutationObserver(look).observe(log, { childList: true, subtree: true });
      });
    });
    const drawn = () => page.evaluate(() => [...document.getElementById("messages").children].filter((element) => element.firstChild).length);
    let longest = Infinity;
    // A machine that is held up looks like a long task, but not three times.
    for (let n = 0; n < 3 && longest > 50; n++) {
      await page.goto(server.url);
      await until("all of it is drawn", async () => (await drawn()) === N);
      await page.waitForTimeout(200);
      // The page's own start, before there is a conversation, is another test's.
      longest = Math.min(longest, Math.max(0, ...(await page.evaluate(() => tasks))));
    }
    check("no task is above 50 ms", longest <= 50, longest);
    const { first, places, atEnd } = await page.evaluate(() => {
      const { scrollHeight, scrollTop, clientHeight } = document.getElementById("scroll");
      return { first, places: [...places], atEnd: scrollHeight - scrollTop - clientHeight };
    });
    check("the end comes first", first.last && first.count < N / 2, JSON.stringify(first));
    check("it is at its end", Math.abs(atEnd) < 2, atEnd);
    check("the end stays where it is", Math.max(...places) - Math.min(...places) < 4, places);
    // What is sent then is one message more, and the others' elements stay.
    await page.evaluate(() => (document.getElementById("messages").firstChild.stays = true));
    await settings(page, { maxTokens: 3 });
    await button(page, LOCAL).click();
    await write(page, "More");
    await page.locator(".rate").waitFor();
    check("elements stay", await page.evaluate(() => document.getElementById("messages").firstChild.stays));
    same("messages", await page.locator(".message").count(), N + 2);
    same("complaints", page.complaints, []);
    await close();
    return `longest task ${longest} ms (0: none above 50)`;
  });
}
