// pocketlm in a page: an engine in a worker of its own, sessions on it, and the models that the browser keeps.
//
//   const engine = await Engine.load({ repo: "owner/name", file: "model.gguf" }, { onProgress: console.log });
//   const session = engine.session();
//   for await (const piece of session.generate([{ role: "user", content: "Hello" }])) console.log(piece);

import type { Failure, FromWorker, LoadOptions, Progress } from "./protocol.js";
import { Completions } from "./openai.js";
import { listSaved, removeSaved } from "./saved.js";
import { resolve, type Source } from "./source.js";
import { PocketError, bytesText, list, remove, storage } from "./store.js";

export { PocketError, bytesText } from "./store.js";
export type { LoadOptions, Progress } from "./protocol.js";
export type { SavedSession } from "./saved.js";
export type { Source } from "./source.js";
export type { ModelRecord, Storage, StoredModel } from "./store.js";
export type { ChatCompletion, ChatCompletionChunk, ChatCompletionRequest, ChatMessage } from "./openai.js";

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
  /** That of a session for which none is asked. */
  context: number;
  /** The longest that the model was made for. */
  modelContext: number;
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

function startWorker(): Worker {
  const real = globalThis.Worker;
  // A page starts no worker of another origin, such as a CDN, but one of its own may import it.
  const start = function (address: string | URL, options: WorkerOptions) {
    const { href, origin } = new URL(address, location.href);
    if (origin === location.origin) return new real(href, options);
    const own = URL.createObjectURL(new Blob([`import ${JSON.stringify(href)};`], { type: "text/javascript" }));
    const worker = new real(own, options);
    worker.addEventListener("message", () => URL.revokeObjectURL(own), { once: true });
    return worker;
  };
  // The words below are those that bundlers know a worker by and put its address into, so that is where it is found out.
  globalThis.Worker = start as unknown as typeof Worker;
  try {
    return new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "pocketlm" });
  } finally {
    globalThis.Worker = real;
  }
}

/** Says what is missing before anything is fetched. */
function demandWebGpu(): void {
  if (!globalThis.isSecureContext) {
    throw new PocketError("no-webgpu", "browsers offer WebGPU to safe pages alone, and this one came over plain http", "serve it over https, or open it as http://localhost");
  }
  if (!("gpu" in navigator)) {
    throw new PocketError("no-webgpu", "this browser has no WebGPU, or it is switched off", "Chrome and Edge have it from 113, Safari from 26, Firefox from 141 on Windows; elsewhere look into the browser's settings");
  }
}

/** A worker and the calls that wait for it. */
class Link {
  private readonly worker = startWorker();
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
    this.worker.postMessage({ id, method, args, aborted: Boolean(signal?.aborted) });
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

function thrown({ name, message, code, hint, fits }: Failure): Error {
  return name === "AbortError" ? new DOMException(message, "AbortError") : new PocketError(code, message, hint, fits);
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
    demandWebGpu();
    // Asked of the page: a worker cannot. Refused, the browser may delete models when it runs short. Some ask the user,
    // who need not hurry.
    void navigator.storage?.persist?.().catch(() => false);
    const link = new Link();
    try {
      const room = await roomLeft();
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
export const models = { list, remove, storage, bytesText, fetch: fetchModel };

/** Brings a model into the browser's storage without loading it, which needs no GPU; returns its key. */
async function fetchModel(source: Exclude<Source, { shape: string }>, { onProgress, signal, ...rest }: Pick<EngineOptions, "onProgress" | "signal" | "stallMs"> = {}): Promise<string> {
  const room = await roomLeft();
  return await once("keep", [await resolve(source, signal), rest, room], onProgress, signal);
}

/** What the browser does not tell is no limit. */
const roomLeft = () => storage().catch(() => ({ usage: 0, quota: Infinity }));

/** Sessions that this browser keeps, see {@link Session.save}. */
export const sessions = { list: listSaved, remove: removeSaved };

/** Adapters that this page gets. */
export function adapters(): Promise<AdapterReport[]> {
  return once("adapters");
}

/** Names of shapes that synthetic models can have. */
export function shapes(): Promise<string[]> {
  return once("shapes");
}

/** Every kernel against its reference on this browser and GPU. */
export async function doctor(options: { adapter?: string; onRow?: (row: DoctorRow) => void; signal?: AbortSignal } = {}): Promise<DoctorReport> {
  demandWebGpu();
  return await once("doctor", [options.adapter], options.onRow, options.signal);
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
  demandWebGpu();
  const room = await roomLeft();
  return await once(method, [await resolve(source, signal), rest, room], onProgress, signal);
}

async function once<T>(method: string, args: unknown[] = [], heard?: (event: any) => void, signal?: AbortSignal): Promise<T> {
  const link = new Link();
  try {
    return await link.call<T>(method, args, heard, signal);
  } finally {
    link.end(new PocketError("closed", "the worker was closed"));
  }
}
