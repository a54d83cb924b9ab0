// `chat.completions` in OpenAI's shape, on a session of its own: what a request shares with the one before it is not
// processed again. What it does not do it refuses: a wish that is ignored in silence is found out too late.
// An abort rejects with an AbortError, as that of `fetch` does.

import type { Answer, Engine, GenerateOptions, Message, Session, Stats } from "./index.js";
import { PocketError } from "./store.js";

/** A turn; `null` stands for what is left out, here and in a request. */
export interface ChatMessage {
  role: string;
  content: string | { type: "text"; text: string }[] | null;
}

export interface ChatCompletionRequest {
  messages: ChatMessage[];
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean | null } | null;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  top_k?: number | null;
  min_p?: number | null;
  seed?: number | null;
  /** Texts before which the answer ends. */
  stop?: string | string[] | null;
  model?: string | null;
  signal?: AbortSignal | null;
}

type Reason = "stop" | "length" | null;

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  /** None in the last chunk of a stream that tells its usage. */
  choices: { index: 0; delta: { role?: "assistant"; content?: string }; finish_reason: Reason }[];
  /** Where `stream_options.include_usage` asks for it: `null` until the last chunk. */
  usage?: Usage | null;
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: { index: 0; message: { role: "assistant"; content: string }; finish_reason: Reason }[];
  usage: Usage;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** What a request may hold, and what changes no answer. */
const KNOWN = [
  "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
  "model", "signal",
];
const BESIDE_THE_POINT = ["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"];
/** Values of other options that ask for nothing, where there are no tools. */
const NOTHING: Record<string, unknown[]> = {
  n: [1], frequency_penalty: [0], presence_penalty: [0], logprobs: [false], top_logprobs: [0], response_format: [{ type: "text" }],
  tool_choice: ["none", "auto"],
};

export class Completions {
  private session: Session | undefined;

  constructor(private readonly engine: Engine) {}

  create(request: ChatCompletionRequest & { stream: true }, options?: { signal?: AbortSignal | null }): Promise<AsyncIterable<ChatCompletionChunk>>;
  create(request: ChatCompletionRequest & { stream?: false | null }, options?: { signal?: AbortSignal | null }): Promise<ChatCompletion>;
  async create(request: ChatCompletionRequest, { signal = request.signal }: { signal?: AbortSignal | null } = {}): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
    refuse("option", request, KNOWN, BESIDE_THE_POINT);
    signal?.throwIfAborted();
    this.session ??= this.engine.session();
    const answer = this.session.generate(request.messages.map(message), { ...options(request), ...(signal ? { signal } : {}) });
    const told = new Told(answer, stops(request), signal ?? undefined);
    const head = { id: `chatcmpl-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000), model: request.model ?? this.engine.info.model };
    if (request.stream) return chunks(head, told, request.stream_options?.include_usage === true);
    let content = "";
    for await (const piece of told.pieces()) content += piece;
    const { finish_reason, usage } = await told.end();
    return { ...head, object: "chat.completion", choices: [{ index: 0, message: { role: "assistant", content }, finish_reason }], usage };
  }
}

async function* chunks(head: { id: string; created: number; model: string }, told: Told, withUsage: boolean): AsyncIterable<ChatCompletionChunk> {
  const chunk = (choices: ChatCompletionChunk["choices"], usage: Usage | null = null): ChatCompletionChunk =>
    ({ ...head, object: "chat.completion.chunk", choices, ...(withUsage ? { usage } : {}) });
  yield chunk([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }]);
  for await (const content of told.pieces()) yield chunk([{ index: 0, delta: { content }, finish_reason: null }]);
  const { finish_reason, usage } = await told.end();
  yield chunk([{ index: 0, delta: {}, finish_reason }]);
  if (withUsage) yield chunk([], usage);
}

/** An answer up to the first of the texts that end it. */
class Told {
  private stopped = false;

  constructor(
    private readonly answer: Answer,
    private readonly stops: string[],
    private readonly signal: AbortSignal | undefined,
  ) {}

  async *pieces(): AsyncGenerator<string, void> {
    // The end of what came may be the beginning of a text that ends it.
    let held = "";
    for await (const piece of this.answer) {
      held += piece;
      const at = Math.min(...this.stops.map((stop) => held.indexOf(stop)).filter((at) => at >= 0));
      this.stopped = at < Infinity;
      const sure = this.stopped ? at : held.length - this.begun(held);
      if (sure > 0) yield held.slice(0, sure);
      held = held.slice(sure);
      if (this.stopped) return;
    }
    this.signal?.throwIfAborted();
    if (held) yield held;
  }

  async end(): Promise<{ finish_reason: Reason; usage: Usage }> {
    const stats = await this.answer.stats;
    if (!this.stopped) this.signal?.throwIfAborted();
    const full = stats.stop === "max-tokens" || stats.stop === "context-full";
    return { finish_reason: full && !this.stopped ? "length" : "stop", usage: usageOf(stats) };
  }

  /** Characters at the end of a text that a stop may begin with. */
  private begun(text: string): number {
    const longest = Math.max(0, ...this.stops.map((stop) => stop.length - 1));
    for (let n = Math.min(longest, text.length); n > 0; n--) {
      if (this.stops.some((stop) => stop.startsWith(text.slice(text.length - n)))) return n;
    }
    return 0;
  }
}

function refuse(what: string, given: object, known: string[], ignored: string[] = []): void {
  for (const [name, value] of Object.entries(given)) {
    const nothing = value === null || value === undefined || (typeof value === "object" && Object.keys(value).length === 0);
    if (known.includes(name) || ignored.includes(name) || nothing || NOTHING[name]?.some((idle) => JSON.stringify(idle) === JSON.stringify(value))) continue;
    throw new PocketError("unsupported", `the ${what} \`${name}\` with the value ${JSON.stringify(value)} is not supported`, `supported: ${known.join(", ")}`);
  }
}

function message(given: ChatMessage): Message {
  refuse("field of a message", given, ["role", "content"]);
  const parts = typeof given.content === "string" ? [] : (given.content ?? []);
  for (const part of parts) {
    if (part.type !== "text") throw new PocketError("unsupported", `a part of a message with the type \`${part.type}\` is not supported`, "supported: text");
  }
  const content = typeof given.content === "string" ? given.content : parts.map(({ text }) => text).join("");
  // What OpenAI's newer models call it; templates know the older word.
  return { role: given.role === "developer" ? "system" : given.role, content };
}

function stops({ stop }: ChatCompletionRequest): string[] {
  return (typeof stop === "string" ? [stop] : (stop ?? [])).filter((text) => text !== "");
}

/** OpenAI samples where nothing is said; so does this. */
function options(request: ChatCompletionRequest): GenerateOptions {
  const { temperature, top_p, top_k, min_p, seed } = request;
  const maxTokens = request.max_completion_tokens ?? request.max_tokens;
  return {
    temperature: temperature ?? 1,
    seed: seed ?? Math.floor(Math.random() * 2 ** 32),
    ...(top_p == null ? {} : { topP: top_p }),
    ...(top_k == null ? {} : { topK: top_k }),
    ...(min_p == null ? {} : { minP: min_p }),
    ...(maxTokens == null ? {} : { maxTokens }),
  };
}

function usageOf({ promptTokens, reusedTokens, answerTokens }: Stats): Usage {
  const prompt_tokens = promptTokens + reusedTokens;
  return {
    prompt_tokens,
    completion_tokens: answerTokens,
    total_tokens: prompt_tokens + answerTokens,
    prompt_tokens_details: { cached_tokens: reusedTokens },
  };
}
