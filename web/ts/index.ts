// pocketlm in a page: an engine in a worker of its own, sessions on it, and the models that the browser keeps.
//
//   const engine = await Engine.load({ repo: "owner/name", file: "model.gguf" }, { onProgress: console.log });
//   const session = engine.session();
//   for await (const piece of session.generate([{ role: "user", content: "Hello" }])) console.log(piece);

import type { Failure, FromWorker, LoadOptions, Progress } from "./protocol.js";
import { PocketError, bytesText, list, remove, storage } from "./store.js";
import { Completions } from "./openai.js";

export { PocketError, bytesText } from "./store.js";
export type { LoadOptions, Progress } from "./protocol.js";
export type { ModelRecord, Storage, StoredModel } from "./store.js";
export type { ChatCompletion, ChatCompletionChunk, ChatCompletionRequest } from "./openai.js";

/** Where a model comes from: an address, a file, a file on the Hugging Face hub, the browser's storage (a key of
 * {@link models}), or random weights of a known shape. */
export type Source = string | URL | File
  | { url: string | URL; name?: string; sha256?: string }
  | { repo: string; file: string; revision?: string; endpoint?: string; sha256?: string }
  | { key: string }
  | { shape: string };

export interface EngineOptions extends LoadOptions {
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
}

export interface Message {
  role: string;
  content: string;
}

/** How tokens are chosen; nothing given is greedy. */
export interface GenerateOptions {
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repeatPenalty?: number;
  seed?: number;
  maxTokens?: number;
  signal?: AbortSignal;
}

/** Counts and times of an answer. */
export interface Stats {
  promptTokens: number;
  /** Of the context, how many needed no processing. */
  reusedTokens: number;
  answerTokens: number;
  promptSeconds: number;
  answerSeconds: number;
  tokensPerSecond: number;
  stop: "end-of-generation" | "max-tokens" | "context-full" | "aborted";
}

export interface EngineInfo {
  model: string;
  context: number;
  nVocab: number;
  weightsBytes: number;
  hasTokenizer: boolean;
  hasTemplate: boolean;
  adapter: AdapterReport;
  /** The model's key in {@link models}, where it is kept. */
  key?: string;
}

/** As `pocketlm devices --json` has it. */
export interface AdapterReport {
  name: string;
  kind: string;
  backend: string;
  subgroups: boolean;
  subgroup_size: [number, number];
  f16: boolean;
  timestamps: boolean;
  max_binding_bytes: number;
  max_buffer_bytes: number;
  [key: string]: unknown;
}

export interface DoctorRow {
  name: string;
  n_checks: number;
  passed: boolean;
  worst: number;
  detail: string | null;
}

/** As `pocketlm doctor --json` has it. */
export interface DoctorReport {
  adapter: AdapterReport;
  rows: DoctorRow[];
  failed: number;
}

/** A worker and the calls that wait for it. */
class Link {
  private readonly worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "pocketlm" });
  private readonly waiting = new Map<number, { resolve(value: any): void; reject(error: unknown): void; heard?: ((event: any) => void) | undefined }>();
  private last = 0;
  /** Why nothing will be answered any more, once that is so. */
  private ended: unknown;

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      const call = this.waiting.get(data.id);
      if (!call) return;
      if ("event" in data) return call.heard?.(data.event);
      this.waiting.delete(data.id);
      if ("error" in data) call.reject(thrown(data.error));
      else call.resolve(data.result);
    };
    this.worker.onerror = (event) =>
      this.end(new PocketError("broken", `the worker broke down: ${event.message ?? "it could not be loaded"}`, "reload the page"));
  }

  call<T>(method: string, args: unknown[] = [], heard?: (event: any) => void, signal?: AbortSignal): Promise<T> {
    // Nobody would ever answer.
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.last;
    const abort = () => this.worker.postMessage({ abort: id });
    const result = new Promise<T>((resolve, reject) => this.waiting.set(id, { resolve, reject, heard }));
    this.worker.postMessage({ id, method, args });
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort);
    return result.finally(() => signal?.removeEventListener("abort", abort));
  }

  end(error: unknown): void {
    this.ended ??= error;
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }
}

function thrown({ name, message, code, hint }: Failure): Error {
  return name === "AbortError" ? new DOMException(message, "AbortError") : new PocketError(code, message, hint);
}

/** A model on this machine's GPU. */
export class Engine {
  /** OpenAI's shape, for programs that know it. */
  readonly chat: { completions: Completions };

  private constructor(
    private readonly link: Link,
    readonly info: EngineInfo,
    private readonly options: LoadOptions,
  ) {
    this.chat = { completions: new Completions(this) };
  }

