// Puts the site together: pages out of frame.html and what each has of its own; scripts, styles and wasm in a folder named
// after their version, so that no page ever gets another version's. Pages, icons and the service worker keep their
// addresses.
import { fileURLToPath } from "node:url";
import { createHash } from "node:crypto";
import { build } from "esbuild";
import fs from "node:fs";
import path from "node:path";

const here = fileURLToPath(new URL(".", import.meta.url));
const read = (name) => fs.readFileSync(path.join(here, name), "utf8");
const PAGES = ["index.html", "gpu.html", "doctor.html"];
const FIXED = ["icon.svg", "icon-180.png", "icon-512.png", "manifest.webmanifest"];

/** What pages may load and run: nothing but the site's own, and models from wherever they are. A model's words are never part
 * of a page; should they become so by a mistake of ours, no script of theirs runs. A meta element says it, so that it holds on
 * any server; who may frame the site, and what its worker may do, only a header could say. */
const POLICY = {
  "default-src": ["'none'"],
  "script-src": ["'self'", "'wasm-unsafe-eval'"],
  "style-src": ["'self'"],
  "img-src": ["'self'"],
  "manifest-src": ["'self'"],
  "worker-src": ["'self'"],
  "connect-src": ["'self'", "https:", "http://localhost:*", "http://127.0.0.1:*", "blob:"],
  "base-uri": ["'none'"],
  "form-action": ["'none'"],
};
/** The frame that shows a report inherits the page's policy, and a report brings its style along. */
const POLICIES = { "gpu.html": { ...POLICY, "style-src": ["'self'", "'unsafe-inline'"] } };

/** Builds into the folder `out`, out of the wasm of `pkg`; `banner` heads every script. */
export async function buildSite({ out, pkg = path.join(here, "../pkg"), banner = "" }) {
  const common = { absWorkingDir: path.join(here, ".."), bundle: true, format: "esm", target: "es2022", minify: true, logLevel: "warning", legalComments: "none", banner: { js: banner } };
  fs.rmSync(out, { recursive: true, force: true });
  const folder = path.join(out, "files");
  fs.mkdirSync(folder, { recursive: true });
  const scripts = PAGES.map((page) => `site/${path.basename(page, ".html")}.ts`);
  await build({
    ...common,
    entryPoints: [...scripts, "ts/worker.ts"].map((file) => ({ in: file, out: path.basename(file, ".ts") })),
    outdir: folder,
    splitting: true,
    // The worker lies beside every page's script.
    chunkNames: "[name]-[hash]",
  });
  fs.copyFileSync(path.join(pkg, "pocketlm_bg.wasm"), path.join(folder, "pocketlm_bg.wasm"));
  fs.copyFileSync(path.join(here, "style.css"), path.join(folder, "style.css"));
  for (const file of FIXED) fs.copyFileSync(path.join(here, file), path.join(out, file));

  const hash = createHash("sha256");
  const add = (file, from) => hash.update(file).update(fs.readFileSync(path.join(from, file)));
  const files = fs.readdirSync(folder).sort();
  for (const file of files) add(file, folder);
  for (const file of [...PAGES, ...FIXED, "frame.html", "sw.ts", "build.mjs"]) add(file, here);
  const version = hash.digest("hex").slice(0, 12);
  fs.renameSync(folder, path.join(out, `v-${version}`));
  for (const page of PAGES) fs.writeFileSync(path.join(out, page), pageText(page, version));
  const define = {
    PAGES: JSON.stringify(PAGES),
    FILES: JSON.stringify([...FIXED, ...files.map((file) => `v-${version}/${file}`)]),
    VERSION: JSON.stringify(version),
  };
  await build({ ...common, entryPoints: ["site/sw.ts"], outfile: path.join(out, "sw.js"), define });
  return version;
}

/** The frame with a page's parts, each of which follows its name in a comment; one that it lacks is empty. */
function pageText(page, version) {
  const [, ...pieces] = read(page).split(/<!-- (\w+) -->\n?/);
  const policy = Object.entries(POLICIES[page] ?? POLICY).map(([what, sources]) => `${what} ${sources.join(" ")}`).join("; ");
  const parts = { version, policy, page: path.basename(page, ".html") };
  for (let index = 0; index < pieces.length; index += 2) parts[pieces[index]] = pieces[index + 1].trimEnd();
  const href = page === "index.html" ? "./" : page;
  return read("frame.html")
    .replace(/\{\{(\w+)\}\}/g, (_, name) => parts[name] ?? "")
    .replace(/\n\n+/g, "\n")
    .replace(`<a href="${href}">`, `<a href="${href}" aria-current="page">`);
}
