/**
 * Plain text and Markdown, in UTF-8, in UTF-16 with a byte order mark, or else in the encoding that an HTML file names, or in Latin-1.
 * Markdown is kept as it is written, since that is how people and models read it; its headings are told.
 */
import { createReadStream } from 'node:fs';
import { cutOf } from '../cut.js';
import { FlowPages } from './flow.js';
import { type OpenDocument, UnreadableError } from './page.js';

/** The text is held while it is read: of larger files nobody wants the text as a whole. */
export const MOST_TEXT = 256e6;
/** A longer line is cut: a file in one line has places too. */
const LONGEST_LINE = 2000;
/** Characters of a line that are held until its end is found. */
const LONGEST_HELD = 2 ** 22;

/** Throws `UnreadableError`; system errors. */
export async function openText(path: string, { markdown = false } = {}): Promise<OpenDocument> {
  const pages = new FlowPages();
  let begins = true;
  let fenced = false;
  for await (const line of linesOf(path)) {
    for (const [i, part] of line.split('\f').entries()) {
      if (i > 0) pages.break();
      if (part.trim() === '') {
        begins = true;
        continue;
      }
      if (markdown && /^\s*(```|~~~)/.test(part)) fenced = !fenced;
      const heading = markdown && !fenced && /^#{1,6}\s/.test(part);
      const structured = markdown && (fenced || /^\s*([-*+>|]|\d+[.)])\s/.test(part));
      for (const [j, piece] of cut(part).entries()) {
        pages.add({
          text: piece,
          begins: j === 0 && (begins || heading || structured),
          ...(heading && { heading }),
        });
      }
      begins = heading;
    }
  }
  return pages.document();
}

/** A line in pieces, which end between two words where there are any, and never within a character. */
function cut(line: string): string[] {
  const pieces: string[] = [];
  const text = line.trimEnd();
  let from = 0;
  while (text.length - from > LONGEST_LINE) {
    const end = cutOf(text, from + LONGEST_LINE / 2, from + LONGEST_LINE);
    pieces.push(text.slice(from, end));
    from = end;
    while (text[from] === ' ') from++;
  }
  return [...pieces, text.slice(from)];
}

/** The whole text of a file, with `\n` between its lines. Throws `UnreadableError` for one that is too large. */
export async function textOf(path: string): Promise<string> {
  let text = '';
  for await (const piece of piecesOf(path)) text += piece;
  return text.replaceAll(/\r\n?/g, '\n');
}

/** Lines of at most some megabytes each. */
async function* linesOf(path: string): AsyncGenerator<string> {
  let rest = '';
  for await (const piece of piecesOf(path)) {
    const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop()!;
    yield* lines;
    if (rest.length > LONGEST_HELD) {
      const pieces = cut(rest);
      rest = pieces.pop()!;
      yield* pieces;
    }
  }
  if (rest !== '') yield rest;
}

/** The text of a file, a megabyte at a time. Throws `UnreadableError` for one that is too large. */
async function* piecesOf(path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder(await encodingOf(path));
  let total = 0;
  for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20 })) {
    total += (bytes as Buffer).length;
    if (total > MOST_TEXT)
      throw new UnreadableError(`it has more than ${MOST_TEXT / 1e6} MB of text: split it`);
    yield decoder.decode(bytes as Buffer, { stream: true }).replaceAll('\0', '');
  }
  yield decoder.decode();
}

/** A file is in UTF-8 where it has more than so many characters of several bytes for each byte that is none of UTF-8. */
const DAMAGED = 2;

/** The byte order marks of UTF-32. */
const UTF_32 = [Buffer.from([0xff, 0xfe, 0, 0]), Buffer.from([0, 0, 0xfe, 0xff])];

/** By its mark, or by whether it is valid UTF-8, all of it: a long text may have its first accent anywhere. Throws `UnreadableError`. */
async function encodingOf(path: string): Promise<string> {
  let head: Buffer | undefined;
  let total = 0;
  let valid = 0;
  let invalid = 0;
  const decoder = new TextDecoder();
  const count = (text: string): void => {
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code === 0xfffd) invalid++;
      else if (code >= 0x80) valid++;
    }
  };
  for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20 })) {
    head ??= bytes as Buffer;
    // The mark of UTF-32 in little endian begins with that of UTF-16, which NUL characters never follow in a text.
    if (UTF_32.some((mark) => head!.subarray(0, 4).equals(mark)))
      throw new UnreadableError('it is in UTF-32: save it as UTF-8');
    if (head[0] === 0xff && head[1] === 0xfe) return 'utf-16le';
    if (head[0] === 0xfe && head[1] === 0xff) return 'utf-16be';
    count(decoder.decode(bytes as Buffer, { stream: true }));
    total += (bytes as Buffer).length;
    // It is refused for its size.
    if (total > MOST_TEXT) break;
  }
  count(decoder.decode());
  return invalid * DAMAGED <= valid ? 'utf-8' : (namedIn(head!) ?? 'windows-1252');
}

/** What HTML and XML say in their beginning, where it is an encoding that is known and not UTF-8. */
function namedIn(head: Buffer): string | undefined {
  const name = /<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?\s*([\w:.-]+)/i.exec(
    head.toString('latin1', 0, 2048),
  )?.[1];
  try {
    const { encoding } = new TextDecoder(name ?? 'utf-8');
    // Whoever can read this line finds no UTF-16.
    return encoding.startsWith('utf-') ? undefined : encoding;
  } catch {
    return undefined;
  }
}
