// What the page and the worker say to each other: calls by number, their results, and what happens on the way.

import type { Transfer } from "./download.js";

export interface LoadOptions {
  /** `high-performance` (taken first), or part of the name or the index of an adapter. */
  adapter?: string | undefined;
  /** Most tokens of a conversation. */
  context?: number | undefined;
  /** How matrices are held on the device, such as `q4_0`; as the file has them if left out. */
  weights?: string | undefined;
  /** How keys and values are held: `f16`, `q8_0`, `q4_0` or `f32`. */
  kv?: string | undefined;
  /** Most tokens of a prompt that are processed at once. */
  batch?: number | undefined;
  /** `default`: no more than WebGPU promises everywhere, whatever the adapter has. */
  limits?: "default" | undefined;
  /** `none`: no feature beyond those limits, such as subgroups, whatever the adapter has. */
  features?: "none" | undefined;
  /** How many milliseconds a connection may bring nothing before another one is tried; 30,000 if left out. */
  stallMs?: number | undefined;
}

/** How far loading has come. */
export interface Progress extends Partial<Omit<Transfer, "phase">> {
  /** Of the download, or of what goes to the GPU where nothing is downloaded. */
  phase: "starting" | "waiting" | "downloading" | "reconnecting" | "uploading" | "ready";
  doneBytes: number;
  totalBytes: number;
  /** Until the download is over, as far as can be told. */
  secondsLeft?: number | undefined;
}

export interface Call {
  id: number;
  method: string;
  args: unknown[];
  /** It was aborted before it was sent. */
  aborted: boolean;
}

export type ToWorker = Call | { abort: number };

export interface Failure {
  name: string;
  message: string;
  code: string;
  hint: string;
  fits?: number | undefined;
}

export type FromWorker =
  | { id: number; result: unknown }
  | { id: number; error: Failure }
  | { id: number; event: unknown };
