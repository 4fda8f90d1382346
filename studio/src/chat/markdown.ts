/**
 * The part of Markdown that chat models write, as trees: what is not of this part stays as it is written. Unfinished text,
 * as while an answer streams, is read as if it ended there.
 */

/** What stands within a line. A link leads to http or https. */
export type Inline =
  | string
  | { readonly kind: 'code' | 'math'; readonly text: string }
  | { readonly kind: 'strong' | 'em' | 'del'; readonly parts: readonly Inline[] }
  | { readonly kind: 'link'; readonly to: string; readonly parts: readonly Inline[] };

/** What stands on lines of its own. */
export type Block =
  | { readonly kind: 'paragraph'; readonly parts: readonly Inline[] }
  | { readonly kind: 'heading'; readonly level: number; readonly parts: readonly Inline[] }
  | { readonly kind: 'code'; readonly text: string }
  | { readonly kind: 'math'; readonly text: string }
  | { readonly kind: 'quote'; readonly blocks: readonly Block[] }
  | {
      readonly kind: 'list';
      /** The number of the first item; undefined for bullets. */
      readonly start: number | undefined;
      readonly items: readonly (readonly Block[])[];
    }
  | { readonly kind: 'table'; readonly head: Row; readonly rows: readonly Row[] }
  | { readonly kind: 'rule' };

type Row = readonly (readonly Inline[])[];

