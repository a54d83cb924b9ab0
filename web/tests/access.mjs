// Whether everybody can use the site: keyboards, those who listen, fingers, light and dark.
import { createRequire } from "node:module";
import fs from "node:fs";
import { newPage, PHONE } from "./browser.mjs";
import { check, same } from "./check.mjs";
import { LOCAL, button, drop, pretend, settings, visible, words, write } from "./pretend.mjs";

const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export async function accessTests(run, { server }) {
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
      await drop(page);
      await button(page, "Undo").waitFor();
      await examine(page, "undo");
      await button(page, "Undo").click();
      await page.locator(".message.user").waitFor();
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
