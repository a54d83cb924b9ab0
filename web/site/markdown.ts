// Markdown as models write it, made of elements and never of HTML text: what a model says cannot become part of the page.

import { h } from "./page.js";

/** Replaces what `target` shows by `text`. */
export function render(target: HTMLElement, text: string): void {
  target.replaceChildren(...blocks(text.split("\n")));
}

const FENCE = /^\s*(```|~~~)\s*(\S*)/;
const HEADING = /^(#{1,6})\s+(.*)/;
const ITEM = /^(\s*)([-*+]|\d+[.)])\s+(.*)/;
const QUOTE = /^>\s?(.*)/;
const RULE = /^\s*([-*_])(\s*\1){2,}\s*$/;
const ROW = /^\s*\|.*\|\s*$/;

function blocks(lines: string[]): Node[] {
  const out: Node[] = [];
  let at = 0;
  const take = (matches: (line: string) => boolean) => {
    const start = at;
    while (at < lines.length && matches(lines[at]!)) at++;
    return lines.slice(start, at);
  };
  while (at < lines.length) {
    const line = lines[at]!;
    const fence = line.match(FENCE);
    const heading = line.match(HEADING);
    if (!line.trim()) at++;
    else if (fence) {
      at++;
      const code = take((line) => !line.trim().startsWith(fence[1]!));
      at++;
      out.push(h("pre", { tabIndex: 0 }, h("code", {}, code.join("\n"))));
    } else if (heading) {
      at++;
      // The page has its own first heading.
      out.push(h(heading[1]!.length === 1 ? "h2" : "h3", {}, ...inline(heading[2]!)));
    } else if (RULE.test(line)) {
      at++;
      out.push(h("hr"));
    } else if (QUOTE.test(line)) {
      out.push(h("blockquote", {}, ...blocks(take((line) => QUOTE.test(line)).map((line) => line.match(QUOTE)![1]!))));
    } else if (ROW.test(line)) out.push(table(take((line) => ROW.test(line))));
    else if (ITEM.test(line)) out.push(list(take((line) => ITEM.test(line) || /^\s+\S/.test(line))));
    else {
      const starts = (line: string) => !line.trim() || [FENCE, HEADING, ITEM, QUOTE, RULE, ROW].some((kind) => kind.test(line));
      const first = at++;
      take((line) => !starts(line));
      out.push(h("p", {}, ...lines.slice(first, at).flatMap((line, index) => (index > 0 ? [h("br"), ...inline(line)] : inline(line)))));
    }
  }
  return out;
}

function list(lines: string[]): Node {
  const [, indent, mark] = lines[0]!.match(ITEM)!;
  const items: string[][] = [];
  for (const line of lines) {
    const item = line.match(ITEM);
    if (item && item[1]!.length <= indent!.length) items.push([item[3]!]);
    else items.at(-1)!.push(line.slice(Math.min(indent!.length + 2, line.search(/\S/))));
  }
  const made = items.map(([first, ...rest]) => h("li", {}, ...inline(first!), ...blocks(rest)));
  const start = Number.parseInt(mark!, 10);
  return Number.isNaN(start) ? h("ul", {}, ...made) : h("ol", { start }, ...made);
}

function table(lines: string[]): Node {
  const cells = (line: string) => line.trim().slice(1, -1).split("|").map((cell) => cell.trim());
  const rule = (line: string) => cells(line).every((cell) => /^:?-+:?$/.test(cell));
  const rows = lines.filter((line) => !rule(line)).map((line, index) => {
    const kind = index === 0 && lines.length > 1 && rule(lines[1]!) ? "th" : "td";
    return h("tr", {}, ...cells(line).map((cell) => h(kind, {}, ...inline(cell))));
  });
  return h("table", {}, h("tbody", {}, ...rows));
}

const INLINE = /(`+)(.+?)\1|\*\*(.+?)\*\*|__(.+?)__|\*([^\s*](?:.*?[^\s*])?)\*|\b_([^\s_](?:.*?[^\s_])?)_\b|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/;

function inline(text: string): (Node | string)[] {
  const out: (Node | string)[] = [];
  for (let rest = text; rest;) {
    const found = rest.match(INLINE);
    if (!found) {
      out.push(rest);
      break;
    }
    out.push(rest.slice(0, found.index));
    const [whole, , code, strong, strong2, emphasis, emphasis2, label, href] = found;
    if (code !== undefined) out.push(h("code", {}, code));
    else if (strong ?? strong2) out.push(h("strong", {}, ...inline((strong ?? strong2)!)));
    else if (emphasis ?? emphasis2) out.push(h("em", {}, ...inline((emphasis ?? emphasis2)!)));
    else out.push(h("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...inline(label!)));
    rest = rest.slice(found.index! + whole.length);
  }
  return out.filter((part) => part !== "");
}
