/**
 * Regular expressions, as `pattern` has them in JSON Schema, as grammars of what stands between the quotes of a JSON string. Taken are
 * literals, classes, groups, alternatives and counts, and `^` and `$` at the ends; of what else there is nothing can be promised.
 */
import { ConfigError } from '../../errors.js';
import { CHARACTER } from './json.js';
import { bytesOf, choice, literal, type Node, repeat, sequence } from './node.js';

type Range = readonly [from: number, to: number];

const LAST = 0x10ffff;
const DIGITS: readonly Range[] = [[0x30, 0x39]];
const WORD: readonly Range[] = [...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const BLANK: readonly Range[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
];
const CLASSES: Readonly<Record<string, readonly Range[]>> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: BLANK,
  S: complement([
    ...BLANK,
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
    [0xfeff, 0xfeff],
  ]),
};
const CONTROL: Readonly<Record<string, number>> = { n: 0x0a, r: 0x0d, t: 0x09, f: 0x0c, v: 0x0b };
/** A count above this is no count that a person wrote. */
const MOST = 10_000;

/** No person wrote a longer one. */
const LONGEST = 2000;

/** The grammar of strings that a pattern matches. Throws `ConfigError` for a pattern that is not understood. */
export function patternNode(pattern: string): Node {
  if (pattern.length > LONGEST) throw new ConfigError(`it has more than ${LONGEST} characters`);
  const open = pattern.startsWith('^');
  const closed = /(?:^|[^\\])(?:\\\\)*\$$/.test(pattern);
  const body = pattern.slice(open ? 1 : 0, closed ? -1 : pattern.length);
  const parser = new Parser(body, pattern);
  const node = parser.all();
  // An end belongs to one alternative alone.
  if ((open || closed) && parser.alternatives)
    throw parser.refusal("'^' or '$' beside alternatives without a group");
  return sequence(...(open ? [] : [repeat(CHARACTER, 0)]), node, ...(closed ? [] : [repeat(CHARACTER, 0)]));
}

class Parser {
  private at = 0;
  /** Whether there is a `|` outside of all groups. */
  alternatives = false;

  constructor(
    private readonly text: string,
    private readonly whole: string,
  ) {}

  refusal(what: string): ConfigError {
    return new ConfigError(`the pattern ${JSON.stringify(this.whole)} has ${what}, which is not supported`);
  }

  all(): Node {
    const node = this.alternation(true);
    if (this.at < this.text.length) throw this.refusal("a ')' too many");
    return node;
  }

  private alternation(outermost: boolean): Node {
    const ways = [this.series()];
    while (this.text[this.at] === '|') {
      this.at++;
      if (outermost) this.alternatives = true;
      ways.push(this.series());
    }
    return choice(...ways);
  }

  private series(): Node {
    const parts: Node[] = [literal('')];
    while (this.at < this.text.length && !'|)'.includes(this.text[this.at]!)) parts.push(this.counted());
    return sequence(...parts);
  }

  private counted(): Node {
    const node = this.one();
    const rest = this.text.slice(this.at);
    const found = /^(?:([*+?])|\{(\d+)(,)?(\d+)?\})/.exec(rest);
    if (!found) return node;
    this.at += found[0].length;
    // Greedy or not, the same strings match.
    if (this.text[this.at] === '?') this.at++;
    const [, sign, least, comma, most] = found;
    const [from, to] =
      sign === '*'
        ? [0, Infinity]
        : sign === '+'
          ? [1, Infinity]
          : sign === '?'
            ? [0, 1]
            : [Number(least), most === undefined ? (comma ? Infinity : Number(least)) : Number(most)];
    if (from > MOST || (to !== Infinity && to > MOST) || from > to)
      throw this.refusal(`the count ${found[0]}`);
    if (to > 1 && canBeEmpty(node)) throw this.refusal(`the count ${found[0]} of what may be nothing`);
    return repeat(node, from, to);
  }

  private one(): Node {
    const sign = this.text[this.at]!;
    if (sign === '(') return this.group();
    if (sign === '[') return charactersOf(this.bracket());
    if (sign === '.') {
      this.at++;
      return charactersOf(
        complement([
          [0x0a, 0x0a],
          [0x0d, 0x0d],
          [0x2028, 0x2029],
        ]),
      );
    }
    if ('^$*+?{}'.includes(sign)) throw this.refusal(`'${sign}' where it stands`);
    return charactersOf(this.character());
  }

