// The worker that an engine lives in. Calls run one after another, since a device does one thing at a time; an abort is
// heard in between.

import init, {
  Engine, Session, Sha256, adapters, bench, blockHash, doctor, kernels, shapeNames,
} from "../pkg/pocketlm.js";
import { Model, openSync, type Digests, type Origin, type PageFile, type Room, type Transfer } from "./download.js";
import type { Call, Failure, FromWorker, LoadOptions, Progress, ToWorker } from "./protocol.js";
import { PocketError } from "./store.js";

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

/** Adapters of this worker, with the limits that are wanted. */
function watchAdapters(limits?: "default"): void {
  const adapter = (self as any).GPUAdapter?.prototype;
  if (!adapter) return;
  const { requestDevice } = adapter;
  adapter.requestDevice = async function (...args: unknown[]) {
    return (device = await requestDevice.apply(this, args));
  };
  if (limits !== "default") return;
  const { get } = Object.getOwnPropertyDescriptor(adapter, "limits")!;
  const limited = function (this: unknown) {
    const real = get!.call(this);
    return new Proxy(real, { get: (_, name: string) => DEFAULT_LIMITS[name] ?? real[name] });
  };
  Object.defineProperty(adapter, "limits", { get: limited, configurable: true });
}

interface Context {
  id: number;
  signal: AbortSignal;
  tell(event: unknown): void;
}

const methods: Record<string, (context: Context, ...args: any[]) => unknown> = {
  load,
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

/** Bench or kernels, on a shape or on a model in storage. */
async function measure({ signal, tell }: Context, run: typeof bench, source: Origin | { shape: string }, options: LoadOptions, room: Room): Promise<unknown> {
  watchAdapters(options.limits);
  const progress = (what: string, share: number) => tell({ what, share });
  const text = JSON.stringify(options);
  if ("shape" in source) return JSON.parse(await run(source.shape, undefined, text, progress));
  const file = await Model.open(source, room, digests, signal, (transfer) => tell({ what: "loading", share: transfer.doneBytes / transfer.totalBytes }));
  try {
    return JSON.parse(await run(source.name, file as PageFile, text, progress));
  } finally {
    file.close();
  }
}

async function load({ signal, tell }: Context, source: Origin | { shape: string }, options: LoadOptions, room: Room): Promise<unknown> {
  watchAdapters(options.limits);
  const begun = performance.now();
  let transfer: Transfer | undefined;
  let told = 0;
  const progress = (event: Progress, now = performance.now()) => {
    if (event.phase === "downloading" && now - told < 100 && event.doneBytes < event.totalBytes) return;
    told = now;
    tell(event);
  };
  const onTransfer = (next: Transfer) => {
    transfer = next;
    const rate = (next.doneBytes - next.resumedBytes) / (performance.now() - begun);
    const secondsLeft = rate > 0 ? (next.totalBytes - next.doneBytes) / rate / 1000 : undefined;
    progress({ ...next, secondsLeft });
  };
  const onUpload = (doneBytes: number, totalBytes: number) => {
    const downloading = transfer && transfer.doneBytes < transfer.totalBytes;
    if (!downloading && performance.now() - told > 100) progress({ phase: "uploading", doneBytes, totalBytes });
  };
  progress({ phase: "starting", doneBytes: 0, totalBytes: 0 });
  const text = JSON.stringify(options);
  if ("shape" in source) {
    engine = await Engine.load(source.shape, undefined, text, onUpload);
  } else {
    model = await Model.open(source, room, digests, signal, onTransfer);
    try {
      engine = await Engine.load(source.name, model as PageFile, text, onUpload);
      await model.finish();
    } catch (error) {
      const failure = model.failure;
      model.close();
      throw failure ?? error;
    }
  }
  const info = JSON.parse(engine.info());
  progress({ phase: "ready", doneBytes: info.weightsBytes, totalBytes: info.weightsBytes });
  return { ...info, key: model?.key };
}

async function generate({ signal, tell }: Context, session: number, prompt: string | unknown[] | Uint32Array, options: object): Promise<unknown> {
  const whole = Array.isArray(prompt);
  const ids = typeof prompt === "string" ? loaded().encode(prompt)
    : whole ? loaded().encodeChat(JSON.stringify(prompt)) : (prompt as Uint32Array);
  const heard = (text: string, token?: number) => {
    tell({ text, token });
    return signal.aborted;
  };
  return JSON.parse(await opened(session).generate(ids, whole, JSON.stringify(options), heard));
}

/** Files of saved sessions lie beside the models' folders. */
async function savedFile(name: string, create: boolean): Promise<FileSystemFileHandle> {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("pocketlm-sessions", { create: true });
  return await folder.getFileHandle(encodeURIComponent(name), { create });
}

async function save(_: Context, session: number, name: string, note: unknown): Promise<void> {
  const handle = await openSync(await savedFile(name, true));
  try {
    // An unfinished file has no end that fits its head, and is refused when it is read.
    handle.truncate(0);
    let at = 0;
    const sink = { write: (bytes: Uint8Array) => void (at += handle.write(bytes, { at })) };
    await opened(session).save(sink, JSON.stringify(note ?? null));
    handle.flush();
  } finally {
    handle.close();
  }
}

async function restore(_: Context, session: number, name: string): Promise<unknown> {
  const handle = await savedFile(name, false).catch(() => {
    throw new PocketError("not-found", `there is no saved session \`${name}\``);
  });
  const file = await handle.getFile();
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
  const { name = "Error", message = String(error), code = "", hint = "" } = (error ?? {}) as Partial<Failure>;
  if (signal.aborted || name === "AbortError") return { name: "AbortError", message: "stopped", code: "aborted", hint: "" };
  if (error instanceof WebAssembly.RuntimeError) return { name, message: `the engine broke down: ${message}`, code: "broken", hint: "this is a mistake of ours; reload the page" };
  return { name, message, code, hint };
}

async function run({ id, method, args }: Call, abort: AbortController): Promise<void> {
  try {
    await memory;
    abort.signal.throwIfAborted();
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
  // A worker that is told to give its device up must not wait for an answer that is on its way.
  if (data.method === "destroyDevice") void run(data, abort);
  else last = last.then(() => run(data, abort));
};
