/** Pages of rows as text: words put together again that a line's end broke, paragraphs, and passages, which are what is searched for. */
import { cutOf } from './cut.js';
import { around, median } from './formats/layout.js';
import { withoutMargins } from './formats/margins.js';
import type { Box, Page, PageState, Row } from './formats/page.js';

/** A part of a page that is found and cited: some paragraphs, or a part of a long one. */
export interface Passage {
  readonly text: string;
  /** Headings that it stands under, as far as they are on its pages or the ones before; and those within it. */
  readonly heading: string;
  /** Where it stands: one box for each paragraph. Empty where nothing is drawn. */
  readonly boxes: readonly Box[];
}

/** What was read of a page; `width` and `height` are in points. */
export interface PageText {
  readonly state: PageState;
  readonly why?: string;
  readonly width?: number;
  readonly height?: number;
  readonly passages: readonly Passage[];
}

interface Paragraph {
  readonly text: string;
  readonly heading: boolean;
  readonly box: Box | undefined;
}

/** A passage ends behind so many characters. */
const PASSAGE_CHARACTERS = 700;
const LONGEST_PASSAGE = 1400;
/** A heading is larger than the text by this factor, and no longer than this. */
const LARGER = 1.12;
const LONGEST_HEADING = 160;

/** Turns pages that follow each other in a document into text. `before` is the heading that they begin under. */
export class PageTexts {
  constructor(private under = '') {}

  /** The last heading. */
  get heading(): string {
    return this.under;
  }

  of(pages: readonly Page[]): PageText[] {
    const rows = withoutMargins(pages);
    const sizes = rows.flatMap((each) =>
      each.flatMap(({ size, text }) => (size && text.length > 20 ? [size] : [])),
    );
    const usual = median(sizes);
    return pages.map(({ rows: _, ...page }, i) => ({ ...page, passages: this.passages(rows[i]!, usual) }));
  }

  private passages(rows: readonly Row[], usual: number): Passage[] {
    const passages: Passage[] = [];
    let open: Paragraph[] = [];
    let length = 0;
    const close = (): void => {
      if (open.length === 0) return;
      const own = open.filter(({ heading }) => heading).map(({ text }) => text);
      const above = own.length > 0 && open[0]!.heading ? '' : this.under;
      passages.push({
        text: open.map(({ text }) => text).join('\n'),
        heading: [above, ...own].filter((text) => text !== '').join('\n'),
        boxes: open.map(({ box }) => box).filter((box) => box !== undefined),
      });
      this.under = own.at(-1) ?? this.under;
      open = [];
      length = 0;
    };
    for (const paragraph of paragraphsOf(rows, usual)) {
      const after = open.at(-1);
      if (paragraph.heading && !(after?.heading ?? false)) close();
      else if (length + paragraph.text.length > LONGEST_PASSAGE && !after?.heading) close();
      for (const part of parts(paragraph)) {
        open.push(part);
        length += part.text.length;
        if (length >= PASSAGE_CHARACTERS) close();
      }
    }
    close();
    return passages;
  }
}

/** A paragraph, cut at ends of sentences where it is longer than a passage may be. */
function parts(paragraph: Paragraph): Paragraph[] {
  const { text } = paragraph;
  if (text.length <= LONGEST_PASSAGE) return [paragraph];
  const cut: Paragraph[] = [];
  for (let start = 0; start < text.length; ) {
    const end = start + PASSAGE_CHARACTERS;
    const most = end + PASSAGE_CHARACTERS;
    const behind = end >= text.length ? -1 : text.slice(end, most).search(/(?<=[.!?:\n])\s|\n/);
    const rest = most >= text.length ? text.length : cutOf(text, end, most);
    const stop = behind >= 0 ? end + behind : rest;
    const piece = text.slice(start, stop).trim();
    if (piece !== '') cut.push({ ...paragraph, text: piece });
    start = stop;
  }
  return cut;
}