  private group(): Node {
    const begin = /^\((?:\?(?:(:)|<[A-Za-z_]\w*>))?/.exec(this.text.slice(this.at))!;
    if (this.text[this.at + begin[0].length] === '?') throw this.refusal('a look around or a flag');
    this.at += begin[0].length;
    const node = this.alternation(false);
    if (this.text[this.at] !== ')') throw this.refusal("a '(' that is not closed");
    this.at++;
    return node;
  }

  /** A character, or a class such as `\d`. */
  private character(): readonly Range[] {
    const point = this.text.codePointAt(this.at)!;
    this.at += String.fromCodePoint(point).length;
    if (point !== 0x5c) return [[point, point]];
    const sign = this.text[this.at++];
    if (sign === undefined) throw this.refusal("a '\\' at its end");
    const known = CLASSES[sign];
    if (known) return known;
    const control = CONTROL[sign];
    if (control !== undefined) return [[control, control]];
    const hex = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\})/.exec(
      this.text.slice(this.at - 1),
    );
    if (hex) {
      this.at += hex[0].length - 1;
      const value = Number.parseInt((hex[1] ?? hex[2] ?? hex[3])!, 16);
      return [[value, value]];
    }
    if (/[a-zA-Z0-9]/.test(sign)) throw this.refusal(`'\\${sign}'`);
    const own = sign.codePointAt(0)!;
    return [[own, own]];
  }

  private bracket(): readonly Range[] {
    this.at++;
    const negated = this.text[this.at] === '^';
    if (negated) this.at++;
    const ranges: Range[] = [];
    while (this.text[this.at] !== ']') {
      if (this.at >= this.text.length) throw this.refusal("a '[' that is not closed");
      const from = this.character();
      const isRange = this.text[this.at] === '-' && this.text[this.at + 1] !== ']';
      if (!isRange || from.length !== 1 || from[0]![0] !== from[0]![1]) {
        ranges.push(...from);
        continue;
      }
      this.at++;
      const to = this.character();
      if (to.length !== 1 || to[0]![1] < from[0]![0])
        throw this.refusal('a range that ends before it begins');
      ranges.push([from[0]![0], to[0]![1]]);
    }
    this.at++;
    return negated ? complement(ranges) : ranges;
  }
}

/** Whether a node of a pattern lets nothing through, too. */
function canBeEmpty(node: Node): boolean {
  switch (node.kind) {
    case 'bytes':
      return node.bytes.length === 0;
    case 'sequence':
      return node.nodes.every(canBeEmpty);
    case 'choice':
      return node.nodes.some(canBeEmpty);
    case 'repeat':
      return node.least === 0 || canBeEmpty(node.node);
    default:
      return false;
  }
}

/** All characters that are not in these ranges. */
function complement(ranges: readonly Range[]): Range[] {
  const others: Range[] = [];
  let next = 0;
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (from > next) others.push([next, from - 1]);
    next = Math.max(next, to + 1);
  }
  if (next <= LAST) others.push([next, LAST]);
  return others;
}

const ESCAPES: readonly (readonly [point: number, escape: string])[] = [
  [0x22, '\\"'],
  [0x5c, '\\\\'],
  [0x08, '\\b'],
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0c, '\\f'],
  [0x0d, '\\r'],
];

/** One of these characters, as JSON writes it. Control characters that have no short escape are left out. */
function charactersOf(ranges: readonly Range[]): Node {
  const has = (point: number): boolean => ranges.some(([from, to]) => point >= from && point <= to);
  const plain: Range[] = [];
  for (let point = 0x20; point < 0x80; point++) {
    if (has(point) && point !== 0x22 && point !== 0x5c) plain.push([point, point]);
  }
  const escaped = ESCAPES.filter(([point]) => has(point)).map(([, written]) => literal(written));
  const wide = ranges.flatMap(([from, to]) => [
    ...utf8Ranges(Math.max(from, 0x80), Math.min(to, 0xd7ff)),
    ...utf8Ranges(Math.max(from, 0xe000), to),
  ]);
  const ways = [...(plain.length > 0 ? [bytesOf(...plain)] : []), ...escaped, ...wide];
  if (ways.length === 0) throw new ConfigError('a class of the pattern has no characters that JSON can show');
  return choice(...ways);
}

/** The UTF-8 of all characters in a range beyond ASCII. */
function utf8Ranges(from: number, to: number): Node[] {
  if (from > to) return [];
  const border = [0x7ff, 0xffff].find((last) => from <= last && to > last);
  if (border !== undefined) return [...utf8Ranges(from, border), ...utf8Ranges(border + 1, to)];
  const low = encoded(from);
  const high = encoded(to);
  return bytesBetween(low, high);
}

function encoded(point: number): number[] {
  return Array.from(new TextEncoder().encode(String.fromCodePoint(point)));
}

/** All sequences of bytes between two of equal length, whose later bytes continue a character. */
function bytesBetween(low: readonly number[], high: readonly number[]): Node[] {
  const [a, ...lows] = low as [number, ...number[]];
  const [b, ...highs] = high as [number, ...number[]];
  if (lows.length === 0) return [bytesOf([a, b])];
  const first = (byte: number): Node => bytesOf([byte, byte]);
  const after = (byte: number, from: readonly number[], to: readonly number[]): Node =>
    sequence(first(byte), choice(...bytesBetween(from, to)));
  if (a === b) return [after(a, lows, highs)];
  const least = lows.map(() => 0x80);
  const most = lows.map(() => 0xbf);
  const between = b - a > 1 ? [sequence(bytesOf([a + 1, b - 1]), choice(...bytesBetween(least, most)))] : [];
  return [after(a, lows, most), ...between, after(b, least, highs)];
}
