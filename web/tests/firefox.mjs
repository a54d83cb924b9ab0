// Firefox: a second implementation of WebGPU (wgpu, on the system's Vulkan driver), without a driver of tests.
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { check, same } from "./check.mjs";

const PREFS = {
  "dom.webgpu.enabled": true, "dom.webgpu.workers.enabled": true, "gfx.webgpu.ignore-blocklist": true,
  "browser.shell.checkDefaultBrowser": false, "datareporting.policy.dataSubmissionEnabled": false,
  "browser.aboutwelcome.enabled": false, "app.update.enabled": false, "toolkit.telemetry.enabled": false,
  "network.captive-portal-service.enabled": false, "network.connectivity-service.enabled": false,
  "browser.region.update.enabled": false, "extensions.update.enabled": false, "app.normandy.enabled": false,
};

/** A private window, in which nothing is kept; that something is kept elsewhere the site shows. */
const PRIVATE = { "browser.privatebrowsing.autostart": true };

export async function firefoxTests(run, { server, model, prompt, options, native }) {
  await run("firefox generates what the program does in a private window", async () => {
    const { error, ids, info } = await ask(server, "tests/firefox.html", { model, prompt, options }, PRIVATE);
    if (error) throw new Error(error);
    same("ids", ids, native);
    check("nothing is kept", !info.key, info.key);
    return `${info.adapter.kind} adapter`;
  });

  await run("firefox: the site chats, is there again after a reload, examines and measures", async () => {
    const question = "Hi there";
    const { error, pages, steps, complaints } = await ask(server, "tests/firefox-site.html", { model: path.basename(model, ".gguf"), question });
    same("complaints", complaints, []);
    if (error) throw new Error(error);
    same("pages that were heard from before they were complete", pages.map(([name, state]) => [name, state !== "complete"]), ["/", "/", "/doctor.html", "/gpu.html"].map((name) => [name, true]));
    const { answered, reloaded, deleted, examined, measured, report } = Object.fromEntries(steps.map(({ name, at, ...more }) => [name, more]));
    check("there is an answer and its rate", answered.answer.length > 0 && /^4 tokens, [\d.]+ per second/.test(answered.rate), JSON.stringify(answered));
    same("in the list", answered.title, question);
    same("after a reload", reloaded, { question, answer: answered.answer });
    same("models", deleted.models, 0);
    same("kernels that fail", examined.failed, 0);
    check("kernels were examined", examined.rows > 2, examined.rows);
    same("tests", measured.tests, ["ppN", "tgN"]);
    check("the table has them", /prompt of.*decode/.test(measured.table), measured.table);
    same("a report's style, and whether its scripts run", report, { padding: "7px", margin: "3px", ran: false });
    return steps.map(({ name, at }) => `${name} after ${(at / 1000).toFixed(1)} s`).join(", ");
  });
}

/** Opens a page of `server` and waits for what it posts. */
async function ask(server, page, question, more = {}, timeoutMs = 300_000) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "pocketlm-firefox-"));
  const prefs = Object.entries({ ...PREFS, ...more }).map(([key, value]) => `user_pref(${JSON.stringify(key)}, ${JSON.stringify(value)});\n`);
  fs.writeFileSync(path.join(profile, "user.js"), prefs.join(""));
  const url = `${server.url}${page}#${encodeURIComponent(JSON.stringify(question))}`;
  const program = process.env.FIREFOX ?? "firefox-esr";
  const child = spawn(program, ["--headless", "--no-remote", "--profile", profile, url], { stdio: "ignore", detached: true });
  let timer;
  try {
    return await new Promise((resolve, reject) => {
      server.posted = resolve;
      child.on("error", reject);
      child.on("exit", (code) => reject(new Error(`Firefox ended with ${code}`)));
      timer = setTimeout(() => reject(new Error(`Firefox posted nothing in ${timeoutMs / 1000} s`)), timeoutMs);
    });
  } finally {
    clearTimeout(timer);
    server.posted = undefined;
    child.removeAllListeners("exit");
    // Its children belong to its group.
    const over = new Promise((resolve) => child.on("exit", resolve));
    if (child.pid) process.kill(-child.pid, "SIGKILL");
    await over;
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
