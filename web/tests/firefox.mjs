// Firefox: a second implementation of WebGPU (wgpu, on the system's Vulkan driver), without a driver of tests.
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const PREFS = {
  "dom.webgpu.enabled": true, "dom.webgpu.workers.enabled": true, "gfx.webgpu.ignore-blocklist": true,
  "browser.shell.checkDefaultBrowser": false, "datareporting.policy.dataSubmissionEnabled": false,
  "browser.aboutwelcome.enabled": false, "app.update.enabled": false, "toolkit.telemetry.enabled": false,
  "network.captive-portal-service.enabled": false, "network.connectivity-service.enabled": false,
  "browser.region.update.enabled": false, "extensions.update.enabled": false, "app.normandy.enabled": false,
};

/** For {@link ask}: a private window, in which nothing is kept. */
export const PRIVATE = { "browser.privatebrowsing.autostart": true };

/** Opens a page of `server` and waits for what it posts. */
export async function ask(server, page, question, more = {}, timeoutMs = 300_000) {
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
