// Serves the site, and models with ranges, on this machine alone.
// Usage: node serve.mjs [PORT]; the models are those of ../models.
// Tests import `serve` and set what goes wrong with models:
//   cuts      bytes of a file after which a connection breaks, once each
//   limit     bytes after which every connection breaks
//   stalls    bytes of a file after which a connection stays open and brings nothing, once each
//   versions  headers that tell versions apart
//   ranges    whether ranges are answered
//   down      no connection at all, or none for `models`
// They add folders to `roots` and JSON to `answers`, and read `log`: what was asked for.
import { fileURLToPath } from "node:url";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

const TYPES = {
  html: "text/html; charset=utf-8", js: "text/javascript", css: "text/css", wasm: "application/wasm", svg: "image/svg+xml",
  png: "image/png", webmanifest: "application/manifest+json", json: "application/json",
};
const MODEL = ".gguf";
const here = fileURLToPath(new URL(".", import.meta.url));

export async function serve({ port = 0, site = path.join(here, "dist-site"), models = path.join(here, "../models"), package: package_ = path.join(here, "dist") } = {}) {
  const state = {
    cuts: [], limit: Infinity, stalls: [], versions: ["etag", "last-modified"], ranges: true, down: false, log: [], posted: undefined, answers: {},
    roots: { "/models/": models, "/package/": package_, "/tests/": path.join(here, "tests"), "/": site },
  };
  const server = http.createServer((request, response) => answer(request, response, state, models));
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return Object.assign(state, {
    url: `http://localhost:${server.address().port}/`,
    close: () => (server.closeAllConnections(), server.close()),
  });
}

function answer(request, response, state, models) {
  const refuse = (status, words) => response.writeHead(status, { "content-type": "text/plain" }).end(words);
  const name = nameOf(request.url);
  if (name === undefined) return refuse(400, "this is no address");
  if (state.down === true || (state.down === "models" && (name.endsWith(MODEL) || name.startsWith("/models/")))) return request.socket.destroy();
  if (request.method === "POST" && state.posted) return receive(request, response, state);
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "this server only hands out files");
  const json = name === "/models/" ? list(models) : state.answers[name];
  if (json) {
    state.log.push({ name });
    return response.writeHead(200, { "content-type": TYPES.json }).end(JSON.stringify(json));
  }
  const root = Object.keys(state.roots).find((root) => name.startsWith(root) && root !== "/") ?? "/";
  const file = inside(state.roots[root], `${name.slice(root.length)}${name.endsWith("/") ? "index.html" : ""}`);
  const found = file && fs.statSync(file, { throwIfNoEntry: false });
  if (!found?.isFile()) return refuse(404, "not found");
  state.log.push({ name, range: request.headers.range });
  send(request, response, { file, size: found.size, mtime: found.mtime, shared: root === "/package/" }, file.endsWith(MODEL) ? state : undefined);
}

// A file's name may hold anything; an address that says so wrongly is no reason to die.
function nameOf(url) {
  try {
    const name = decodeURIComponent(new URL(url, "http://localhost").pathname);
    return name.includes("\0") ? undefined : name;
  } catch {
    return undefined;
  }
}

function inside(folder, name) {
  const file = path.resolve(folder, `./${name}`);
  return file.startsWith(path.resolve(folder) + path.sep) ? file : undefined;
}

// Which models there are, so that the chat page can offer them.
function list(models) {
  const found = fs.existsSync(models) ? fs.readdirSync(models).filter((file) => file.endsWith(MODEL)) : [];
  return found.map((name) => ({ name, size: fs.statSync(path.join(models, name)).size }));
}

// What a browser without a driver says.
function receive(request, response, state) {
  let text = "";
  request.on("data", (chunk) => (text += chunk));
  request.on("end", () => {
    try {
      state.posted?.(JSON.parse(text));
      response.writeHead(204).end();
    } catch {
      response.writeHead(400).end("this is no JSON");
    }
  });
}

function send(request, response, { file, size, mtime, shared }, faults) {
  const [, from, to] = (faults?.ranges ?? true) ? (request.headers.range?.match(/^bytes=(\d+)-(\d*)$/) ?? []) : [];
  const ranged = from !== undefined;
  if (ranged && Number(from) >= size) return response.writeHead(416, { "content-range": `bytes */${size}` }).end();
  const start = ranged ? Number(from) : 0;
  const end = ranged && to ? Math.min(Number(to), size - 1) : size - 1;
  const versions = { etag: `"${size}-${Math.round(mtime.getTime())}"`, "last-modified": mtime.toUTCString() };
  response.writeHead(ranged ? 206 : 200, {
    "content-type": TYPES[path.extname(file).slice(1)] ?? "application/octet-stream",
    "content-length": end - start + 1,
    "accept-ranges": "bytes",
    "cache-control": "no-cache",
    // What lets a page measure its own memory.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    // As a CDN offers packages.
    ...(shared ? { "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" } : {}),
    ...Object.fromEntries((faults?.versions ?? Object.keys(versions)).map((name) => [name, versions[name]])),
    ...(ranged ? { "content-range": `bytes ${start}-${end}/${size}` } : {}),
  });
  if (request.method === "HEAD" || size === 0) return response.end();
  const [at, once] = end > start && faults ? fault(faults, start, end) : [];
  const stream = fs.createReadStream(file, { start, end: at === undefined ? end : at - 1 });
  stream.on("error", () => response.destroy());
  response.on("close", () => stream.destroy());
  if (at === undefined) return stream.pipe(response);
  stream.pipe(response, { end: false });
  stream.on("end", () => {
    once?.splice(once.indexOf(at), 1);
    // What was written first has to leave before the connection breaks.
    if (once !== faults.stalls) response.write("", () => setTimeout(() => response.destroy(), 20));
  });
}

// The first thing that goes wrong between two bytes: where, and the list that it is then taken from.
function fault({ cuts, limit, stalls }, start, end) {
  const coming = [cuts, stalls].flatMap((list) => list.map((at) => [at, list]));
  return [...coming, [start + limit]].filter(([at]) => at > start && at <= end).sort(([a], [b]) => a - b)[0] ?? [];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] ?? 8080);
  const { url } = await serve({ port }).catch((error) => {
    const words = error.code === "EADDRINUSE" ? `port ${port} is in use` : error.message;
    console.error(`cannot serve: ${words}; try another port: node serve.mjs ${port + 1}`);
    process.exit(1);
  });
  console.log(`pocketlm is at ${url}`);
}