  /** Loads a model: from the browser's storage, or into it on the way to the GPU. */
  static async load(source: Source, options: EngineOptions = {}): Promise<Engine> {
    const { onProgress, signal, ...rest } = options;
    signal?.throwIfAborted();
    // Asked of the page: a worker cannot. Refused, the browser may delete models when it runs short. Some ask the user,
    // who need not hurry.
    void navigator.storage?.persist?.().catch(() => false);
    const link = new Link();
    try {
      const room = await storage().catch(() => ({ usage: 0, quota: Infinity }));
      const info = await link.call<EngineInfo>("load", [await resolve(source, signal), rest, room], onProgress, signal);
      return new Engine(link, info, rest);
    } catch (error) {
      link.end(error);
      throw error;
    }
  }

  /** A context of its own. Opened in the worker when it is first used. */
  session(options: Pick<LoadOptions, "context" | "kv" | "batch"> = {}): Session {
    return new Session(this.link, { ...this.options, ...options });
  }

  /** Ids of a text as a prompt, or of a conversation. */
  encode(prompt: string | Message[]): Promise<Uint32Array> {
    return this.link.call(typeof prompt === "string" ? "encode" : "encodeChat", [prompt]);
  }

  /** Bytes of the engine's wasm memory. */
  memory(): Promise<{ wasmBytes: number }> {
    return this.link.call("memory");
  }

  /** Gives everything back: the device, the worker, the locks. */
  dispose(): void {
    this.link.end(new PocketError("closed", "the engine was closed"));
  }
}

/** A conversation: its tokens, their keys and values on the GPU. */
export class Session {
  /** Of the last answer. */
  stats: Stats | undefined;
  private opened: Promise<number> | undefined;

  constructor(
    private readonly link: Link,
    private readonly options: LoadOptions,
  ) {}

  private id(): Promise<number> {
    return (this.opened ??= this.link.call<number>("session", [this.options]).catch((error) => {
      this.opened = undefined;
      throw error;
    }));
  }

  /** Answers to a text or ids, which follow what there is, or to messages, which are the whole conversation: what they
   * share with it is not processed again. */
  generate(prompt: string | Message[] | Uint32Array, options: GenerateOptions = {}): Answer {
    const { signal: wished, ...rest } = options;
    const own = new AbortController();
    // The caller's wish, or the end of the loop that reads the answer.
    const signal = wished ? AbortSignal.any([wished, own.signal]) : own.signal;
    return new Answer(() => own.abort(), async (heard) => {
      const id = await this.id();
      this.stats = await this.link.call<Stats>("generate", [id, prompt, rest], heard, signal);
      return this.stats;
    });
  }

  /** Ids of the context so far. */
  async tokens(): Promise<Uint32Array> {
    return this.link.call("tokens", [await this.id()]);
  }

  /** Forgets all after the first `n` tokens. */
  async truncate(n: number): Promise<void> {
    await this.link.call("truncate", [await this.id(), n]);
  }

  /** Keeps tokens and cache in the browser's storage under a name; `note` comes back with them. */
  async save(name: string, note?: unknown): Promise<void> {
    await this.link.call("save", [await this.id(), name, note]);
  }

  /** Takes up what {@link save} kept; returns its note. */
  async restore(name: string): Promise<unknown> {
    return this.link.call("restore", [await this.id(), name]);
  }

  /** Gives its memory on the GPU back. */
  async close(): Promise<void> {
    if (this.opened) await this.link.call("closeSession", [await this.opened]);
    this.opened = undefined;
  }

  /** Loses the device, as a driver that resets it would: for tests of what follows. */
  async destroyDevice(): Promise<void> {
    await this.link.call("destroyDevice");
  }
}

/** An answer on its way: pieces of text, then {@link stats}. */
export class Answer implements AsyncIterable<string> {
  /** Ids of the answer so far. */
  readonly tokens: number[] = [];
  readonly stats: Promise<Stats>;
  private readonly pieces: string[] = [];
  private wake: (() => void) | undefined;
  private over = false;

