// The worker that an engine lives in. Calls run one after another, since a device does one thing at a time; an abort is
// heard in between.

import init, {
  Engine, Session, Sha256, Stop, adapters, bench, blockHash, doctor, kernels, shapeNames,
} from "../pkg/pocketlm.js";
import type { Digests } from "./blocks.js";
import { Model, type Room, type Terms, type Transfer } from "./download.js";
import type { Origin } from "./origin.js";
import type { Call, Failure, FromWorker, LoadOptions, Progress, ToWorker } from "./protocol.js";
import { openSaved, writeSaved } from "./saved.js";
import { PocketError, folder } from "./store.js";

const scope = self as unknown as { postMessage(message: FromWorker): void; onmessage: ((event: MessageEvent<ToWorker>) => void) | null };
const memory = init().then((wasm) => wasm.memory);
const digests: Digests = { blockHash, sha256: () => new Sha256() };

let engine: Engine | undefined;
let model: Model | undefined;
const sessions = new Map<number, Session>();
const aborts = new Map<number, AbortController>();

/** The device in use, for tests that take it away. */
let device: { destroy(): void } | undefined;
/** What WebGPU promises everywhere, for tests on better machines. */
const DEFAULT_LIMITS: Record<string, number> = {
  maxStorageBufferBindingSize: 128 << 20, maxBufferSize: 256 << 20, maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16 << 10, maxComputeInvocationsPerWorkgroup: 256, maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256, maxComputeWorkgroupSizeZ: 64, maxComputeWorkgroupsPerDimension: 65535,
};

/** Adapters of this worker, with the limits and features that are wanted. */
function watchAdapters({ limits, features }: LoadOptions): void {
  const adapter = (self as any).GPUAdapter?.prototype;
  if (!adapter) return;
  const { requestDevice } = adapter;
  adapter.requestDevice = async function (...args: unknown[]) {
    return (device = await requestDevice.apply(this, args));
  };
  const replace = (name: string, change: (real: any) => unknown) => {
    const { get } = Object.getOwnPropertyDescriptor(adapter, name)!;
    Object.defineProperty(adapter, name, { get: function (this: unknown) { return change(get!.call(this)); }, configurable: true });
  };
  if (limits === "default") replace("limits", (real) => new Proxy(real, { get: (_, name: string) => DEFAULT_LIMITS[name] ?? real[name] }));
  if (features === "none") replace("features", () => new Set());
}

interface Context {
  id: number;
  signal: AbortSignal;
  tell(event: unknown): void;
}

const methods: Record<string, (context: Context, ...args: any[]) => unknown> = {
  load,
  keep,
  info: () => JSON.parse(loaded().info()),
  encode: (_, text: string) => loaded().encode(text),
  encodeChat: (_, messages: unknown) => loaded().encodeChat(JSON.stringify(messages)),
  async session({ id }, options: LoadOptions) {
    sessions.set(id, await loaded().session(JSON.stringify(options)));
    return id;
  },
  generate,
  tokens: (_, session: number) => opened(session).tokens(),
  truncate: (_, session: number, n: number) => opened(session).truncate(n),
  save,
  restore,
  closeSession(_, session: number) {
    sessions.get(session)?.free();
    sessions.delete(session);
  },
  destroyDevice: () => device?.destroy(),
  memory: async () => ({ wasmBytes: (await memory).buffer.byteLength }),
  async adapters() {
    return JSON.parse(await adapters());
  },
  shapes: () => shapeNames(),
  bench: (context, source, options, room) => measure(context, bench, source, options, room),
  kernels: (context, source, options, room) => measure(context, kernels, source, options, room),
  async doctor({ signal, tell }, adapter?: string) {
    return JSON.parse(await doctor(adapter, (row: string) => {
      tell(JSON.parse(row));
      return signal.aborted;
    }));
  },
};

/** How long nothing may come before a connection is given up, where nothing is said. */
const STALL_MS = 30_000;

const terms = ({ signal }: Context, options: LoadOptions, room: Room, told: Terms["told"]): Terms =>
  ({ signal, stallMs: options.stallMs ?? STALL_MS, room, digests, told });

/** What an abort ends at once: the page stops this worker then, whatever it is doing. */
function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
    work.then(resolve, reject);
  });
}

/** Bench or kernels, on a shape or on a model in storage. */
async function measure(context: Context, run: typeof bench, source: Origin | { shape: string }, options: LoadOptions, room: Room): Promise<unknown> {
  const { signal, tell } = context;
  watchAdapters(options);
  const progress = (what: string, share: number) => tell({ what, share });
  const text = JSON.stringify(options);
  if ("shape" in source) return JSON.parse(await unlessAborted(signal, run(source.shape, undefined, text, progress)));
  const file = await Model.open(source, terms(context, options, room, (transfer) => tell({ what: "loading", share: transfer.doneBytes / transfer.totalBytes })));
  try {
    return JSON.parse(await unlessAborted(signal, run(source.name, file, text, progress)));
  } catch (error) {
    throw file.failure ?? error;
  } finally {
    file.close();
  }
}

