// How the site keeps conversations: between tabs, while answers come, when pages close, and when they are deleted.
import { newPage } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { LOCAL, alone, asked, atOnce, button, drop, kept, roles, settings, until, visible, words, write } from "./pretend.mjs";

export async function conversationTests(run, { server }) {
  const test = alone(run, server);

  await test("a conversation that is deleted while its answer comes stays deleted", async (context, tab) => {
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

  await test("a reply outlives a page that is closed in the middle", async (context, tab) => {
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

  await test("what came by the time that a page is left is kept", async (context, tab) => {
    const page = await tab();
    // A clock that stands: nothing is kept because some time has passed.
    await page.evaluate(() => (performance.now = () => 0));
    await write(page, "Left");
    await page.waitForTimeout(500);
    same("before", (await kept(page)).map(({ messages }) => roles(messages)), ["u"]);
    await page.evaluate(() => dispatchEvent(new Event("pagehide")));
    await page.waitForTimeout(500);
    same("afterwards", (await kept(page)).map(({ messages }) => roles(messages)), ["ua"]);
  });

  await test("two tabs see each other's conversations, and neither writes over the other", async (context, tab) => {
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

  await test("what the browser refuses to keep is said, once", async (context, tab) => {
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

  await test("a message goes into the conversation that was shown when it was sent", async (context, tab) => {
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

  await test("looking at conversations while one is answered makes no copy", async (context, tab) => {
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
    // Another one, and back as soon as that is shown: what is kept of the answer may not be kept yet.
    await page.evaluate(() => new Promise((resolve) => {
      const open = (name) => [...document.querySelectorAll("#chats li > button:first-child")].find(({ textContent }) => textContent === name).click();
      new MutationObserver((_, observer) => {
        if (!document.querySelector(".message.user")?.textContent.startsWith("first")) return;
        observer.disconnect();
        open("second");
        resolve();
      }).observe(document.getElementById("messages"), { childList: true, subtree: true });
      open("first");
    }));
    await page.locator(".message.user", { hasText: "second" }).waitFor();
    // What had come by then is there.
    await words(page, 20);
    await write(page, "third");
    await page.locator(".message.assistant").nth(1).waitFor();
    same("conversations", (await kept(page)).map(asked).sort(), ["first", "second,third"]);
    same("told", await page.locator("#kept").textContent(), "");
    same("complaints", page.complaints, []);
  });

  await test("what cannot be read in the store does not keep the page from working", async (context, tab) => {
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

  await test("a conversation that was deleted can be brought back, by button and by key, for a while", async (context, tab) => {
    const page = await tab({ maxTokens: 3 });
    const list = () => page.locator("#chats li").allTextContents();
    for (const name of ["first", "second"]) {
      if (name === "second") await page.evaluate(() => document.getElementById("new").click());
      await write(page, name);
      await page.locator(".message.user", { hasText: name }).waitFor();
      await page.locator(".rate").waitFor();
    }
    const before = await kept(page);
    const undo = button(page, "Undo");
    // The one that is shown, by touch and while the drawer is open; it is shown again.
    await drop(page);
    await visible(page, "“second” is deleted");
    same("kept", (await kept(page)).map(asked), ["first"]);
    same("messages", await page.locator(".message").count(), 0);
    await undo.click();
    await page.locator(".message.user", { hasText: "second" }).waitFor();
    same("kept as it was", await kept(page), before);
    same("offers", await undo.count(), 0);
    // The other one, by keys: the focus stays in the list, and the offer is heard of.
    await button(page, "Conversations and pages").click();
    await button(page, "Delete the conversation first").focus();
    await page.keyboard.press("Enter");
    await undo.waitFor();
    same("kept", (await kept(page)).map(asked), ["second"]);
    check("it was announced", (await page.evaluate(() => globalThis.said)).at(-1).includes("“first” is deleted. Control Z"));
    await page.keyboard.press("Control+z");
    await until("it is back", async () => (await list()).length === 2);
    same("kept as it was", await kept(page), before);
    same("shown", await page.locator(".message.user").textContent(), "secondEdit");
    // Only the last one that was deleted, and not for ever.
    await page.evaluate(() => {
      const real = setTimeout;
      globalThis.setTimeout = (work, ms) => real(work, ms === 10_000 ? 1000 : ms);
    });
    await button(page, "Delete the conversation").first().click();
    await button(page, "Delete the conversation").first().click();
    await visible(page, "“first” is deleted");
    same("offers", await undo.count(), 1);
    await undo.focus();
    await page.waitForTimeout(1500);
    same("offers while it has the focus", await undo.count(), 1);
    await undo.evaluate((element) => element.blur());
    await page.mouse.move(5, 5);
    await undo.waitFor({ state: "detached" });
    same("kept", await kept(page), []);
    same("complaints", page.complaints, []);
  });
}
