// Test this GPU: for now its adapters, as this browser describes them.

import { adapters } from "../ts/index.js";
import { begin, byId, h, problem } from "./page.js";

begin();
try {
  const found = await adapters();
  byId("content").append(...found.map((adapter) => h("div", { className: "card" }, h("h2", {}, adapter.name || "A GPU without a name"),
    h("table", { className: "figures" }, h("tbody", {}, ...Object.entries(adapter).map(([key, value]) =>
      h("tr", {}, h("th", { scope: "row" }, key.replaceAll("_", " ")), h("td", {}, String(value)))))))));
} catch (error) {
  byId("content").append(problem(error));
}