/** Tells how far a model has come, ten times a second at most. */
function teller({ tell }: Context) {
  const begun = performance.now();
  let told = 0;
  let transfer: Transfer | undefined;
  const say = (progress: Progress, seldom = false) => {
    if (seldom && performance.now() - told < 100) return;
    told = performance.now();
    tell(progress);
  };
  say({ phase: "starting", doneBytes: 0, totalBytes: 0 });
  return {
    say,
    came(next: Transfer) {
      transfer = next;
      const rate = (next.doneBytes - next.resumedBytes) / (performance.now() - begun);
      const secondsLeft = rate > 0 ? (next.totalBytes - next.doneBytes) / rate / 1000 : undefined;
      say({ ...next, secondsLeft }, next.phase === "downloading" && next.doneBytes < next.totalBytes);
    },
    uploaded(doneBytes: number, totalBytes: number) {
      if (!transfer || transfer.doneBytes === transfer.totalBytes) say({ phase: "uploading", doneBytes, totalBytes }, true);
    },
  };
}

async function load(context: Context, source: Origin | { shape: string }, options: LoadOptions, room: Room): Promise<unknown> {
  watchAdapters(options);
  const { say, came, uploaded } = teller(context);
  const { signal } = context;
  const text = JSON.stringify(options);
  if ("shape" in source) {
    engine = await unlessAborted(signal, Engine.load(source.shape, undefined, text, uploaded));
  } else {
    model = await Model.open(source, terms(context, options, room, came));
    try {
      await unlessAborted(signal, model.first());
      engine = await unlessAborted(signal, Engine.load(source.name, model, text, uploaded));
      await model.finish();
    } catch (error) {
      const failure = model.failure ?? error;
      const { code, message } = failure as Partial<Failure>;
      if (code === "corrupt") await model.condemn(String(message));
      model.close();
      throw failure;
    }
  }
  const info = JSON.parse(engine.info());
  say({ phase: "ready", doneBytes: info.weightsBytes, totalBytes: info.weightsBytes });
  return { ...info, key: model?.key };
}

/** Brings a model into storage and leaves it there. */
async function keep(context: Context, source: Origin, options: LoadOptions, room: Room): Promise<string> {
  // It would be lost in memory.
  await folder();
  const { say, came } = teller(context);
  const file = await Model.open(source, terms(context, options, room, came));
  try {
    await file.finish();
  } finally {
    file.close();
  }
  say({ phase: "ready", doneBytes: file.size, totalBytes: file.size });
  return file.key!;
}

async function generate({ signal, tell }: Context, session: number, prompt: string | unknown[] | Uint32Array, options: object): Promise<unknown> {
  const whole = Array.isArray(prompt);
  const ids = typeof prompt === "string" ? loaded().encode(prompt)
    : whole ? loaded().encodeChat(JSON.stringify(prompt)) : (prompt as Uint32Array);
  const stop = new Stop();
  if (signal.aborted) stop.set();
  signal.addEventListener("abort", () => stop.set());
  const heard = (text: string, token?: number) => tell({ text, token });
  return JSON.parse(await opened(session).generate(ids, JSON.stringify({ ...options, whole }), stop, heard));
}

async function save(_: Context, session: number, name: string, note: unknown): Promise<void> {
  await writeSaved(name, async (write) => {
    // What storage says is clearer than what the engine makes of it.
    let failed: unknown;
    const sink = {
      write(bytes: Uint8Array) {
        try {
          write(bytes);
        } catch (error) {
          throw (failed = error);
        }
      },
    };
    await opened(session).save(sink, JSON.stringify(note ?? null)).catch((error) => {
      throw failed ?? error;
    });
  });
}

async function restore(_: Context, session: number, name: string): Promise<unknown> {
  const file = await openSaved(name);
  const read = async (offset: number, n: number) => new Uint8Array(await file.slice(offset, offset + n).arrayBuffer());
  return JSON.parse(await opened(session).restore({ size: file.size, read }));
}

function loaded(): Engine {
  if (!engine) throw new PocketError("invalid", "no model is loaded");
  return engine;
}

function opened(id: number): Session {
  const session = sessions.get(id);
  if (!session) throw new PocketError("invalid", "the session is closed");
  return session;
}

function failure(error: unknown, signal: AbortSignal): Failure {
  const { name = "Error", message = String(error), code = "", hint = "", fits } = (error ?? {}) as Partial<Failure>;
  if (signal.aborted || name === "AbortError") return { name: "AbortError", message: "stopped", code: "aborted", hint: "" };
  if (error instanceof WebAssembly.RuntimeError) return { name, message: `the engine broke down: ${message}`, code: "broken", hint: "this is a mistake of ours; reload the page" };
  if (name === "QuotaExceededError") return { name, message: "there is no room left for this site", code: "quota", hint: "delete a model or a saved session, or free some space on the device" };
  // The browser's own errors have numbers there that nobody uses any more.
  return { name, message, code: error instanceof DOMException ? "io" : code, hint, fits };
}

async function run({ id, method, args }: Call, abort: AbortController): Promise<void> {
  try {
    await memory;
    const context = { id, signal: abort.signal, tell: (event: unknown) => scope.postMessage({ id, event }) };
    scope.postMessage({ id, result: await methods[method]!(context, ...args) });
  } catch (error) {
    scope.postMessage({ id, error: failure(error, abort.signal) });
  } finally {
    aborts.delete(id);
  }
}

let last: Promise<void> = Promise.resolve();
scope.onmessage = ({ data }) => {
  if ("abort" in data) {
    aborts.get(data.abort)?.abort();
    return;
  }
  const abort = new AbortController();
  aborts.set(data.id, abort);
  if (data.aborted) abort.abort();
  // A worker that is told to give its device up must not wait for an answer that is on its way.
  if (data.method === "destroyDevice") void run(data, abort);
  else last = last.then(() => run(data, abort));
};
