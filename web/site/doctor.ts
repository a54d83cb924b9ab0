// The doctor's page: every kernel variant against its reference on this browser and GPU.

import { doctor, type DoctorReport, type DoctorRow } from "../ts/index.js";
import { announce, begin, byId, h, problem } from "./page.js";

begin();
const rows = h("tbody");
const words = h("p", { className: "soft" }, "Runs every kernel that this GPU can run, in every variant, and compares its results with ones computed on the CPU in double precision. Nothing is downloaded.");
const start = h("button", { className: "main", onclick: () => void run() }, "Examine this GPU");
const stop = h("button", { hidden: true, onclick: () => abort?.abort() }, "Stop");
const copy = h("button", { hidden: true, onclick: () => void navigator.clipboard.writeText(JSON.stringify(report, null, 2)) }, "Copy as JSON");
const result = h("div", { role: "status" });
let abort: AbortController | undefined;
let report: DoctorReport | undefined;

byId("content").append(words, h("div", { className: "buttons" }, start, stop, copy), result,
  h("table", { className: "figures" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { className: "unseen" }, "Result")), h("th", { scope: "col" }, "Kernel and variant"))), rows));

async function run(): Promise<void> {
  rows.replaceChildren();
  result.replaceChildren();
  start.disabled = true;
  stop.hidden = false;
  abort = new AbortController();
  let done = 0;
  const onRow = (row: DoctorRow) => {
    done += 1;
    result.textContent = `${done} variants examined`;
    // What fails is what one looks for.
    if (row.passed) rows.append(rowElement(row));
    else rows.prepend(rowElement(row));
  };
  try {
    report = await doctor({ onRow, signal: abort.signal });
    const { adapter, failed } = report;
    const all = report.rows.length;
    const text = failed === 0 ? `All ${all} variants pass on ${adapter.name}.` : `${failed} of ${all} variants fail on ${adapter.name}.`;
    result.replaceChildren(h("div", { className: `card notice ${failed ? "bad" : ""}` }, h("p", {}, text),
      h("small", { className: "soft" }, `${adapter.backend}, subgroups ${adapter.subgroups ? adapter.subgroup_size.join(" to ") : "none"}, f16 ${adapter.f16 ? "yes" : "no"}, bindings up to ${Math.round(adapter.max_binding_bytes / 2 ** 20)} MiB`)));
    announce(text);
    copy.hidden = false;
  } catch (error) {
    if ((error as Error).name !== "AbortError") result.replaceChildren(problem(error));
  }
  start.disabled = false;
  stop.hidden = true;
}

function rowElement({ name, n_checks, passed, worst, detail }: DoctorRow): HTMLElement {
  const error = Number.isFinite(worst) ? worst.toFixed(3) : "∞";
  return h("tr", {},
    h("td", { className: `mark ${passed ? "pass" : "fail"}` }, passed ? "pass" : "FAIL"),
    h("td", {}, name, detail ? h("div", { className: "fail" }, detail) : undefined,
      h("div", {}, h("small", { className: "soft" }, `${n_checks} checks, error ${error} of tolerance`))));
}
// For tests.
Object.assign(globalThis, { report: () => report });
