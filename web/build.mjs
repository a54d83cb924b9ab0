// Bundles the package (dist/) and the site (dist-site/) out of ts/, site/ and pkg/, which `cargo xtask web` has made.
// wasm-opt is left out: at -O2 it took a minute, and what a browser downloads (brotli) grew from 940 to 973 kB.
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { buildSite } from "./site/build.mjs";

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

await buildSite({ out: path.join(here, "dist-site") });
