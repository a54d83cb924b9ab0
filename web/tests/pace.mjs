// How fast a page decodes beside the program on the same GPU, Chromium's software one: `node pace.mjs POCKETLM` with a
// release build. By turns, so that a machine that slows down slows both down.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import path from "node:path";
import { serve } from "../serve.mjs";
import { loading, open, packagePage } from "./browser.mjs";
import { check, same } from "./check.mjs";

const MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf";
const PROMPT = "The capital of France is";
const N = 24;
const TURNS = 3;
/** Chromium's GPU as a driver for programs, where Debian has it. */
const DRIVER = process.env.SWIFTSHADER ?? "/usr/lib/chromium/vk_swiftshader_icd.json";

const program = process.argv[2];
const models = path.join(fileURLToPath(new URL(".", import.meta.url)), "../../models");
const env = { ...process.env, VK_DRIVER_FILES: DRIVER, VK_ICD_FILENAMES: DRIVER };

const ask = (...args) => JSON.parse(execFileSync(program, [...args, "--json"], { env, stdio: ["ignore", "pipe", "inherit"] }));

function native() {
  const [{ name }] = ask("devices");
  // A page does not tune.
  const { ids, timings } = ask("run", path.join(models, MODEL), "--raw", "-p", PROMPT, "-n", String(N), "--no-tune");
  return { ids, adapter: name, rate: timings.answer_tokens_per_s };
}

async function browser(server) {
  const { context, close } = await open();
  const page = await packagePage(context, server);
  const { ids, adapter, rate } = await page.evaluate(async ([model, prompt, maxTokens]) => {
    const engine = await pocketlm.Engine.load(model);
    const answer = engine.session().generate(prompt, { maxTokens });
    const { tokensPerSecond } = await answer.stats;
    return { ids: answer.tokens, adapter: engine.info.adapter.name, rate: tokensPerSecond };
  }, [`/models/${MODEL}`, PROMPT, N]);
  await close();
  return { ids, adapter, rate };
}

const server = await serve();
const rates = { native: [], browser: [] };
let wanted;
for (let turn = 0; turn < TURNS; turn++) {
  for (const [who, found] of [["native", native()], ["browser", await browser(server)]]) {
    // The same work on the same device.
    same("ids", found.ids, (wanted ??= found.ids));
    check("it is Chromium's software GPU", /SwiftShader/i.test(found.adapter), found.adapter);
    rates[who].push(found.rate);
    console.error(`${who}: ${found.rate.toFixed(1)} tokens/s`);
  }
}
server.close();
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const [page, machine] = [median(rates.browser), median(rates.native)];
console.log(`decode of ${N} tokens, median of ${TURNS}: browser ${page.toFixed(1)} tokens/s, native ${machine.toFixed(1)} tokens/s, ${Math.round((100 * page) / machine)} %`);
