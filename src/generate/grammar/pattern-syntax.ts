/**
 * Parses regular expressions to syntax trees: those of JavaScript (ECMA-262, as JSON Schema requires), and spellings of Python and Rust with
 * the same meaning. Back references and lookbehinds are not supported, since finite automata cannot express them.
 *
 * Dialects differ in the meaning of `\d`, `\w`, `\s` and `.`. A generated string should match in all of them, so these become the characters
 * that match in every dialect; negated ones become the characters that match in none.
 */
import { ConfigError } from '../../errors.js';
import {
  BLANK,
  BLANK_EVERYWHERE,
  type Characters,
  charactersOf,
  charactersWith,
  complement,
  DIGITS,
  LINE_ENDS,
  type Range,
  WORD,
} from './characters.js';

/** The syntax tree of a regular expression. */
export type Tree =
  | { readonly kind: 'set'; readonly set: Characters }
  | { readonly kind: 'series'; readonly parts: readonly Tree[] }
  | { readonly kind: 'ways'; readonly ways: readonly Tree[] }
  /** `most` may be Infinity. */
  | { readonly kind: 'count'; readonly tree: Tree; readonly least: number; readonly most: number }
  /** `^`, `$`, `\b` and `\B`. */
  | { readonly kind: 'begin' | 'end' | 'edge' | 'inside' }
  /** `(?=...)`, `(?!...)`. */
  | { readonly kind: 'ahead'; readonly tree: Tree; readonly negated: boolean };

/** The longest pattern in characters. */
const LONGEST = 4000;
/** The deepest nesting of groups. */
const DEEPEST = 100;

/**
 * Throws `ConfigError` for a pattern that is not supported. With `wide`, character classes have all characters that any dialect includes,
 * for patterns that must not match.
 */
export function parsePattern(pattern: string, wide = false): Tree {
  if (pattern.length > LONGEST) throw new ConfigError(`it has more than ${LONGEST} characters`);
  return new Parser(pattern, wide).all();
}

const CONTROL: Readonly<Record<string, number>> = { n: 0x0a, r: 0x0d, t: 0x09, f: 0x0c, v: 0x0b, a: 0x07 };

/** Ranges above this size are left as they are when case is ignored. */
const MANY_LETTERS = 0x2000;

class Parser {
  private at = 0;
  private depth = 0;
  private ignoresCase = false;
  private dotIsAll = false;

  constructor(
    private readonly text: string,
    private wide: boolean,
  ) {}

  all(): Tree {
    const tree = this.ways();
    if (this.at < this.text.length) throw this.refusal("a ')' too many");
    return tree;
  }

  private refusal(what: string): ConfigError {
    const shown = this.text.length > 200 ? `${this.text.slice(0, 200)}...` : this.text;
    return new ConfigError(`the pattern ${JSON.stringify(shown)} has ${what}, which is not supported`);
  }

  /** Consumes a text if it comes next. */
  private takes(text: string): boolean {
    const is = this.text.startsWith(text, this.at);
    if (is) this.at += text.length;
    return is;
  }

  private match(sticky: RegExp): RegExpExecArray | null {
    sticky.lastIndex = this.at;
    const found = sticky.exec(this.text);
    if (found) this.at += found[0].length;
    return found;
  }

  private ways(): Tree {
    if (++this.depth > DEEPEST) throw this.refusal(`groups in more than ${DEEPEST} groups`);
    const ways = [this.series()];
    while (this.takes('|')) ways.push(this.series());
    this.depth--;
    return ways.length === 1 ? ways[0]! : { kind: 'ways', ways };
  }

  private series(): Tree {
    const parts: Tree[] = [];
    while (this.at < this.text.length && !'|)'.includes(this.text[this.at]!)) {
      const part = this.counted();
      if (part) parts.push(part);
    }
    return parts.length === 1 ? parts[0]! : { kind: 'series', parts };
  }

  private counted(): Tree | undefined {
    const tree = this.one();
    const found = this.match(/([*+?])|\{(\d+)(,)?(\d+)?\}/y);
    if (!found || !tree) return tree;
    // Greedy or not, the same strings match.
    if (!this.takes('?') && '+*'.includes(this.text[this.at] ?? ' '))
      throw this.refusal('a count of a count');
    const [, sign, least, comma, most] = found;
    const [from, to] =
      sign === '*'
        ? [0, Infinity]
        : sign === '+'
          ? [1, Infinity]
          : sign === '?'
            ? [0, 1]
            : [Number(least), most === undefined ? (comma ? Infinity : Number(least)) : Number(most)];
    if (from > to) throw this.refusal(`the count ${found[0]}`);
    return { kind: 'count', tree, least: from, most: to };
  }

