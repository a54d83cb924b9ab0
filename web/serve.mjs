// Serves the site, and models with ranges, on this machine alone.
// Usage: node serve.mjs [PORT]; the models are those of ../models.
// Tests import `serve` and set what goes wrong: `cuts` (bytes of a model after which a connection breaks, once each),
// `down` (no connection at all, or none for `models`), and read `log` (what was asked for).
import { fileURLToPath } from "node:url";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

const TYPES = {
  html: "text/html; charset=utf-8", js: "text/javascript", css: "text/css", wasm: "application/wasm", svg: "image/svg+xml",
  png: "image/png", webmanifest: "application/manifest+json", json: "application/json",
};
const here = fileURLToPath(new URL(".", import.meta.url));

export async function serve({ port = 0, site = path.join(here, "dist-site"), models = path.join(here, "../models"), package: package_ = path.join(here, "dist") } = {}) {
  const state = { cuts: [], down: false, log: [], posted: undefined };
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, "http://localhost");
    if (state.down === true || (state.down === "models" && request.url.startsWith("/models/"))) return request.socket.destroy();
    if (request.method === "POST") return receive(request, response, state);
    const name = decodeURIComponent(url.pathname);
    const roots = { "/models/": models, "/package/": package_, "/tests/": path.join(here, "tests") };
    const root = Object.keys(roots).find((root) => name.startsWith(root));
    const file = root ? inside(roots[root], name.slice(root.length)) : inside(site, name.endsWith("/") ? `${name}index.html` : name);
    if (name === "/models/") return list(models, response);
    if (!file || !fs.existsSync(file) || !fs.statSync(file).isFile()) return response.writeHead(404).end("not found");
    state.log.push({ name, range: request.headers.range });
    send(request, response, file, name.startsWith("/models/") ? state : undefined);
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return Object.assign(state, {
    url: `http://localhost:${server.address().port}/`,
    close: () => (server.closeAllConnections(), server.close()),
  });
}

function inside(folder, name) {
  const file = path.resolve(folder, `./${name}`);
  return file.startsWith(path.resolve(folder) + path.sep) ? file : undefined;
}

// Which models there are, so that the chat page can offer them.
function list(models, response) {
  const found = fs.existsSync(models) ? fs.readdirSync(models).filter((file) => file.endsWith(".gguf")) : [];
  const entries = found.map((name) => ({ name, size: fs.statSync(path.join(models, name)).size }));
  response.writeHead(200, { "content-type": TYPES.json }).end(JSON.stringify(entries));
}

// What a browser without a driver says.
function receive(request, response, state) {
  let text = "";
  request.on("data", (chunk) => (text += chunk));
  request.on("end", () => {
    state.posted?.(JSON.parse(text));
    response.writeHead(204).end();
  });
}

function send(request, response, file, state) {
  const { size, mtimeMs } = fs.statSync(file);
  const [, from, to] = request.headers.range?.match(/^bytes=(\d+)-(\d*)$/) ?? [];
  const ranged = from !== undefined && Number(from) < size;
  const start = ranged ? Number(from) : 0;
  const end = ranged && to ? Math.min(Number(to), size - 1) : size - 1;
  response.writeHead(ranged ? 206 : 200, {
    "content-type": TYPES[path.extname(file).slice(1)] ?? "application/octet-stream",
    "content-length": end - start + 1,
    "accept-ranges": "bytes",
    "cache-control": "no-cache",
    // What lets a page measure its own memory.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    etag: `"${size}-${Math.round(mtimeMs)}"`,
    ...(ranged ? { "content-range": `bytes ${start}-${end}/${size}` } : {}),
  });
  if (request.method === "HEAD") return response.end();
  const cut = state?.cuts.filter((at) => at > start && at <= end).sort((a, b) => a - b)[0];
  const stream = fs.createReadStream(file, { start, end: cut ? cut - 1 : end });
  response.on("close", () => stream.destroy());
  if (!cut) return stream.pipe(response);
  stream.pipe(response, { end: false });
  stream.on("end", () => {
    state.cuts.splice(state.cuts.indexOf(cut), 1);
    // What was written first has to leave before the connection breaks.
    response.write("", () => setTimeout(() => response.destroy(), 20));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await serve({ port: Number(process.argv[2] ?? 8080) });
  console.log(`pocketlm is at ${url}`);
}
