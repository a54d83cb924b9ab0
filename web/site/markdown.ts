// Markdown as models write it, made of elements and never of HTML text: what a model says cannot become part of the page.

import { h } from "./page.js";

/** Quotes in quotes, lists in lists, emphasis in emphasis: deeper ones are plain text. A model that repeats one character
 * for ever must not overflow the stack. */
const MAX_DEPTH = 12;
/** A longer line is plain text: looking for the ends of emphasis takes time that grows with its square. */
const MAX_LINE = 4000;

/** Replaces what `target` shows by `text`. */
export function render(target: HTMLElement, text: string): void {
  target.replaceChildren(...blocks(text.split("\n"), 0));
}

/** Shows a text that grows, given whole each time: what is finished stays, and only what may still change is made anew. */
export function growing(target: HTMLElement): (text: string) => void {
  /** How much of the text is finished, the table whose rows still come, and what else was shown. */
  let done = 0;
  let open: HTMLTableElement | undefined;
  let rest: Element[] = [];
  const finish = (lines: string[]) => (done += lines.reduce((sum, line) => sum + line.length + 1, 0));
  return function draw(text) {
    for (const node of rest) node.remove();
    rest = [];
    let lines = text.slice(done).split("\n");
    if (open) {
      // The last line may go on, and be something else then.
      const end = lines.findIndex((line, index) => index === lines.length - 1 || !ROW.test(line));
      open.tBodies[0]!.append(...rows(lines.slice(0, end)));
      finish(lines.splice(0, end));
      if (lines.length > 1) open = undefined;
      else if (ROW.test(lines[0]!)) return open.tBodies[0]!.append(...(rest = rows(lines)));
    }
    const ends: number[] = [];
    const made = blocks(lines, 0, ends);
    const finished = ends.filter((end) => end < lines.length - 1).length;
    target.append(...made);
    rest = made.slice(finished);
    const end = Math.min(ends[finished] ?? 0, lines.length - 1);
    const begin = Math.max(ends[finished - 1] ?? 0, lines.slice(0, end).findLastIndex((line) => !ROW.test(line)) + 1);
    if (made[finished] instanceof HTMLTableElement && end - begin >= 2) {
      // From its second row on a table is known for what it is.
      open = table(lines.slice(begin, end));
      rest.shift()!.replaceWith(open);
      finish(lines.splice(0, end));
      draw(text);
    } else finish(lines.splice(0, ends[finished - 1] ?? 0));
  };
}

const FENCE = /^\s*(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const HEADING = /^(#{1,6})\s+(.*)/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)/;
const QUOTE = /^>\s?(.*)/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const ROW = /^\s*\|.*\|\s*$/;

/** `ends` takes the line after each block. */
function blocks(lines: string[], depth: number, ends: number[] = []): Element[] {
  if (depth > MAX_DEPTH) return lines.some((line) => line.trim()) ? [h("p", {}, lines.join("\n"))] : [];
  const out: Element[] = [];
  let at = 0;
  const take = (matches: (line: string) => boolean) => {
    const start = at;
    while (at < lines.length && matches(lines[at]!)) at++;
    return lines.slice(start, at);
  };
  while (at < lines.length) {
    const line = lines[at]!;
    const kind = line.length > MAX_LINE ? undefined : [FENCE, HEADING, RULE, QUOTE, ROW, ITEM].find((kind) => kind.test(line));
    if (!line.trim()) at++;
    else if (kind === FENCE) {
      const [, mark] = line.match(FENCE)!;
      at++;
      const code = take((line) => !closes(line.trim(), mark!));
      at++;
      out.push(h("pre", { tabIndex: 0 }, h("code", {}, code.join("\n"))));
    } else if (kind === HEADING) {
      const [, mark, text] = line.match(HEADING)!;
      at++;
      // The page has its own first heading.
      out.push(h(mark!.length === 1 ? "h2" : "h3", {}, ...inline(text!, 0)));
    } else if (kind === RULE) {
      at++;
      out.push(h("hr"));
    } else if (kind === QUOTE) {
      out.push(h("blockquote", {}, ...blocks(take((line) => QUOTE.test(line)).map((line) => line.match(QUOTE)![1]!), depth + 1)));
    } else if (kind === ROW) out.push(table(take((line) => ROW.test(line))));
    else if (kind === ITEM) out.push(list(take((line) => ITEM.test(line) || /^\s+\S/.test(line)), depth));
    else {
      const starts = (line: string) => !line.trim() || [FENCE, HEADING, ITEM, QUOTE, RULE, ROW].some((kind) => kind.test(line));
      const first = at++;
      take((line) => !starts(line));
      out.push(h("p", {}, ...lines.slice(first, at).flatMap((line, index) => (index > 0 ? [h("br"), ...inline(line, 0)] : inline(line, 0)))));
    }
    if (out.length > ends.length) ends.push(at);
  }
  return out;
}

const closes = (line: string, mark: string) => line.length >= mark.length && line === mark[0]!.repeat(line.length);

function list(lines: string[], depth: number): Element {
  const [, indent, mark] = lines[0]!.match(ITEM)!;
  const items: string[][] = [];
  for (const line of lines) {
    const item = line.match(ITEM);
    if (item && item[1]!.length <= indent!.length) items.push([item[3]!]);
    else items.at(-1)!.push(line.slice(Math.min(indent!.length + 2, line.search(/\S/))));
  }
  const made = items.map(([first, ...rest]) => h("li", {}, ...inline(first!, 0), ...blocks(rest, depth + 1)));
  const start = Number.parseInt(mark!, 10);
  return Number.isNaN(start) ? h("ul", {}, ...made) : h("ol", { start }, ...made);
}

function table(lines: string[]): HTMLTableElement {
  const head = lines.length > 1 && isRule(lines[1]!) ? 1 : 0;
  return h("table", { tabIndex: 0 }, h("tbody", {}, ...rows(lines.slice(0, head), "th"), ...rows(lines.slice(head))));
}

const cells = (line: string) => line.trim().slice(1, -1).split("|").map((cell) => cell.trim());
const isRule = (line: string) => cells(line).every((cell) => /^:?-+:?$/.test(cell));

function rows(lines: string[], kind: "th" | "td" = "td"): Element[] {
  return lines.filter((line) => !isRule(line)).map((line) => h("tr", {}, ...cells(line).map((cell) => h(kind, {}, ...inline(cell, 0)))));
}

// Only http and https become links.
const INLINE = /(`{1,3})(.+?)\1|\*\*(.+?)\*\*|__(.+?)__|\*([^\s*](?:.*?[^\s*])?)\*|\b_([^\s_](?:.*?[^\s_])?)_\b|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/g;

function inline(text: string, depth: number): (Node | string)[] {
  if (depth > MAX_DEPTH || text.length > MAX_LINE) return [text];
  const out: (Node | string)[] = [];
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, , code, strong, strong2, emphasis, emphasis2, label, href] = found;
    const inside = (part: string) => inline(part, depth + 1);
    out.push(text.slice(at, found.index));
    if (code !== undefined) out.push(h("code", {}, code));
    else if (strong ?? strong2) out.push(h("strong", {}, ...inside((strong ?? strong2)!)));
    else if (emphasis ?? emphasis2) out.push(h("em", {}, ...inside((emphasis ?? emphasis2)!)));
    else out.push(h("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...inside(label!)));
    at = found.index + whole.length;
  }
  out.push(text.slice(at));
  return out.filter((part) => part !== "");
}