function paragraphsOf(rows: readonly Row[], usual: number): Paragraph[] {
  const paragraphs: Paragraph[] = [];
  let group: Row[] = [];
  const whole = rows.map(({ text }) => text).join(' ');
  const end = (): void => {
    if (group.length === 0) return;
    const boxes = group.map(({ box }) => box).filter((box) => box !== undefined);
    const text = joined(group, whole);
    const larger = usual > 0 && group.every(({ size = 0 }) => size >= LARGER * usual);
    const said = group.some(({ heading }) => heading);
    paragraphs.push({
      text,
      heading:
        (larger || said || (usual > 0 && isNumbered(group))) &&
        text.length <= LONGEST_HEADING &&
        /\p{L}/u.test(text),
      box: boxes.length > 0 ? around(boxes) : undefined,
    });
    group = [];
  };
  for (const row of rows) {
    const above = group.at(-1);
    if (above && beginsParagraph(above, row)) end();
    group.push(row);
  }
  end();
  return paragraphs;
}

/** `2.5.1 Priorities`, on a line of its own. */
function isNumbered(group: readonly Row[]): boolean {
  const [row] = group;
  return (
    group.length === 1 &&
    /^(\d+(\.\d+)+\.?|\d+\.|[A-Z](\.\d+)+)\s+\p{Lu}[^.]*$/u.test(row!.text) &&
    row!.text.length < 90 &&
    !row!.text.includes('\t') &&
    !/(\. ?){4}/.test(row!.text)
  );
}

function beginsParagraph(above: Row, row: Row): boolean {
  if (row.begins !== undefined || row.box === undefined || above.box === undefined)
    return row.begins === true;
  const size = Math.min(above.size!, row.size!);
  const gap = row.box[1] - above.box[3];
  // Another column, or far below.
  if (row.box[3] < above.box[1] || gap > 0.55 * size) return true;
  if (Math.abs(above.size! - row.size!) > 0.12 * size) return true;
  // Rows of tables, entries of lists and of tables of contents, lines of a program.
  if (row.text.includes('\t') || above.text.includes('\t')) return true;
  if (/^([\u2022\u2023\u25aa\u25cf\u25e6\u2013*-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s/.test(row.text)) return true;
  if (/(\. ?){4}\d*$/.test(above.text)) return true;
  // A last line is short, and a first one may be indented.
  const width = Math.max(above.box[2] - above.box[0], row.box[2] - row.box[0]);
  const short = above.box[2] < row.box[2] - 0.25 * width && /[.!?:;"\u201d)]$/.test(above.text);
  const indented = row.box[0] - above.box[0] > 1.2 * size && /[.!?:"\u201d)]$/.test(above.text);
  return short || indented;
}

/** Chinese and Japanese put no space between two words, and so none between two lines. */
const UNSPACED = '[\\p{scx=Han}\\p{scx=Hiragana}\\p{scx=Katakana}\\uff01-\\uff5e]';
const UNSPACED_END = new RegExp(`${UNSPACED}$`, 'u');
const UNSPACED_BEGIN = new RegExp(`^${UNSPACED}`, 'u');

/** Rows as one text; a word that was broken at a line's end is whole again. */
function joined(rows: readonly Row[], page: string): string {
  let text = '';
  for (const { text: next } of rows) {
    if (text === '') text = next;
    else if (text.endsWith('\u00ad')) text = text.slice(0, -1) + next;
    else if (/\p{L}[-\u2010]$/u.test(text) && /^\p{Ll}/u.test(next)) {
      text = keepsHyphen(text, next, page) ? text + next : text.slice(0, -1) + next;
    } else if (UNSPACED_END.test(text) && UNSPACED_BEGIN.test(next)) text += next;
    else text += isCode(text) && isCode(next) ? `\n${next}` : ` ${next}`;
  }
  return text.replaceAll('\u00ad', '');
}

/** Whether a hyphen at a line's end belongs to the word: the page writes it elsewhere within a line, as in "well-known". */
function keepsHyphen(text: string, next: string, page: string): boolean {
  const first = /[\p{L}\p{N}-]+[-\u2010]$/u.exec(text)?.[0] ?? '';
  const second = /^[\p{L}\p{N}]+/u.exec(next)?.[0] ?? '';
  if (first === '' || second === '') return true;
  if (page.includes(`${first.slice(0, -1)}${second}`)) return false;
  return page.includes(`${first}${second}`) || first.slice(0, -1).includes('-');
}

/** A line that is written with signs as programs are. */
function isCode(line: string): boolean {
  return /[;{}]$|^\s*(\/\/|#include)|=>|::|\(\)/.test(line);
}