const FENCE = /^ {0,3}(`{3,}|~{3,})[^`]*$/;
const HEADING = /^(#{1,6}) +(.*?)(?: +#+)?$/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)(?:[-*+]|(\d{1,9})[.)])( +)(?=\S)/;
const UNDER_HEAD = /^(?: *\|)?(?: *:?-+:? *\|)+(?: *:?-+:? *)?$/;
const MATH = /^ *(?:\\\[|\$\$)/;
/** Quotes and lists within each other; deeper ones stay as they are written, since a model that repeats itself may write thousands. */
const MOST_NESTED = 16;

/** The blocks of a text. Nesting ends at a depth of 16. */
export function parseMarkdown(text: string): Block[] {
  return blocksOf(text.replaceAll('\t', '    ').split('\n'));
}

function blocksOf(lines: readonly string[], nested = 0): Block[] {
  const blocks: Block[] = [];
  let at = 0;
  /** Takes lines until one that `ends`. */
  const until = (ends: (line: string) => boolean): string[] => {
    const first = at;
    while (at < lines.length && !ends(lines[at]!)) at++;
    return lines.slice(first, at);
  };
  while (at < lines.length) {
    const line = lines[at]!;
    if (line.trim() === '') {
      at++;
      continue;
    }
    const [, fence] = FENCE.exec(line) ?? [];
    const [, hashes, title] = HEADING.exec(line) ?? [];
    const item = nested < MOST_NESTED && ITEM.exec(line);
    if (fence !== undefined) {
      at++;
      const code = until((each) => each.trimStart().startsWith(fence) && FENCE.test(each));
      at++;
      blocks.push({ kind: 'code', text: code.join('\n') });
    } else if (MATH.test(line)) {
      const end = line.includes('$$') ? '$$' : '\\]';
      const first = at;
      const isOneLine = line.trim().length > 2 && line.indexOf(end, line.search(/\S/) + 2) !== -1;
      if (!isOneLine) {
        at++;
        until((each) => each.includes(end));
      }
      at++;
      blocks.push({ kind: 'math', text: lines.slice(first, at).join('\n').trim() });
    } else if (hashes !== undefined) {
      at++;
      blocks.push({ kind: 'heading', level: hashes.length, parts: parseInline(title!) });
    } else if (RULE.test(line)) {
      at++;
      blocks.push({ kind: 'rule' });
    } else if (nested < MOST_NESTED && QUOTE.test(line)) {
      const quoted = until((each) => !QUOTE.test(each)).map((each) => each.replace(QUOTE, ''));
      blocks.push({ kind: 'quote', blocks: blocksOf(quoted, nested + 1) });
    } else if (line.includes('|') && UNDER_HEAD.test(lines[at + 1] ?? '')) {
      const head = cellsOf(line);
      at += 2;
      const rows = until((each) => !each.includes('|')).map(cellsOf);
      blocks.push({ kind: 'table', head, rows: rows.map((row) => head.map((_, i) => row[i] ?? [])) });
    } else if (item) {
      blocks.push(list(item[1]!.length, item[2] === undefined ? undefined : Number(item[2])));
    } else {
      const first = at++;
      until((each) => each.trim() === '' || begins(each));
      blocks.push({ kind: 'paragraph', parts: parseInline(lines.slice(first, at).join('\n')) });
    }
  }
  return blocks;

  /** A list whose items begin after `indent` spaces; what is further in belongs to its items. */
  function list(indent: number, start: number | undefined): Block {
    const items: Block[][] = [];
    const isMine = (line: string): boolean => {
      const found = ITEM.exec(line);
      return (
        found !== null && found[1]!.length < indent + 2 && (found[2] === undefined) === (start === undefined)
      );
    };
    while (at < lines.length && isMine(lines[at]!)) {
      const mark = ITEM.exec(lines[at]!)![0].length;
      const own = [lines[at++]!.slice(mark)];
      own.push(
        ...until((line) => {
          if (line.trim() === '') {
            let next = at + 1;
            while (lines[next]?.trim() === '') next++;
            return !/^ {2,}\S/.test(lines[next] ?? '') && !isMine(lines[next] ?? '');
          }
          return isMine(line) || (!/^ {2,}/.test(line) && (begins(line) || lines[at - 1]!.trim() === ''));
        }).map((line) => line.replace(new RegExp(`^ {0,${mark}}`), '')),
      );
      items.push(blocksOf(own, nested + 1));
    }
    return { kind: 'list', start, items };
  }
}

/** Whether a line ends a paragraph, since something else begins with it. */
function begins(line: string): boolean {
  return [FENCE, HEADING, RULE, QUOTE, ITEM, MATH].some((each) => each.test(line));
}

function cellsOf(line: string): Row {
  const inner = line.trim().replace(/^\||(?<!\\)\|$/g, '');
  return inner.split(/(?<!\\)\|/).map((cell) => parseInline(cell.trim().replaceAll('\\|', '|')));
}

/**
 * In the order of the groups: code, mathematics, an escaped sign, a link and its address, strong, deleted, and emphasized text. Lengths
 * have limits, so that the time for a text of many marks that do not end is proportional to its length.
 */
const INLINE =
  /(`+)(?!`)(.{1,999}?)(?<!`)\1(?!`)|(\\\(.{1,999}?\\\)|\\\[.{1,999}?\\\]|\$(?![\s$\d])[^$\n]{0,999}?(?<![\s\\])\$(?!\d))|\\([!-/:-@[-`{-~])|\[([^\]\n]{1,999})\]\((https?:\/\/[^\s()]{1,1999})\)|\*\*(?=\S)(.{1,999}?)(?<=\S)\*\*(?!\*)|~~(?=\S)(.{1,999}?)(?<=\S)~~|(?<!\*)\*(?![\s*])([^*]{1,999}?)(?<!\s)\*(?!\*)|(?<![\w_])_(?![\s_])([^_]{1,999}?)(?<!\s)_(?![\w_])/gs;

/** The parts of a text within a block. Marks that do not end stay as they are written. */
export function parseInline(text: string): Inline[] {
  const parts: Inline[] = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [all, , code, math, escaped, label, to, strong, deleted, star, underscore] = found;
    if (found.index > end) parts.push(text.slice(end, found.index));
    end = found.index + all.length;
    const emphasized = star ?? underscore;
    if (code !== undefined) parts.push({ kind: 'code', text: code.replace(/^ (.*) $/s, '$1') });
    else if (math !== undefined) parts.push({ kind: 'math', text: math });
    else if (escaped !== undefined) parts.push(escaped);
    else if (to !== undefined) parts.push({ kind: 'link', to, parts: parseInline(label!) });
    else if (strong !== undefined) parts.push({ kind: 'strong', parts: parseInline(strong) });
    else if (deleted !== undefined) parts.push({ kind: 'del', parts: parseInline(deleted) });
    else parts.push({ kind: 'em', parts: parseInline(emphasized!) });
  }
  if (end < text.length) parts.push(text.slice(end));
  return parts;
}
