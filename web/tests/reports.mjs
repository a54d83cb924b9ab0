// What the package measures and examines, beside what the program prints: one form, so that tools read both.
import { execFileSync } from "node:child_process";
import { open, packagePage } from "./browser.mjs";
import { check, same } from "./check.mjs";

/** Where values are in a report, entries of lists as one. What a device may lack, such as a clock, is null in both. */
function places(value, at = "") {
  if (value === null || typeof value !== "object") return [at];
  const inner = Array.isArray(value) ? value.flatMap((entry) => places(entry, `${at}[]`)) : Object.entries(value).flatMap(([key, entry]) => [`${at}.${key}`, ...places(entry, `${at}.${key}`)]);
  return [...new Set(inner)].sort();
}

const printed = (program, args) => JSON.parse(execFileSync(program, args, { stdio: ["ignore", "pipe", "ignore"], maxBuffer: 1 << 26 }));

/** Compares the form of a page's report with that of what the program prints. */
export function sameForm(report, program, ...args) {
  same("places", places(report), places(printed(program, args)));
}

export async function reportTests(run, { server, program }) {
  const { context, close } = await open();
  const page = await packagePage(context, server);
  await run("reports: an adapter is described as the program's is", async () => {
    const [found] = await page.evaluate(() => pocketlm.adapters());
    same("places", places(found), places(printed(program, ["devices", "--json"])[0]));
  });
  await run.whenAsked("examination in full", async () => {
    const { rows, failed } = await page.evaluate(() => pocketlm.doctor());
    same("failed", failed, 0);
    check("there are many", rows.length > 200, rows.length);
    return `${rows.length} variants`;
  });
  await run("reports: a place too many is seen", () => {
    check("a key", places({ a: [{ b: 1 }] }).join() !== places({ a: [{ c: 1 }] }).join());
    check("a list", places({ a: [1] }).join() !== places({ a: 1 }).join());
  });
  await close();
}
