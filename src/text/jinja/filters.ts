/** The filters, except those on sequences (see sequence-filters.ts). */
import { ownAttribute } from './access.js';
import { binary, bounded, floatOf } from './arithmetic.js';
import { spend, spendInteger, spendText } from './budget.js';
import { countCharacters, isBlank, joined, linesOf, repeated, stripped, substring } from './characters.js';
import { failed } from './errors.js';
import { byName, type Native, native } from './native.js';
import { fixedText, rounded } from './number-format.js';
import { percentFormat } from './percent-format.js';
import { sequenceFilters } from './sequence-filters.js';
import { makeTests } from './tests.js';
import { asNumber, asText, capitalized, centered, replaced } from './text-methods.js';
import { jsonStyle, jsonText } from './to-json.js';
import {
  Dict,
  elements,
  integerOf,
  isTrue,
  orElse,
  reprOf,
  type Tuple,
  textOf,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

/** A filter that processes a whole text; `weight` is its cost per character. */
const onText = (name: string, weight: number, change: (text: string) => string): Native =>
  native(name, 's', (value: Value) => {
    const text = textOf(value);
    spendText(text.length, weight);
    return change(text);
  });

/** Parses a text like Python's `int`; undefined if it is invalid. */
function readInteger(text: string, base: number): bigint | undefined {
  const match = /^([-+]?)(0[xXoObB])?([0-9a-zA-Z_]+)$/.exec(stripped(text, null, 'both'));
  if (!match) return undefined;
  const [, sign, prefix = '', digits] = match;
  const named = { x: 16, o: 8, b: 2 }[prefix[1]?.toLowerCase() ?? ''];
  if (prefix !== '' && named !== base && base !== 0) return undefined;
  if (/^_|__|_$/.test(digits!)) return undefined;
  return readDigits(sign!, digits!, prefix === '' ? base || 10 : named!);
}

function readDigits(sign: string, digits: string, base: number): bigint | undefined {
  let value = 0n;
  const plain = digits.replaceAll('_', '');
  if (base === 10) {
    if (!/^\d+$/.test(plain) || plain.length > 4300) return undefined;
    value = BigInt(plain);
    spendInteger(value);
  } else {
    spend(plain.length * 16);
    for (const digit of plain) {
      const worth = Number.parseInt(digit, 36);
      if (worth >= base) return undefined;
      value = bounded(value * BigInt(base) + BigInt(worth));
    }
  }
  return sign === '-' ? -value : value;
}

/** Parses a text like Python's `float`; undefined if it is invalid. */
function readFloat(text: string): number | undefined {
  const plain = stripped(text, null, 'both').toLowerCase();
  const named = /^([-+]?)(inf|infinity|nan)$/.exec(plain);
  if (named) return named[2] === 'nan' ? Number.NaN : named[1] === '-' ? -Infinity : Infinity;
  if (!/^[-+]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)(e[-+]?\d+(_\d+)*)?$/.test(plain)) return undefined;
  return Number(plain.replaceAll('_', ''));
}

function toFloat(value: Value): number | undefined {
  if (typeof value === 'string') return readFloat(value);
  if (typeof value === 'number') return value;
  const integer = integerOf(value);
  if (integer !== undefined) return floatOf(integer);
  if (value instanceof Undefined) throw failed(value.reason);
  return undefined;
}

function toInteger(value: Value, usual: Value, base: number): Value {
  const integer = typeof value === 'string' ? readInteger(value, base) : integerOf(value);
  if (integer !== undefined) return integer;
  const float = toFloat(value);
  if (float === undefined || !Number.isFinite(float)) return usual;
  return BigInt(Math.trunc(float));
}

function roundedBy(value: Value, decimals: number, method: string): Value {
  const number = integerOf(value) ?? value;
  if (typeof number !== 'bigint' && typeof number !== 'number') {
    if (value instanceof Undefined) throw failed(value.reason);
    throw failed(`type ${typeOf(value)} doesn't define __round__ method`);
  }
  if (method === 'common') return rounded(number, decimals);
  if (method !== 'ceil' && method !== 'floor') throw failed('method must be common, ceil or floor');
  const unit = binary('**', 10n, BigInt(decimals));
  const scaled = binary('*', number, unit);
  const whole = typeof scaled === 'number' ? BigInt(Math[method](scaled)) : scaled;
  return binary('/', whole, unit);
}

