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

const FENCE = /^\s*(```|~~~)\s*(\S*)/;
const HEADING = /^(#{1,6})\s+(.*)/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)/;
const QUOTE = /^>\s?(.*)/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const ROW = /^\s*\|.*\|\s*$/;

function blocks(lines: string[], depth: number): Node[] {
  if (depth > MAX_DEPTH) return lines.some((line) => line.trim()) ? [h("p", {}, lines.join("\n"))] : [];
  const out: Node[] = [];
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
      const code = take((line) => !line.trim().startsWith(mark!));
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
  }
  return out;
}

function list(lines: string[], depth: number): Node {
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

function table(lines: string[]): Node {
  const cells = (line: string) => line.trim().slice(1, -1).split("|").map((cell) => cell.trim());
  const rule = (line: string) => cells(line).every((cell) => /^:?-+:?$/.test(cell));
  const rows = lines.filter((line) => !rule(line)).map((line, index) => {
    const kind = index === 0 && lines.length > 1 && rule(lines[1]!) ? "th" : "td";
    return h("tr", {}, ...cells(line).map((cell) => h(kind, {}, ...inline(cell, 0))));
  });
  return h("table", { tabIndex: 0 }, h("tbody", {}, ...rows));
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