  /** Parses one atom; undefined if it only sets a flag. */
  private one(): Tree | undefined {
    const sign = this.text[this.at]!;
    if (sign === '(') return this.group();
    if (sign === '[') return { kind: 'set', set: this.bracket() };
    if (this.takes('^')) return { kind: 'begin' };
    if (this.takes('$')) return { kind: 'end' };
    if (this.takes('.')) {
      const out: Characters = this.wide ? [[0x0a, 0x0a]] : LINE_ENDS;
      return { kind: 'set', set: complement(this.dotIsAll ? [] : out) };
    }
    if ('*+?'.includes(sign)) throw this.refusal(`'${sign}' where it stands`);
    if (sign === '\\') {
      const edge = this.match(/\\(?:([bB])|([A])|([zZ]))/y);
      if (edge)
        return { kind: edge[1] === 'b' ? 'edge' : edge[1] === 'B' ? 'inside' : edge[2] ? 'begin' : 'end' };
    }
    return { kind: 'set', set: this.cased(this.character(false)) };
  }

  private group(): Tree | undefined {
    const flags = this.match(/\(\?([a-zA-Z]*)(?:-[a-zA-Z]+)?(\)|:)/y);
    if (flags) {
      const before = [this.ignoresCase, this.dotIsAll] as const;
      for (const flag of flags[1]!) {
        if (flag === 'i') this.ignoresCase = true;
        else if (flag === 's') this.dotIsAll = true;
        else if (flag !== 'u') throw this.refusal(`the flag '${flag}'`);
      }
      if (flags[0].includes('-')) throw this.refusal('a flag that is taken back');
      if (flags[2] === ')') return undefined;
      const tree = this.closed();
      [this.ignoresCase, this.dotIsAll] = before;
      return tree;
    }
    if (this.match(/\(\?<[=!]/y)) throw this.refusal('a look behind');
    const ahead = this.match(/\(\?([=!])/y);
    if (ahead) {
      const negated = ahead[1] === '!';
      if (negated) this.wide = !this.wide;
      const tree = this.closed();
      if (negated) this.wide = !this.wide;
      return { kind: 'ahead', tree, negated };
    }
    if (!this.match(/\(\?P?<[^\W\d][\w]*>/y) && !this.match(/\((?!\?)/y)) {
      throw this.refusal(`'${this.text.slice(this.at, this.at + 3)}'`);
    }
    return this.closed();
  }

  private closed(): Tree {
    const before = [this.ignoresCase, this.dotIsAll] as const;
    const tree = this.ways();
    [this.ignoresCase, this.dotIsAll] = before;
    if (!this.takes(')')) throw this.refusal("a '(' that is not closed");
    return tree;
  }

  /** A class such as `\d`, or its complement for `\D`. */
  private named(letter: string): Characters | undefined {
    const kind = letter.toLowerCase();
    if (!'dws'.includes(kind)) return undefined;
    const isComplement = letter !== kind;
    // The complement of a narrow class is a wide one, and vice versa.
    const set = classOf(kind, isComplement ? !this.wide : this.wide);
    return isComplement ? complement(set) : set;
  }

  /** A character, or a class such as `\d`. */
  private character(inBracket: boolean): Characters {
    const point = this.text.codePointAt(this.at)!;
    this.at += String.fromCodePoint(point).length;
    if (point !== 0x5c) return charactersOf([[point, point]]);
    const sign = this.text[this.at];
    if (sign === undefined) throw this.refusal("a '\\' at its end");
    const property = this.match(/([pP])(?:\{(\^?[\w=:. -]{1,60})\}|([A-Z]))/y);
    if (property) {
      const name = (property[2] ?? property[3])!;
      const isComplement = (property[1] === 'P') !== name.startsWith('^');
      const set = charactersWith(name.replace('^', ''));
      if (isComplement) return complement(set);
      // Regular expressions over UTF-16 units do not see characters beyond U+FFFF as letters, so narrow classes omit them.
      const near = this.wide || name.includes('Pict') || name.includes('Emoji') ? [] : within(set, NEAR);
      return near.length > 0 ? near : set;
    }
    const known = this.named(sign);
    if (known) {
      this.at++;
      return known;
    }
    const pair = this.match(/u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})/y);
    if (pair) {
      const whole = String.fromCharCode(Number.parseInt(pair[1]!, 16), Number.parseInt(pair[2]!, 16));
      return single(whole.codePointAt(0)!);
    }
    const hex = this.match(
      /x([0-9a-fA-F]{2})|x\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}/y,
    );
    if (hex) return single(Number.parseInt((hex[1] ?? hex[2] ?? hex[3] ?? hex[4])!, 16));
    const control = this.match(/c([A-Za-z])/y);
    if (control) return single(control[1]!.charCodeAt(0) % 32);
    if (this.match(/0(?!\d)/y)) return single(0);
    if (inBracket && this.takes('b')) return single(0x08);
    this.at++;
    const named = CONTROL[sign];
    if (named !== undefined) return single(named);
    if (/[1-9k]/.test(sign)) throw this.refusal('a reference to a group');
    if (/[a-zA-Z0]/.test(sign)) throw this.refusal(`'\\${sign}'`);
    const own = this.text.codePointAt(this.at - 1)!;
    this.at += String.fromCodePoint(own).length - 1;
    return single(own);
  }

  private bracket(): Characters {
    this.at++;
    const negated = this.takes('^');
    if (negated) this.wide = !this.wide;
    const ranges: Range[] = [];
    while (!this.takes(']')) {
      if (this.at >= this.text.length) throw this.refusal("a '[' that is not closed");
      if (this.match(/\[:(\w+):\]/y)) throw this.refusal('a POSIX class');
      const from = this.character(true);
      const isRange = this.text[this.at] === '-' && (this.text[this.at + 1] ?? ']') !== ']';
      if (!isRange || !isSingle(from)) {
        ranges.push(...from);
        continue;
      }
      this.at++;
      const to = this.character(true);
      // As in JavaScript without the u flag, '-' next to a class is a literal character.
      if (!isSingle(to)) ranges.push(...from, [0x2d, 0x2d], ...to);
      else if (to[0]![1] < from[0]![0]) throw this.refusal('a range that ends before it begins');
      else ranges.push([from[0]![0], to[0]![1]]);
    }
    if (negated) this.wide = !this.wide;
    const set = this.cased(charactersOf(ranges));
    return negated ? complement(set) : set;
  }

  /** Adds the other case of each letter if case is ignored. */
  private cased(set: Characters): Characters {
    if (!this.ignoresCase) return set;
    const others: Range[] = [];
    for (const [from, to] of set) {
      for (let point = from; point <= Math.min(to, MANY_LETTERS); point++) {
        const sign = String.fromCodePoint(point);
        for (const other of [sign.toLowerCase(), sign.toUpperCase()]) {
          const value = other.codePointAt(0)!;
          if (other.length === String.fromCodePoint(value).length && value !== point)
            others.push([value, value]);
        }
      }
    }
    return charactersOf([...set, ...others]);
  }
}

function classOf(kind: string, wide: boolean): Characters {
  switch (kind) {
    case 'd':
      return wide ? charactersWith('Nd') : DIGITS;
    case 'w':
      return wide ? wideWord() : WORD;
    default:
      return wide ? wideBlank() : BLANK_EVERYWHERE;
  }
}

/** `\w` in Rust and Python. */
function wideWord(): Characters {
  const more = ['L', 'M', 'N', 'Pc'].flatMap((property) => [...charactersWith(property)]);
  return charactersOf([...WORD, ...more, [0x200c, 0x200d]]);
}

function wideBlank(): Characters {
  return charactersOf([...BLANK, [0x1c, 0x1f], [0x85, 0x85], [0x180e, 0x180e]]);
}

/** The last character of one UTF-16 unit. */
const NEAR = 0xffff;

function within(set: Characters, last: number): Characters {
  return set.filter(([from]) => from <= last).map(([from, to]): Range => [from, Math.min(to, last)]);
}

function single(point: number): Characters {
  return charactersOf([[point, point]]);
}

function isSingle(set: Characters): boolean {
  return set.length === 1 && set[0]![0] === set[0]![1];
}