  constructor(private readonly stop: () => void, run: (heard: (event: { text: string; token?: number }) => void) => Promise<Stats>) {
    this.stats = run(({ text, token }) => {
      if (token !== undefined) this.tokens.push(token);
      this.pieces.push(text);
      this.wake?.();
    }).finally(() => {
      this.over = true;
      this.wake?.();
    });
    // Whoever iterates hears of failures there.
    this.stats.catch(() => undefined);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void> {
    try {
      for (;;) {
        const text = this.pieces.splice(0).join("");
        if (text) yield text;
        else if (this.over) break;
        else await new Promise<void>((resolve) => (this.wake = resolve));
      }
      await this.stats;
    } finally {
      // Whoever leaves the loop wants no more: what nobody reads would keep the device busy.
      if (!this.over) this.stop();
    }
  }

  /** The whole text. */
  async text(): Promise<string> {
    let all = "";
    for await (const piece of this) all += piece;
    return all;
  }
}

/** Models that this browser keeps. */
export const models = { list, remove, storage, bytesText };

/** Adapters that this page gets. */
export function adapters(): Promise<AdapterReport[]> {
  return once("adapters");
}

/** Names of shapes that synthetic models can have. */
export function shapes(): Promise<string[]> {
  return once("shapes");
}

/** Every kernel against its reference on this browser and GPU. */
export function doctor(options: { adapter?: string; onRow?: (row: DoctorRow) => void; signal?: AbortSignal } = {}): Promise<DoctorReport> {
  return once("doctor", [options.adapter], options.onRow, options.signal);
}

export interface MeasureOptions extends LoadOptions {
  /** Tokens of a prompt; 512 if left out, 0 measures none. */
  prompt?: number;
  /** Of {@link bench}: tokens decoded; 128 if left out. */
  n?: number;
  /** Of {@link bench}: tokens that are in the context before. */
  depths?: number[];
  /** Of {@link kernels}: the same. */
  depth?: number;
  rounds?: number;
  /** Of {@link kernels}: a first look. */
  quick?: boolean;
  onProgress?: (progress: { what: string; share: number }) => void;
  signal?: AbortSignal;
}

/** A result: the command line's JSON, and the same as text. */
export interface Measured {
  report: Record<string, any>;
  text: string;
}

/** Prompt and decode speed, as `pocketlm bench --format json` has it. */
export function bench(source: Source, options: MeasureOptions = {}): Promise<Measured> {
  return measure("bench", source, options);
}

/** Every kernel against what the device can do, as `pocketlm kernels --json` has it; `html` is a page with plots. */
export function kernels(source: Source, options: MeasureOptions = {}): Promise<Measured & { html: string }> {
  return measure("kernels", source, options);
}

async function measure<T>(method: string, source: Source, { onProgress, signal, ...rest }: MeasureOptions): Promise<T> {
  const room = await storage().catch(() => ({ usage: 0, quota: Infinity }));
  return once(method, [await resolve(source, signal), rest, room], onProgress, signal, true);
}

async function once<T>(method: string, args: unknown[] = [], heard?: (event: any) => void, signal?: AbortSignal, atOnce = false): Promise<T> {
  const link = new Link();
  // What cannot stop in between is stopped with its worker.
  if (atOnce) signal?.addEventListener("abort", () => link.end(new DOMException("stopped", "AbortError")));
  try {
    return await link.call<T>(method, args, heard, signal);
  } finally {
    link.end(new PocketError("closed", "the worker was closed"));
  }
}

/** What the worker fetches for a source. */
async function resolve(source: Source, signal?: AbortSignal): Promise<unknown> {
  if (source instanceof File) {
    return { name: source.name, url: `file:${source.name}:${source.size}:${source.lastModified}`, file: source };
  }
  if (typeof source === "string" || source instanceof URL) return { name: nameOf(String(source)), url: absolute(source) };
  if ("shape" in source) return source;
  if ("key" in source) {
    const record = (await list()).find((model) => model.key === source.key);
    if (!record) throw new PocketError("not-found", "this model is not in the browser's storage", "add it again");
    return { name: record.name, url: record.url, sha256: record.sha256 };
  }
  if ("url" in source) return { name: source.name ?? nameOf(String(source.url)), url: absolute(source.url), sha256: source.sha256 };
  const { repo, file, revision = "main", endpoint = "https://huggingface.co" } = source;
  const url = `${endpoint}/${repo}/resolve/${revision}/${file}`;
  return { name: nameOf(file), url, sha256: source.sha256 ?? (await published(endpoint, repo, revision, file, signal)) };
}

/** The checksum that the hub has of a file; without it the file is taken as it comes. */
async function published(endpoint: string, repo: string, revision: string, file: string, signal?: AbortSignal): Promise<string | undefined> {
  try {
    const answer = await fetch(`${endpoint}/api/models/${repo}/tree/${revision}?recursive=true`, { signal: signal ?? null });
    const entries = (await answer.json()) as { path: string; lfs?: { oid?: string } }[];
    return entries.find((entry) => entry.path === file)?.lfs?.oid;
  } catch {
    signal?.throwIfAborted();
    return undefined;
  }
}

const absolute = (url: string | URL) => new URL(url, globalThis.location?.href).href;
const nameOf = (url: string) => decodeURIComponent(url.split(/[?#]/)[0]!.split("/").pop() || "model");
