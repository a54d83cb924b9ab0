// Everything that browsers must show: `node run.mjs POCKETLM`, the program whose ids they must generate too.
// One test after another, but for some that wait, since two would share two cores; each says how long it took.
import { fileURLToPath } from "node:url";
import { execFileSync } from "node:child_process";
import { serve } from "../serve.mjs";
import { accessTests } from "./access.mjs";
import { answerTests } from "./answers.mjs";
import { apiTests } from "./api.mjs";
import { choiceTests } from "./choice.mjs";
import { conversationTests } from "./conversations.mjs";
import { deviceTests } from "./devices.mjs";
import { downloadTests } from "./downloads.mjs";
import { firefoxTests } from "./firefox.mjs";
import { hostileTests } from "./hostile.mjs";
import { limitTests } from "./limits.mjs";
import { packageTests } from "./package.mjs";
import { phoneTests } from "./phone.mjs";
import { reportTests } from "./reports.mjs";
import { versionTests } from "./versions.mjs";
import { section } from "./check.mjs";

export const MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf";
const PROMPT = "The capital of France is";
const N = 8;

const program = process.argv[2];
const wanted = process.argv.slice(3);
const native = JSON.parse(execFileSync(program, ["run", `../models/${MODEL}`, "--raw", "-p", PROMPT, "-n", String(N), "--json"], { cwd: fileURLToPath(new URL("..", import.meta.url)) }));
const server = await serve();
const given = { server, program, model: `/models/${MODEL}`, prompt: PROMPT, options: { maxTokens: N }, native: native.ids };
let failed = 0;
const run = async (name, test) => {
  if (wanted.length && !wanted.some((word) => name.includes(word))) return;
  const n = await section(name, test);
  failed += n;
};
/** What takes minutes. */
run.whenAsked = (name, test) => wanted.length ? run(name, test) : undefined;

// Downloads wait for cuts and stalls most of the time, and Firefox for its clock.
const beside = await serve();
await Promise.all([firefoxTests(run, { ...given, server: beside }), downloadTests(run, given)]);
beside.close();
await apiTests(run, given);
await limitTests(run, given);
await packageTests(run, given);
await phoneTests(run, given);
await reportTests(run, given);
await conversationTests(run, given);
await answerTests(run, given);
await choiceTests(run, given);
await deviceTests(run, given);
await accessTests(run, given);
await hostileTests(run, given);
await versionTests(run);
server.close();
console.log(failed === 0 ? "\nbrowsers: everything passed" : `\nbrowsers: ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
