// The package as others get it: its size, a tarball in an empty project, in a bundle, from another origin; and the server.
import { execFileSync, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import zlib from "node:zlib";
import { serve } from "../serve.mjs";
import { open, packagePage } from "./browser.mjs";
import { check, same } from "./check.mjs";

const WEB = path.join(fileURLToPath(new URL(".", import.meta.url)), "..");
const WASM_BYTES = 1.5e6;

const SAMPLE = `import { Engine, PocketError, doctor, models, sessions, type Progress, type Stats } from "pocketlm";
const onProgress = ({ phase, doneBytes, totalBytes }: Progress): void => console.log(phase, doneBytes / totalBytes);
const engine: Engine = await Engine.load({ repo: "owner/name", file: "model.gguf" }, { onProgress, context: 4096 });
const answer = engine.session().generate([{ role: "user", content: "Hello" }], { temperature: 0.7, seed: 1 });
for await (const piece of answer) console.log(piece.length);
const stats: Stats = await answer.stats;
const chunks = await engine.chat.completions.create({ messages: [{ role: "user", content: null }], stream: true, stop: null });
for await (const { choices } of chunks) console.log(choices[0]?.delta.content, stats.tokensPerSecond.toFixed(1));
const key: string = await models.fetch("https://example.org/model.gguf", { stallMs: 1000 });
await sessions.list().catch((error: PocketError) => error.hint);
console.log((await doctor()).failed, key);
// @ts-expect-error: an option that does not exist
await Engine.load("model.gguf", { contxt: 1 });
`;

export async function packageTests(run, { server }) {
  const place = fs.mkdtempSync(path.join(os.tmpdir(), "pocketlm-package-"));
  const npm = (...args) => execFileSync("npm", args, { cwd: place, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

  await run("package: the module is small when it is compressed", () => {
    const { length } = zlib.brotliCompressSync(fs.readFileSync(path.join(WEB, "dist/pocketlm_bg.wasm")));
    check("it is", length < WASM_BYTES, length);
    return `${(length / 1e6).toFixed(2)} MB`;
  });

  await run("package: a tarball is installed, imported and type-checked", () => {
    fs.writeFileSync(path.join(place, "package.json"), `{ "name": "app", "type": "module", "private": true }`);
    const [{ filename, files }] = JSON.parse(npm("pack", WEB, "--json", "--ignore-scripts"));
    const wanted = ["dist/index.d.ts", "dist/index.js", "dist/pocketlm_bg.wasm", "dist/worker.js", "package.json"];
    same("files", wanted.filter((file) => !files.some(({ path }) => path === file)), []);
    check("nothing but the package", files.every(({ path }) => /^(dist\/[\w.]+|package\.json|README\.md|LICENSE\S*)$/.test(path)), files.map(({ path }) => path));
    npm("install", `./${filename}`, "--offline", "--ignore-scripts", "--no-audit", "--no-fund");
    // An import alone must not need a browser: servers that render pages do it too.
    const names = execFileSync("node", ["--input-type=module", "-e", `console.log(Object.keys(await import("pocketlm")).join())`], { cwd: place, encoding: "utf8" });
    check("it exports what it should", ["Engine", "doctor", "models", "sessions"].every((name) => names.includes(name)), names);
    fs.writeFileSync(path.join(place, "sample.ts"), SAMPLE);
    for (const [module, resolution] of [["es2022", "bundler"], ["nodenext", "nodenext"]]) {
      const { status, stdout } = spawnSync(path.join(WEB, "node_modules/.bin/tsc"), [
        "--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--module", module, "--moduleResolution", resolution, "sample.ts",
      ], { cwd: place, encoding: "utf8" });
      same(`what the compiler says with ${resolution}`, [status, stdout], [0, ""]);
    }
  });

  const { context, close } = await open();
  const shapes = async (address) => {
    const page = await packagePage(context, server);
    const names = await page.evaluate(async (address) => (await import(address)).shapes(), address);
    await page.close();
    return names.includes("phi-3-mini");
  };

  await run("package: it works in a bundle, with worker and module beside it", async () => {
    // The words that bundlers find the worker by, and put its real address into.
    const text = fs.readFileSync(path.join(WEB, "dist/index.js"), "utf8");
    check("they are there", text.includes(`new Worker(new URL("./worker.js", import.meta.url), { type: "module"`));
    const app = path.join(place, "app");
    fs.writeFileSync(path.join(place, "app.js"), `export { shapes } from "pocketlm";`);
    await build({ absWorkingDir: place, entryPoints: ["app.js"], outdir: app, bundle: true, format: "esm", minify: true, logLevel: "error" });
    for (const file of ["worker.js", "pocketlm_bg.wasm"]) fs.copyFileSync(path.join(place, "node_modules/pocketlm/dist", file), path.join(app, file));
    server.roots["/app/"] = app;
    same("answers", await shapes("/app/app.js"), true);
  });

  await run("package: it works when it comes from another origin", async () => {
    const cdn = await serve();
    same("answers", await shapes(`${cdn.url}package/index.js`), true);
    check("the module came from there too", cdn.log.some(({ name }) => name.endsWith(".wasm")));
    // Bundlers give the worker another name.
    const bundle = path.join(place, "bundle");
    const dist = path.join(WEB, "dist");
    fs.mkdirSync(bundle);
    fs.copyFileSync(path.join(dist, "pocketlm_bg.wasm"), path.join(bundle, "pocketlm_bg.wasm"));
    fs.copyFileSync(path.join(dist, "worker.js"), path.join(bundle, "worker-1a2b.js"));
    const text = fs.readFileSync(path.join(dist, "index.js"), "utf8").replace(`new URL("./worker.js", import.meta.url)`, `new URL("./worker-1a2b.js", import.meta.url)`);
    fs.writeFileSync(path.join(bundle, "index.js"), text);
    cdn.roots["/package/"] = bundle;
    same("answers under another name", await shapes(`${cdn.url}package/index.js?bundle`), true);
    cdn.close();
  });
  await close();

  await run("package: the server bears what it is asked", async () => {
    const say = (text) => new Promise((resolve, reject) => {
      const { hostname, port } = new URL(server.url);
      const socket = net.connect(port, hostname, () => socket.write(text));
      let answer = "";
      socket.setEncoding("latin1").on("data", (data) => (answer += data)).on("end", () => resolve(Number(answer.split(" ")[1]))).on("error", reject);
    });
    const ask = (target, method = "GET", more = "") => say(`${method} ${target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${more}\r\n`);
    for (const target of ["/%", "//", "/%00", "/..%2f..%2fCargo.toml", "/models/%2e%2e/Cargo.toml"]) check("it is refused", [400, 404].includes(await ask(target)), target);
    same("a POST", await ask("/", "POST"), 405);
    same("behind the end", await ask("/index.html", "GET", "range: bytes=99999999-\r\n"), 416);
    same("a page after all that", await ask("/"), 200);
    const { port } = new URL(server.url);
    const { status, stderr } = spawnSync("node", [path.join(WEB, "serve.mjs"), port], { encoding: "utf8" });
    same("status", status, 1);
    check("it names the port and a way out", stderr.includes(`port ${port} is in use`) && stderr.split("\n").length === 2, stderr);
  });
  fs.rmSync(place, { recursive: true });
}
