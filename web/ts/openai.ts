// `chat.completions` in OpenAI's shape, on a session of its own: what a request shares with the one before it is not
// processed again.

import type { Engine, GenerateOptions, Message, Session, Stats } from "./index.js";

export interface ChatCompletionRequest {
  messages: Message[];
  stream?: boolean;
  max_tokens?: number;
  max_completion_tokens?: number;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  seed?: number;
  model?: string;
  signal?: AbortSignal;
}

type Reason = "stop" | "length" | null;

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: { index: 0; delta: { role?: "assistant"; content?: string }; finish_reason: Reason }[];
  usage?: Usage;
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
}

export class Completions {
  private session: Session | undefined;

  constructor(private readonly engine: Engine) {}

  create(request: ChatCompletionRequest & { stream: true }): Promise<AsyncIterable<ChatCompletionChunk>>;
  create(request: ChatCompletionRequest & { stream?: false }): Promise<ChatCompletion>;
  async create(request: ChatCompletionRequest): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
    this.session ??= this.engine.session();
    const answer = this.session.generate(request.messages, options(request));
    const head = { id: `chatcmpl-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000), model: request.model ?? this.engine.info.model };
    if (request.stream) return chunks(head, answer, answer.stats);
    const content = await answer.text();
    const stats = await answer.stats;
    return {
      ...head,
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: reason(stats) }],
      usage: usage(stats),
    };
  }
}

async function* chunks(head: { id: string; created: number; model: string }, pieces: AsyncIterable<string>, stats: Promise<Stats>): AsyncIterable<ChatCompletionChunk> {
  const chunk = (delta: { role?: "assistant"; content?: string }, finish_reason: Reason = null): ChatCompletionChunk =>
    ({ ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] });
  yield chunk({ role: "assistant", content: "" });
  for await (const content of pieces) yield chunk({ content });
  const end = await stats;
  yield { ...chunk({}, reason(end)), usage: usage(end) };
}

/** OpenAI samples where nothing is said; so does this. */
function options(request: ChatCompletionRequest): GenerateOptions {
  const { temperature = 1, top_p, top_k, min_p, seed = Math.floor(Math.random() * 2 ** 32), signal } = request;
  const maxTokens = request.max_completion_tokens ?? request.max_tokens;
  return {
    temperature,
    seed,
    ...(top_p === undefined ? {} : { topP: top_p }),
    ...(top_k === undefined ? {} : { topK: top_k }),
    ...(min_p === undefined ? {} : { minP: min_p }),
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(signal ? { signal } : {}),
  };
}

const reason = (stats: Stats): Reason => (stats.stop === "max-tokens" || stats.stop === "context-full" ? "length" : "stop");

function usage({ promptTokens, reusedTokens, answerTokens }: Stats): Usage {
  const prompt_tokens = promptTokens + reusedTokens;
  return { prompt_tokens, completion_tokens: answerTokens, total_tokens: prompt_tokens + answerTokens };
}
