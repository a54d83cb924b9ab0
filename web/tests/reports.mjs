// What the package measures and examines, beside what the program prints: one form, so that tools read both.
import { execFileSync } from "node:child_process";
import { open, packagePage } from "./browser.mjs";
import { check, same } from "./check.mjs";

const SHAPE = "tiny-llama";
const SIZE = { prompt: 16, rounds: 2 };

/** Where values are in a report, entries of lists as one. What a device may lack, such as a clock, is null in both. */
function places(value, at = "") {
  if (value === null || typeof value !== "object") return [at];
  const inner = Array.isArray(value) ? value.flatMap((entry) => places(entry, `${at}[]`)) : Object.entries(value).flatMap(([key, entry]) => [`${at}.${key}`, ...places(entry, `${at}.${key}`)]);
  return [...new Set(inner)].sort();
}

export async function reportTests(run, { server, program }) {
  const { context, close } = await open();
  const page = await packagePage(context, server);
  const printed = (...args) => JSON.parse(execFileSync(program, args, { stdio: ["ignore", "pipe", "ignore"], maxBuffer: 1 << 26 }));

  await run("reports: bench says what the program's does", async () => {
    const { report } = await page.evaluate(([shape, size]) => pocketlm.bench({ shape }, { ...size, n: 4 }), [SHAPE, SIZE]);
    same("places", places(report), places(printed("bench", "--shape", SHAPE, "-p", "16", "-n", "4", "-r", "2", "--format", "json", "--no-tune")));
  });
  await run("reports: kernels say what the program's do", async () => {
    const { report } = await page.evaluate(([shape, size]) => pocketlm.kernels({ shape }, { ...size, quick: true }), [SHAPE, SIZE]);
    const wanted = printed("kernels", "--shape", SHAPE, "-p", "16", "-r", "2", "--quick", "--json", "--no-tune");
    same("places", places(report), places(wanted));
    same("phases", report.phases.map(({ phase }) => phase), wanted.phases.map(({ phase }) => phase));
  });
  await run("reports: an adapter is described as the program's is", async () => {
    const [found] = await page.evaluate(() => pocketlm.adapters());
    same("places", places(found), places(printed("devices", "--json")[0]));
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