const HTML = new Map([
  ['&', '&amp;'],
  ['<', '&lt;'],
  ['>', '&gt;'],
  ["'", '&#39;'],
  ['"', '&#34;'],
]);

const escapedHtml = (text: string): string => joined([text.replace(/[&<>'"]/g, (sign) => HTML.get(sign)!)]);

/** Removes each part from `open` to the next `close`. */
function without(text: string, open: string, close: string): string {
  const kept: string[] = [];
  let at = 0;
  for (let start = text.indexOf(open); start >= 0; start = text.indexOf(open, at)) {
    const end = text.indexOf(close, start);
    if (end < 0) break;
    kept.push(text.slice(at, start));
    at = end + close.length;
  }
  return joined([...kept, text.slice(at)]);
}

function withoutTags(text: string): string {
  const bare = without(without(text, '<!--', '-->'), '<', '>');
  const words = bare
    .split(/\s+/)
    .filter((word) => word !== '')
    .join(' ');
  const names: Readonly<Record<string, string>> = {
    amp: '&',
    lt: '<',
    gt: '>',
    quot: '"',
    apos: "'",
    nbsp: '\xa0',
  };
  return words.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]+));/gi, (whole, decimal, hex, name) => {
    if (name !== undefined) return Object.hasOwn(names, name) ? names[name]! : whole;
    const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

function indented(value: Value, width: Value, first: boolean, blank: boolean): string {
  const text = asText(value, 'indent() argument');
  const step = typeof width === 'string' ? width : repeated(' ', asNumber(width));
  const lines = linesOf(`${text}\n`);
  const rest = lines.slice(1).map((line) => (line === '' && !blank ? line : step + line));
  return (first ? step : '') + joined([lines[0]!, ...rest], '\n');
}

function truncated(text: string, length: number, killWords: boolean, end: string, leeway: number): string {
  const room = length - countCharacters(end);
  if (room < 0) throw failed(`expected length >= ${countCharacters(end)}, got ${length}`);
  if (countCharacters(text) <= length + leeway) return text;
  const cut = substring(text, 0, room);
  const space = cut.lastIndexOf(' ');
  return (killWords || space < 0 ? cut : cut.slice(0, space)) + end;
}

function titled(text: string): string {
  const words = text.split(/([-\s({[<]+)/).filter((word) => word !== '');
  return words.map((word) => capitalized(word)).join('');
}

function wrapped(
  text: string,
  width: number,
  breakLong: boolean,
  separator: string,
  onHyphens: boolean,
): string {
  if (width <= 0) throw failed(`invalid width ${width} (must be > 0)`);
  return joined(
    linesOf(text).map((line) => joined(wrappedLine(line, width, breakLong, onHyphens), separator)),
    separator,
  );
}

const isBlankChunk = (chunk: string): boolean => chunk !== '' && isBlank(chunk);

/** The lines of a paragraph: words with the white space before them, which is dropped at the start and end of a line. */
function wrappedLine(line: string, width: number, breakLong: boolean, onHyphens: boolean): string[] {
  const pattern = onHyphens
    ? /\s+|[^\s-]*[\p{L}\p{N}]-(?=\p{L})|[^\s]+?(?=[\p{L}\p{N}]-\p{L}|\s|$)|[^\s]+/gu
    : /\s+|[^\s]+/gu;
  spendText(line.length, 16);
  const chunks = Array.from(line.match(pattern) ?? []).reverse();
  const lines: string[] = [];
  while (chunks.length > 0) {
    spend(8);
    if (lines.length > 0 && isBlankChunk(chunks.at(-1)!)) chunks.pop();
    const current: string[] = [];
    let length = 0;
    while (chunks.length > 0 && length + countCharacters(chunks.at(-1)!) <= width) {
      length += countCharacters(chunks.at(-1)!);
      current.push(chunks.pop()!);
    }
    if (chunks.length > 0 && countCharacters(chunks.at(-1)!) > width) {
      const long = chunks.pop()!;
      const room = Math.max(1, width - length);
      if (breakLong) {
        current.push(substring(long, 0, room));
        chunks.push(substring(long, room, countCharacters(long)));
      } else if (current.length === 0) current.push(long);
      else chunks.push(long);
    }
    if (current.length > 0 && isBlankChunk(current.at(-1)!)) current.pop();
    if (current.length > 0) lines.push(joined(current));
  }
  return lines;
}

function sizeText(value: number, isBinary: boolean): string {
  const base = isBinary ? 1024 : 1000;
  if (value === 1) return '1 Byte';
  if (value < base) return `${Math.trunc(value)} Bytes`;
  const letters = isBinary ? 'KMGTPEZY' : 'kMGTPEZY';
  let power = 1;
  while (power < letters.length && value >= base ** (power + 1)) power++;
  return `${fixedText((base * value) / base ** (power + 1), 1)} ${letters[power - 1]}${isBinary ? 'iB' : 'B'}`;
}

/** As Python's `urllib.parse.quote`; in a query a blank is a plus and a slash is escaped. */
function quotedUrl(value: Value, inQuery: boolean): string {
  const plain = textOf(value);
  spendText(plain.length, 16);
  const text = encodeURIComponent(plain).replace(/[!'()*]/g, (sign) => {
    return `%${sign.charCodeAt(0).toString(16).toUpperCase()}`;
  });
  return inQuery ? text.replaceAll('%20', '+') : text.replaceAll('%2F', '/');
}

function urlEncoded(value: Value): string {
  if (
    typeof value === 'string' ||
    integerOf(value) !== undefined ||
    typeof value === 'number' ||
    value === null
  ) {
    return quotedUrl(value, false);
  }
  const pairs = value instanceof Dict ? Array.from(value.entries()) : Array.from(elements(value), pairIn);
  return joined(
    pairs.map(([key, item]) => `${quotedUrl(key, true)}=${quotedUrl(item, true)}`),
    '&',
  );
}

function pairIn(value: Value): readonly [Value, Value] {
  const items = Array.from(elements(value));
  if (items.length !== 2) throw failed(`not enough values to unpack (expected 2, got ${items.length})`);
  return items as [Value, Value];
}

function attributesText(value: Value, space: boolean): string {
  if (!(value instanceof Dict)) throw failed(`'${typeOf(value)}' object has no attribute 'items'`);
  const parts: string[] = [];
  for (const [key, item] of value.entries()) {
    if (item === null || item instanceof Undefined) continue;
    if (/[\s/>=]/.test(textOf(key))) throw failed(`Invalid character in attribute name: ${reprOf(key)}`);
    parts.push(`${escapedHtml(textOf(key))}="${escapedHtml(textOf(item))}"`);
  }
  return (space && parts.length > 0 ? ' ' : '') + joined(parts, ' ');
}

function wordCount(text: string): bigint {
  spendText(text.length, 16);
  return BigInt(text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0);
}

function formatted(format: Value, args: Tuple, named: Dict): string {
  if (args.size() > 0 && named.size() > 0) {
    throw failed("can't handle positional and keyword arguments at the same time");
  }
  return percentFormat(textOf(format), named.size() > 0 ? named : args);
}

/** All filters by name. */
const FILTERS: ReadonlyMap<string, Native> = byName([
  ...sequenceFilters(filterNamed, testNamed),
  native('abs', 'x', (value: Value) => {
    const integer = integerOf(value);
    if (integer !== undefined) return integer < 0n ? -integer : integer;
    if (typeof value === 'number') return Math.abs(value);
    throw failed(`bad operand type for abs(): '${typeOf(value)}'`);
  }),
  native('attr', 'obj, name', (value: Value, name: Value) => {
    const text = textOf(name);
    const absent = (): Value => new Undefined(`'${typeOf(value)} object' has no attribute ${reprOf(text)}`);
    return orElse(ownAttribute(value, text), absent);
  }),
  onText('capitalize', 2, capitalized),
  native('center', 's, width=80', (value: Value, width: Value) => centered(textOf(value), asNumber(width))),
  ...['default', 'd'].map((name) =>
    native(name, "value, default_value='', boolean=False", (value: Value, usual: Value, falsy: Value) =>
      value instanceof Undefined || (isTrue(falsy) && !isTrue(value)) ? usual : value,
    ),
  ),
  ...['e', 'escape', 'forceescape'].map((name) => onText(name, 8, escapedHtml)),
  native('filesizeformat', 'value, binary=False', (value: Value, isBinary: Value) => {
    const bytes = toFloat(value);
    if (bytes === undefined) throw failed(`could not convert to float: ${reprOf(value)}`);
    return sizeText(bytes, isTrue(isBinary));
  }),
  native('float', 'value, default=0.0', (value: Value, usual: Value) => toFloat(value) ?? usual),
  native('format', 'value, *args, **kwargs', formatted),
  native(
    'indent',
    's, width=4, first=False, blank=False',
    (text: Value, width: Value, first: Value, blank: Value) =>
      indented(text, width, isTrue(first), isTrue(blank)),
  ),
  native('int', 'value, default=0, base=10', (value: Value, usual: Value, base: Value) =>
    toInteger(value, usual, asNumber(base)),
  ),
  onText('lower', 2, (text) => text.toLowerCase()),
  native('pprint', 'value', (value: Value) => reprOf(value)),
  native('replace', 's, old, new, count=None', (text: Value, old: Value, by: Value, most: Value) => {
    const limit = most === null ? -1 : asNumber(most);
    return replaced(textOf(text), textOf(old), textOf(by), limit < 0 ? Infinity : limit);
  }),
  native('round', "value, precision=0, method='common'", (value: Value, precision: Value, method: Value) =>
    roundedBy(value, asNumber(precision), textOf(method)),
  ),
  onText('safe', 1, (text) => text),
  native('string', 's', (value: Value) => textOf(value)),
  onText('striptags', 16, withoutTags),
  onText('title', 32, titled),
  native(
    'tojson',
    'x, ensure_ascii=False, indent=None, separators=None, sort_keys=False',
    (value: Value, ascii: Value, indent: Value, separators: Value, sortKeys: Value) =>
      jsonText(value, jsonStyle(isTrue(ascii), indent, separators, isTrue(sortKeys))),
  ),
  native('trim', 'value, chars=None', (value: Value, drop: Value) =>
    stripped(textOf(value), drop === null ? null : asText(drop, 'strip arg'), 'both'),
  ),
  native(
    'truncate',
    "s, length=255, killwords=False, end='...', leeway=5",
    (text: Value, length: Value, killWords: Value, end: Value, leeway: Value) =>
      truncated(
        textOf(text),
        asNumber(length),
        isTrue(killWords),
        textOf(end),
        leeway === null ? 5 : asNumber(leeway),
      ),
  ),
  onText('upper', 2, (text) => text.toUpperCase()),
  native('urlencode', 'value', urlEncoded),
  native('wordcount', 's', (value: Value) => wordCount(textOf(value))),
  native(
    'wordwrap',
    's, width=79, break_long_words=True, wrapstring=None, break_on_hyphens=True',
    (text: Value, width: Value, breakLong: Value, separator: Value, onHyphens: Value) =>
      wrapped(
        textOf(text),
        asNumber(width),
        isTrue(breakLong),
        separator === null ? '\n' : textOf(separator),
        isTrue(onHyphens),
      ),
  ),
  native('xmlattr', 'd, autospace=True', (value: Value, space: Value) =>
    attributesText(value, isTrue(space)),
  ),
]);

/** Jinja's tests by name, for `value is name`. */
const TESTS: ReadonlyMap<string, Native> = makeTests(FILTERS);

/** Throws if there is none of this name. */
export function filterNamed(name: string): Native {
  const found = FILTERS.get(name);
  if (!found) throw failed(`No filter named '${name}'.`);
  return found;
}

/** Throws if there is none of this name. */
export function testNamed(name: string): Native {
  const found = TESTS.get(name);
  if (!found) throw failed(`No test named '${name}'.`);
  return found;
}
