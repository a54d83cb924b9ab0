// Bundles the package (dist/) and the site (dist-site/) out of ts/, site/ and pkg/, which `cargo xtask web` has made.
// wasm-opt is left out: at -O2 it took a minute, and what a browser downloads (brotli) grew from 940 to 973 kB.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const here = fileURLToPath(new URL(".", import.meta.url));
process.chdir(here);
const bin = (name) => path.join("node_modules", ".bin", name);
const run = (name, ...args) => execFileSync(bin(name), args, { stdio: "inherit" });
const clean = (folder) => {
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
};
const common = { absWorkingDir: here, bundle: true, format: "esm", target: "es2022", minify: true, logLevel: "warning", legalComments: "none" };

run("tsc", "--noEmit");
clean("dist");
await build({ ...common, entryPoints: ["ts/index.ts", "ts/worker.ts"], outdir: "dist", minify: false });
run("tsc", "--noEmit", "false", "--emitDeclarationOnly", "--rootDir", ".", "--outDir", "dist/types");
fs.cpSync("dist/types/ts", "dist", { recursive: true });
fs.rmSync("dist/types", { recursive: true });
fs.copyFileSync("pkg/pocketlm_bg.wasm", "dist/pocketlm_bg.wasm");

clean("dist-site");
const pages = fs.readdirSync("site").filter((file) => file.endsWith(".html")).map((file) => file.slice(0, -5));
await build({
  ...common,
  entryPoints: [...pages.map((page) => `site/${page}.ts`), "ts/worker.ts"].map((file) => ({ in: file, out: path.basename(file, ".ts") })),
  outdir: "dist-site",
  splitting: true,
  // The worker lies beside every page.
  chunkNames: "[name]-[hash]",
});
fs.copyFileSync("dist/pocketlm_bg.wasm", "dist-site/pocketlm_bg.wasm");
for (const file of fs.readdirSync("site")) {
  if (/\.(html|css|svg|png|webmanifest)$/.test(file)) fs.copyFileSync(path.join("site", file), path.join("dist-site", file));
}
// The service worker keeps what the site consists of; a change of any of it is another version.
const files = fs.readdirSync("dist-site").sort();
const { createHash } = await import("node:crypto");
const hash = createHash("sha256");
for (const file of files) hash.update(file).update(fs.readFileSync(path.join("dist-site", file)));
const define = { FILES: JSON.stringify(["./", ...files]), VERSION: JSON.stringify(hash.digest("hex").slice(0, 12)) };
await build({ ...common, entryPoints: ["site/sw.ts"], outfile: "dist-site/sw.js", define });
