// The doctor's page: every kernel variant against its reference on this browser and GPU.

import { doctor, type DoctorReport, type DoctorRow } from "../ts/index.js";
import { announce, begin, byId, copy, h, problem } from "./page.js";

const rows = h("tbody");
const start = h("button", { className: "main", onclick: () => void run() }, "Examine this GPU");
const stop = h("button", { hidden: true, onclick: () => abort?.abort() }, "Stop");
const json = h("button", { hidden: true, onclick: () => void copy(JSON.stringify(report, null, 2)) }, "Copy as JSON");
const result = h("div", { className: "result", tabIndex: -1 });
let abort: AbortController | undefined;
let report: DoctorReport | undefined;

byId("content").append(
  h("p", { className: "soft" }, "Runs every kernel that this GPU can run, in every variant, and compares its results with ones computed on the CPU in double precision. Nothing is downloaded, and nothing leaves this device."),
  h("div", { className: "buttons" }, start, stop, json), result,
  h("table", { className: "figures", hidden: true },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { className: "unseen" }, "Result")), h("th", { scope: "col" }, "Kernel and variant"))), rows));
start.disabled = !begin();

async function run(): Promise<void> {
  rows.replaceChildren();
  rows.parentElement!.hidden = false;
  json.hidden = true;
  start.disabled = true;
  stop.hidden = false;
  stop.focus();
  abort = new AbortController();
  const { signal } = abort;
  let done = 0;
  result.replaceChildren("Starting");
  announce("Examining this GPU");
  const onRow = (row: DoctorRow) => {
    done += 1;
    result.textContent = `${done} variants examined`;
    // What fails is what one looks for, and all that those who listen are told in between.
    if (row.passed) return rows.append(rowElement(row));
    rows.prepend(rowElement(row));
    announce(`${row.name} fails`);
  };
  try {
    report = await doctor({ onRow, signal });
    const text = summary(report, signal.aborted);
    result.replaceChildren(h("div", { className: `card notice ${report.failed ? "bad" : ""}` }, h("p", {}, text), h("small", { className: "soft" }, abilities(report))));
    announce(text);
    json.hidden = false;
  } catch (error) {
    result.replaceChildren(signal.aborted ? "Stopped." : problem(error));
  }
  start.disabled = false;
  stop.hidden = true;
  start.focus();
}

/** What was found; a stop leaves variants of which nothing is known. */
function summary({ adapter, rows, failed }: DoctorReport, stopped: boolean): string {
  const n = rows.length;
  if (stopped) return `Stopped after ${n} variants, of which ${failed === 0 ? "none fails" : `${failed} fail`} on ${adapter.name}; the others were not examined.`;
  return failed === 0 ? `All ${n} variants pass on ${adapter.name}.` : `${failed} of ${n} variants fail on ${adapter.name}.`;
}

function abilities({ adapter }: DoctorReport): string {
  const { backend, subgroups, subgroup_size, f16, max_binding_bytes } = adapter;
  return `${backend}, subgroups ${subgroups ? subgroup_size.join(" to ") : "none"}, f16 ${f16 ? "yes" : "no"}, bindings up to ${Math.round(max_binding_bytes / 2 ** 20)} MiB`;
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
