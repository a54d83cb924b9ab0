// `chat.completions` in OpenAI's shape, on the engine of a page.
import { check, same } from "./check.mjs";

const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: "Hi" }];

export async function openaiTests(run, { page, model }) {
  const create = (request) => page.evaluate(async ({ abortAfter, ofModel, ...request }) => {
    globalThis.engine ??= await pocketlm.Engine.load(ofModel);
    const abort = new AbortController();
    if (abortAfter !== undefined) request.signal = abort.signal;
    try {
      const answer = await engine.chat.completions.create(request);
      if (!request.stream) return answer;
      const chunks = [];
      for await (const chunk of answer) if (chunks.push(chunk) > abortAfter) abort.abort();
      return chunks;
    } catch ({ name, code, message }) {
      return { name, code, message };
    }
  }, { messages, temperature: 0, ofModel: model, ...request });
  const text = (chunks) => chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");

  await run("openai: a request is answered, whole or as a stream", async () => {
    const whole = await create({ max_tokens: 6 });
    const chunks = await create({ max_tokens: 6, stream: true });
    const { message, finish_reason } = whole.choices[0];
    check("there is text", message.content.length > 0);
    same("content", text(chunks), message.content);
    same("finish_reason", [chunks.at(-1).choices[0].finish_reason, finish_reason], ["length", "length"]);
    same("usage of a stream that is not asked for it", chunks.filter((chunk) => "usage" in chunk), []);
    const told = await create({ max_tokens: 6, stream: true, stream_options: { include_usage: true } });
    same("choices of the last chunk", told.at(-1).choices, []);
    same("usage before it", told.slice(0, -1).every(({ usage }) => usage === null), true);
    const { prompt_tokens, completion_tokens, total_tokens } = told.at(-1).usage;
    same("usage", [prompt_tokens, completion_tokens, total_tokens], [whole.usage.prompt_tokens, 6, whole.usage.prompt_tokens + 6]);
    return message.content;
  });

  await run("openai: what is null is left out, text may come in parts", async () => {
    const plain = await create({ max_tokens: 6 });
    const nulls = Object.fromEntries(["top_p", "top_k", "min_p", "stop", "stream", "stream_options", "tools", "user", "model", "max_completion_tokens"].map((name) => [name, null]));
    const parts = [{ role: "developer", content: [{ type: "text", text: "Be " }, { type: "text", text: "brief." }] }, { ...messages[1], name: null }];
    const other = await create({ ...nulls, max_tokens: 6, seed: null, n: 1, response_format: { type: "text" }, tools: [], tool_choice: "auto", messages: parts });
    same("error", other.message, undefined);
    same("choices", other.choices, plain.choices);
    same("no choice of no tools", (await create({ tools: [], tool_choice: "none", max_tokens: 1 })).message, undefined);
    same("temperature may be null", typeof (await create({ temperature: null, max_tokens: 1 })).choices[0].message.content, "string");
  });

  await run("openai: an answer ends before a text that it is told to stop at", async () => {
    const whole = (await create({ max_tokens: 12 })).choices[0].message.content;
    // From the middle of one piece into the next ones.
    const stop = whole.slice(5, 12);
    const wanted = whole.slice(0, whole.indexOf(stop));
    const { message, finish_reason } = (await create({ max_tokens: 12, stop: ["nowhere", `${stop}!`, stop] })).choices[0];
    same("whole", [message.content, finish_reason], [wanted, "stop"]);
    const chunks = await create({ max_tokens: 12, stop, stream: true });
    same("streamed", [text(chunks), chunks.at(-1).choices[0].finish_reason], [wanted, "stop"]);
    // What only began like one is no end.
    const begun = await create({ max_tokens: 12, stop: `${whole.slice(-4)}and more` });
    same("begun", begun.choices[0].message.content, whole);
  });

  await run("openai: an abort ends a request as it does with fetch", async () => {
    same("streamed", (await create({ max_tokens: 200, stream: true, abortAfter: 2 })).name, "AbortError");
    const whole = page.evaluate(async (messages) => {
      const abort = new AbortController();
      setTimeout(() => abort.abort(), 200);
      return await engine.chat.completions.create({ messages, max_tokens: 500 }, { signal: abort.signal }).catch(({ name }) => name);
    }, messages);
    same("whole", await whole, "AbortError");
  });

  await run("openai: what is not supported is named", async () => {
    for (const more of [{ tools: [{ type: "function" }] }, { tool_choice: "required" }, { n: 2 }, { logprobs: true }, { response_format: { type: "json_object" } }, { frequency_penalty: 1 }, { max_token: 3 }]) {
      const { code, message } = await create(more);
      same("code", code, "unsupported");
      check("it names the option", message.includes(`\`${Object.keys(more)[0]}\``), message);
    }
    const image = [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:," } }] }];
    same("an image", (await create({ messages: image })).code, "unsupported");
    same("a call of a tool", (await create({ messages: [{ role: "assistant", content: null, tool_calls: [{ id: "1" }] }] })).code, "unsupported");
  });
}
