/** Python's texts are code points, JavaScript's are UTF-16 units. */
import { spend, spendText } from './budget.js';

const SURROGATE = /[\ud800-\udfff]/;

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;

/** Python's white space as a character class. */
export const BLANKS = String.raw`[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]`;
const BLANK = new RegExp(BLANKS);

/** Whether Python's `str.isspace` is true for a character. */
export function isBlank(character: string): boolean {
  const code = character.charCodeAt(0);
  if (code < 0x80) return code === 0x20 || (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x1f);
  return BLANK.test(character);
}

/** Whether each unit is a code point, as in nearly all texts. */
function isPlain(text: string): boolean {
  spendText(text.length);
  return !SURROGATE.test(text);
}

/** The offset in units of the character at an index; the text's length for an index after its end. */
export function unitIndex(text: string, index: number): number {
  if (isPlain(text)) return Math.min(index, text.length);
  spendText(text.length);
  let unit = 0;
  for (let i = 0; i < index && unit < text.length; i++) unit += lengthAt(text, unit);
  return unit;
}

/** The number of units of the character at an offset. */
const lengthAt = (text: string, unit: number): number =>
  isHigh(text.charCodeAt(unit)) && isLow(text.charCodeAt(unit + 1)) ? 2 : 1;

/** The number of code points, Python's `len`. */
export function countCharacters(text: string): number {
  return characterIndex(text, text.length);
}

/** The index in code points of an index in units. */
export function characterIndex(text: string, unit: number): number {
  if (isPlain(text)) return unit;
  spendText(text.length);
  let count = 0;
  for (let i = 0; i < unit; i += lengthAt(text, i)) count++;
  return count;
}

/** A text, or its code points: either way the element at an index is a character. */
export function characters(text: string): string | readonly string[] {
  if (isPlain(text)) return text;
  spend(text.length);
  return Array.from(text);
}

/** The character at an index; undefined outside the text. */
export function characterAt(text: string, index: number): string | undefined {
  if (index < 0) return undefined;
  const unit = unitIndex(text, index);
  return unit < text.length ? text.slice(unit, unit + lengthAt(text, unit)) : undefined;
}

/** The characters from `start` to `stop`, which must be within the text. */
export function substring(text: string, start: number, stop: number): string {
  return text.slice(unitIndex(text, start), unitIndex(text, stop));
}

/** The code points of a text in reverse order. */
export function reversed(text: string): string {
  spend(text.length);
  return Array.from(text).reverse().join('');
}

/** Compares texts by code points, like Python. JavaScript's order by units differs above U+D800. */
export function compareTexts(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  spendText(length, 2);
  if (a === b) return 0;
  if (!(SURROGATE.test(a) || SURROGATE.test(b))) return a < b ? -1 : 1;
  let at = 0;
  while (at < length && a.charCodeAt(at) === b.charCodeAt(at)) at++;
  if (at === length) return a.length - b.length;
  return rank(a.charCodeAt(at)) - rank(b.charCodeAt(at));
}

/** Surrogates, of which characters above U+FFFF consist, are ordered after all others. */
const rank = (unit: number): number => (isHigh(unit) || isLow(unit) ? unit + 0x10000 : unit);

/** The first offset of `word` in `text`, in units; -1 if there is none. */
export function indexOfText(text: string, word: string): number {
  spendSearch(text.length, word.length);
  return placeOf(text, word, 0);
}

/** The last offset of `word` in `text`, in units; -1 if there is none. */
export function lastIndexOfText(text: string, word: string): number {
  spendSearch(text.length, word.length);
  return lastPlaceOf(text, word, text.length);
}

/** The number of first characters of a word that a search may compare at every position. */
const HEAD = 64;

/** The cost of searching a text once, for any number of matches. */
export function spendSearch(length: number, word: number): void {
  spendText(Math.max(0, length), 1 + Math.min(word, HEAD) / 8);
}

/** Like `indexOf`. The rest of a long word is compared, and counted, only where its first characters match. */
export function placeOf(text: string, word: string, from: number): number {
  const head = word.slice(0, HEAD);
  let at = text.indexOf(head, from);
  while (at >= 0 && !isAt(text, word, at)) at = text.indexOf(head, at + 1);
  return at;
}

/** Like `lastIndexOf`. */
export function lastPlaceOf(text: string, word: string, from: number): number {
  const head = word.slice(0, HEAD);
  let at = text.lastIndexOf(head, from);
  while (at > 0 && !isAt(text, word, at)) at = text.lastIndexOf(head, at - 1);
  return at === 0 && !isAt(text, word, 0) ? -1 : at;
}

function isAt(text: string, word: string, at: number): boolean {
  if (word.length <= HEAD) return true;
  spend();
  spendText(word.length);
  return text.startsWith(word, at);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: these end lines for Python.
const LINE_END = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/g;

/** The lines of a text as Python's `splitlines` gives them. */
export function linesOf(text: string, keepEnds = false): string[] {
  spendText(text.length);
  const lines: string[] = [];
  let start = 0;
  for (const end of text.matchAll(LINE_END)) {
    const next = end.index + end[0].length;
    spend(4);
    lines.push(text.slice(start, keepEnds ? next : end.index));
    start = next;
  }
  if (start < text.length) lines.push(text.slice(start));
  return lines;
}

/** Strips the characters in `drop`, or white space, from both ends. */
export function stripped(text: string, drop: string | null, sides: 'both' | 'left' | 'right'): string {
  spendText(text.length);
  const given = drop === null ? undefined : new Set(drop);
  const isDropped = (character: string): boolean => (given ? given.has(character) : isBlank(character));
  let [start, end] = [0, text.length];
  while (sides !== 'right' && start < end) {
    const length = lengthAt(text, start);
    if (!isDropped(text.slice(start, start + length))) break;
    start += length;
  }
  while (sides !== 'left' && end > start) {
    const length = end - start > 1 && lengthAt(text, end - 2) === 2 ? 2 : 1;
    if (!isDropped(text.slice(end - length, end))) break;
    end -= length;
  }
  spend((start + text.length - end) / 4);
  return text.slice(start, end);
}

/** Repeats a text. Throws `TemplateError` if the result would be too long. */
export function repeated(text: string, times: number): string {
  if (text === '' || times <= 0) return '';
  spendText(text.length * times);
  return text.repeat(times);
}

/** Joins parts with `separator`. */
export function joined(parts: readonly string[], separator = ''): string {
  let length = Math.max(0, parts.length - 1) * separator.length;
  for (const part of parts) length += part.length;
  spendText(length);
  return parts.join(separator);
}
