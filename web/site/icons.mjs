// Draws icon-180.png and icon-512.png out of icon.svg, for systems that take no SVG: `node site/icons.mjs`, after a change
// of it. Their ground fills the square, since those systems cut corners to their own taste.
import { open } from "../tests/browser.mjs";
import fs from "node:fs";

const here = new URL(".", import.meta.url);
const svg = fs.readFileSync(new URL("icon.svg", here), "utf8").replace(/ rx="112"/, "");
const { context, close } = await open();
const page = await context.newPage();
for (const size of [180, 512]) {
  await page.setViewportSize({ width: size, height: size });
  await page.setContent(`<style>body { margin: 0 } svg { display: block; width: 100vw }</style>${svg}`);
  fs.writeFileSync(new URL(`icon-${size}.png`, here), await page.screenshot());
}
await close();
