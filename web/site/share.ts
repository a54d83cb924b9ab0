// A result in a link: JSON, compressed, after the # of this page's address. What is there is never sent to a server.

const MARK = "#result=";
/** Far more than any result; a link from a stranger must not fill the memory. */
const MOST_BYTES = 1 << 20;

export async function toLink(result: unknown): Promise<string> {
  const packed = await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(JSON.stringify(result)));
  const text = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""));
  return location.href.split("#")[0] + MARK + text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** What the page's own address holds, if it holds a result. Errors: anything that is none. */
export async function fromLink(): Promise<any> {
  if (!location.hash.startsWith(MARK)) return undefined;
  const text = atob(location.hash.slice(MARK.length).replaceAll("-", "+").replaceAll("_", "/"));
  const packed = Uint8Array.from(text, (character) => character.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(await through(new DecompressionStream("deflate-raw"), packed)));
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
