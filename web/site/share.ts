// A result in a link: JSON, compressed, after the # of this page's address. What is there is never sent to a server.

import type { Measured } from "../ts/index.js";

/** What a link holds: bench's report, or the text of the kernels' table. */
export interface Shared {
  name: string;
  shape: string;
  adapter: string;
  report?: Measured["report"] | undefined;
  text?: string | undefined;
}

const MARK = "#result=";
/** Far more than any result; a link from a stranger must not fill the memory. */
const MOST_BYTES = 1 << 20;
const MAX_NAME = 300;
const MAX_TEXT = 200_000;
const MAX_ROWS = 200;
/** No speed, count or time is larger. */
const MAX_NUMBER = 1e12;

export async function toLink(result: unknown): Promise<string> {
  const packed = await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(JSON.stringify(result)));
  const text = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""));
  return location.href.split("#")[0] + MARK + text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** What the page's own address holds, if it holds a result. Errors: anything that is none. */
export async function fromLink(): Promise<Shared | undefined> {
  if (!location.hash.startsWith(MARK)) return undefined;
  const text = atob(location.hash.slice(MARK.length).replaceAll("-", "+").replaceAll("_", "/"));
  const packed = Uint8Array.from(text, (character) => character.charCodeAt(0));
  return checked(JSON.parse(new TextDecoder().decode(await through(new DecompressionStream("deflate-raw"), packed))));
}

/** A stranger's result, as far as the page shows it, if all of that is what it should be. */
function checked(found: any): Shared {
  const demand = (what: string, holds: boolean) => {
    if (!holds) throw new Error(`its ${what} is not what a result has there`);
  };
  const text = (what: string, value: unknown, most = MAX_NAME): string => (demand(what, typeof value === "string" && value.length <= most), value as string);
  const number = (what: string, value: unknown): number => (demand(what, typeof value === "number" && Math.abs(value) <= MAX_NUMBER), value as number);
  const maybe = (what: string, value: unknown) => (value == null ? null : number(what, value));
  const list = (what: string, value: unknown): any[] => (demand(what, Array.isArray(value) && value.length <= MAX_ROWS), value as any[]);
  const row = (row: any) => ({
    test: text("test", row?.test), n_tokens: number("n_tokens", row.n_tokens), depth: number("depth", row.depth),
    median: number("median", row.median), low: number("low", row.low), high: number("high", row.high),
    first_token_s: maybe("first_token_s", row.first_token_s), bandwidth_share: maybe("bandwidth_share", row.bandwidth_share),
    per_step: { dispatches: number("dispatches", row.per_step?.dispatches) },
  });
  const shared = { name: text("name", found?.name), shape: text("shape", found.shape), adapter: text("adapter", found.adapter) };
  if (found.report == null) return { ...shared, text: text("text", found.text, MAX_TEXT) };
  const warnings = list("warnings", found.report.warnings ?? []).map((warning) => text("warning", warning, MAX_TEXT));
  return { ...shared, report: { rows: list("rows", found.report.rows).map(row), warnings } };
}

async function through(stream: CompressionStream | DecompressionStream, bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (let n = 0; ;) {
    const { done, value } = await reader.read();
    if (done) break;
    n += value.length;
    if (n > MOST_BYTES) throw new Error("it is too large");
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
