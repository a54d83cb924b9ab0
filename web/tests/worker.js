// A worker in the place of pocketlm's, for tests of the site alone: it answers at once, and says a word every 20 ms. What
// `given` (put in front by the test) holds is what this device is like; `text` is said instead of words, in pieces.
const given = { context: 4096, tooLarge: [], adapter: {}, failing: false, slow: 0, ...globalThis.given };
const adapter = { name: "A pretended GPU", kind: "discrete", backend: "none", subgroups: false, subgroup_size: [4, 4], f16: false, timestamps: false, max_binding_bytes: 2 ** 30, max_buffer_bytes: 2 ** 30, ...given.adapter };
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const stopped = new Set();
const failure = (code, message, hint = "") => Object.assign(new Error(message), { code, hint });

const methods = {
  async load(id, _, { context }) {
    for (let n = 0; n < given.slow; n++) {
      if (stopped.has(id)) throw failure("aborted", "it was stopped");
      await pause(20);
    }
    if (context === undefined && given.fits) throw Object.assign(failure("too-large", "the device cannot hold it"), { fits: given.fits });
    return { model: "none", context: Math.min(4096, given.context), modelContext: given.context, adapter, weightsBytes: 0 };
  },
  session: (id) => id,
  async generate(id, session, prompt, { maxTokens }) {
    for (let n = 0; n < maxTokens; n++) {
      await pause(given.text ? 5 : 20);
      if (stopped.has(id)) return { answerTokens: n, tokensPerSecond: 50, promptSeconds: 0, stop: "aborted" };
      if (given.failing && n === 5) throw failure("device", "the device failed");
      if (n === given.full) return { answerTokens: n, tokensPerSecond: 50, promptSeconds: 0, stop: "context-full" };
      if (given.text && n * 50 >= given.text.length) break;
      if (given.text) postMessage({ id, event: { text: given.text.slice(n * 50, (n + 1) * 50), token: n } });
      else postMessage({ id, event: { text: n ? ` word${n}` : `Answer ${prompt.length}:`, token: n } });
    }
    return { answerTokens: maxTokens, tokensPerSecond: 50, promptSeconds: 0, stop: "max-tokens" };
  },
  adapters: () => [adapter],
  shapes: () => ["phi-3-mini", "qwen2.5-1.5b", "smollm2-135m", "mixtral-8x7b"],
  bench(_, { shape }) {
    if (given.tooLarge.includes(shape)) throw failure(shape === "phi-3-mini" ? "device" : "too-large", "the device cannot hold the model");
    const row = { test: "tg8", n_tokens: 8, depth: 0, median: 12.5, low: 12, high: 13, first_token_s: null, bandwidth_share: 0.5, per_step: { dispatches: 7, created: 0 } };
    return { report: { about: { adapter: adapter.name }, rows: [row] }, text: "| decode 8 | 12.5 |" };
  },
  kernels: () => ({ report: { about: { adapter: adapter.name } }, text: "matvec <img src=x> 80 %", html: "<!doctype html><title>r</title><style>svg { width: 123px }</style><svg></svg>" }),
  async doctor(id) {
    const rows = [];
    for (let n = 0; n < 1000 && !stopped.has(id); n++) {
      await pause(10);
      rows.push({ name: `variant ${n}`, n_checks: 1, passed: n !== given.fails, worst: 0.1, detail: null });
      postMessage({ id, event: rows.at(-1) });
    }
    return { adapter, rows, failed: rows.filter(({ passed }) => !passed).length };
  },
};

onmessage = async ({ data: { id, method, args, abort } }) => {
  if (abort) return stopped.add(abort);
  try {
    postMessage({ id, result: await methods[method](id, ...args) });
  } catch ({ name, message, code, hint, fits }) {
    postMessage({ id, error: { name, message, code, hint, fits } });
  }
};
