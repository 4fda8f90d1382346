/** The methods of Python's texts. Places and widths count code points. */
import { spend, spendText } from './budget.js';
import {
  BLANKS,
  characterIndex,
  countCharacters,
  indexOfText,
  isBlank,
  joined,
  lastIndexOfText,
  lastPlaceOf,
  linesOf,
  placeOf,
  repeated,
  spendSearch,
  stripped,
  substring,
  unitIndex,
} from './characters.js';
import { failed } from './errors.js';
import { byName, type Native, native } from './native.js';
import { formatText, type Lookup } from './text-format.js';
import { Dict, elements, integerOf, Tuple, typeOf, type Value } from './values.js';

/** Throws for a value that is not a text. */
export function asText(value: Value, what: string): string {
  if (typeof value === 'string') return value;
  throw failed(`${what} must be str, not ${typeOf(value)}`);
}

/** Throws for a value that is not an int. */
export function asNumber(value: Value): number {
  const integer = integerOf(value);
  if (integer === undefined) throw failed(`'${typeOf(value)}' object cannot be interpreted as an integer`);
  return Number(integer);
}

/** Whether a text is not empty and all of its characters match. */
const allOf = (name: string, kind: RegExp): Native =>
  native(name, 'self', (self: string) => {
    spendText(self.length, 4);
    return kind.test(self);
  });

const changed = (name: string, weight: number, change: (text: string) => string): Native =>
  native(name, 'self', (self: string) => {
    spendText(self.length, weight);
    return change(self);
  });

/** The first letter in upper case, the others in lower case. */
export function capitalized(text: string): string {
  spendText(text.length, 2);
  const first = text === '' ? '' : String.fromCodePoint(text.codePointAt(0)!);
  return first.toUpperCase() + text.slice(first.length).toLowerCase();
}

const titled = (text: string): string =>
  text.replace(/\p{Cased}+/gu, (word) => {
    const first = String.fromCodePoint(word.codePointAt(0)!);
    return first.toUpperCase() + word.slice(first.length).toLowerCase();
  });

/** Whether there are cased letters, all of them in this case. */
function isCase(text: string, one: RegExp, other: RegExp): boolean {
  spendText(text.length, 4);
  return one.test(text) && !other.test(text);
}

const strip = (name: string, sides: 'both' | 'left' | 'right'): Native =>
  native(name, 'self, chars=None', (self: string, drop: Value) =>
    stripped(self, drop === null ? null : asText(drop, `${name} arg`), sides),
  );

/** The part of a text between two slice indices, and its start in units. */
function between(text: string, start: Value, stop: Value): { part: string; at: number; isValid: boolean } {
  if (start === null && stop === null) return { part: text, at: 0, isValid: true };
  const length = countCharacters(text);
  const place = (value: Value, absent: number): number => {
    if (value === null) return absent;
    const index = asNumber(value);
    return Math.max(0, index < 0 ? index + length : index);
  };
  const [from, to] = [place(start, 0), Math.min(length, place(stop, length))];
  const at = unitIndex(text, from);
  return { part: from < to ? substring(text, from, to) : '', at, isValid: from <= to };
}

const search = (name: string, last: boolean, missing: (() => never) | undefined): Native =>
  native(name, 'self, sub, start=None, end=None', (self: string, word: Value, start: Value, stop: Value) => {
    const { part, at, isValid } = between(self, start, stop);
    const sought = asText(word, 'must be str, not');
    const found = isValid ? (last ? lastIndexOfText(part, sought) : indexOfText(part, sought)) : -1;
    if (found < 0) return missing ? missing() : -1n;
    return BigInt(characterIndex(self, at + found));
  });

const notFound = (): never => {
  throw failed('substring not found');
};

const edge = (name: string, test: (part: string, word: string) => boolean): Native =>
  native(
    name,
    'self, prefix, start=None, end=None',
    (self: string, words: Value, start: Value, stop: Value) => {
      const { part, isValid } = between(self, start, stop);
      const all = words instanceof Tuple ? words.items : [words];
      return all.some((word) => {
        if (typeof word !== 'string') {
          throw failed(`${name} first arg must be str or a tuple of str, not ${typeOf(word)}`);
        }
        spend();
        spendText(word.length);
        return isValid && test(part, word);
      });
    },
  );

/** Splits a text at white space, at most `most` times; the rest keeps its white space. */
function wordsOf(text: string, most: number, fromEnd: boolean): string[] {
  const words: string[] = [];
  const sides = fromEnd ? 'right' : 'left';
  let rest = stripped(text, null, sides);
  const blanks = new RegExp(`${BLANKS}+`, 'g');
  if (most === Infinity)
    return stripped(rest, null, 'both')
      .split(blanks)
      .filter((word) => word !== '');
  if (!fromEnd) {
    while (rest !== '' && words.length < most) {
      const at = rest.search(blanks);
      words.push(at < 0 ? rest : rest.slice(0, at));
      rest = at < 0 ? '' : stripped(rest.slice(at), null, 'left');
    }
    return rest === '' ? words : [...words, rest];
  }
  while (rest !== '' && words.length < most) {
    let at = rest.length;
    while (at > 0 && !isBlank(rest[at - 1]!)) at--;
    words.unshift(rest.slice(at));
    rest = stripped(rest.slice(0, at), null, 'right');
  }
  return rest === '' ? words : [rest, ...words];
}

function partsOf(text: string, separator: string, most: number, fromEnd: boolean): string[] {
  if (separator === '') throw failed('empty separator');
  const parts: string[] = [];
  let [start, end] = [0, text.length];
  spendSearch(text.length, separator.length);
  while (parts.length < most) {
    spend();
    if (fromEnd) {
      const at = end < separator.length ? -1 : lastPlaceOf(text, separator, end - separator.length);
      if (at < 0) break;
      parts.push(text.slice(at + separator.length, end));
      end = at;
    } else {
      const at = placeOf(text, separator, start);
      if (at < 0) break;
      parts.push(text.slice(start, at));
      start = at + separator.length;
    }
  }
  parts.push(text.slice(start, end));
  return fromEnd ? parts.reverse() : parts;
}

const split = (name: string, fromEnd: boolean): Native =>
  native(name, 'self, sep=None, maxsplit=-1', (self: string, separator: Value, most: Value) => {
    const limit = asNumber(most) < 0 ? Infinity : asNumber(most);
    const parts =
      separator === null
        ? wordsOf(self, limit, fromEnd)
        : partsOf(self, asText(separator, 'sep'), limit, fromEnd);
    spend(parts.length);
    return parts;
  });

const partition = (name: string, fromEnd: boolean): Native =>
  native(name, 'self, sep', (self: string, separator: Value) => {
    const [first, second] = partsOf(self, asText(separator, 'sep'), 1, fromEnd) as [
      string,
      string | undefined,
    ];
    if (second !== undefined) return new Tuple([first, separator, second]);
    return new Tuple(fromEnd ? ['', '', self] : [self, '', '']);
  });

/** Replaces every `old`, or the first `most` of them. */
export function replaced(text: string, old: string, by: string, most = Infinity): string {
  if (most === 0) return text;
  if (old !== '') return joined(partsOf(text, old, most, false), by);
  const all = Array.from(text);
  spend(all.length);
  const places = Math.min(most, all.length + 1);
  spend(places);
  const front = all.slice(0, places).map((character) => by + character);
  return joined([...front, places > all.length ? by : '', ...all.slice(places)]);
}

/** Centres a text; as in Python, an odd blank is on the left if the width is odd. */
export function centered(text: string, width: number, fill = ' '): string {
  const missing = Math.max(0, width - countCharacters(text));
  const left = (missing >> 1) + (missing & width & 1);
  return repeated(fill, left) + text + repeated(fill, missing - left);
}

const justified = (name: string, place: (text: string, blanks: string) => string): Native =>
  native(name, "self, width, fillchar=' '", (self: string, width: Value, fill: Value) =>
    place(self, repeated(asText(fill, 'fillchar'), asNumber(width) - countCharacters(self))),
  );

function expandedTabs(text: string, size: number): string {
  let column = 0;
  const parts: string[] = [];
  for (const character of text) {
    spend();
    if (character === '\t') {
      const blanks = size > 0 ? size - (column % size) : 0;
      parts.push(repeated(' ', blanks));
      column += blanks;
    } else {
      parts.push(character);
      column = character === '\n' || character === '\r' ? 0 : column + 1;
    }
  }
  return joined(parts);
}

const UPPER = /\p{Uppercase}|\p{Lt}/u;

const METHODS: readonly Native[] = [
  native('capitalize', 'self', capitalized as (self: string) => string),
  changed('casefold', 8, (text) => text.toLowerCase().replaceAll('ß', 'ss').replaceAll('ς', 'σ')),
  changed('lower', 2, (text) => text.toLowerCase()),
  changed('upper', 2, (text) => text.toUpperCase()),
  changed('title', 32, titled),
  changed('swapcase', 32, (text) =>
    text.replace(/\p{Cased}/gu, (letter) =>
      UPPER.test(letter) ? letter.toLowerCase() : letter.toUpperCase(),
    ),
  ),
  native('center', "self, width, fillchar=' '", (self: string, width: Value, fill: Value) =>
    centered(self, asNumber(width), asText(fill, 'fillchar')),
  ),
  justified('ljust', (text, blanks) => text + blanks),
  justified('rjust', (text, blanks) => blanks + text),
  native('zfill', 'self, width', (self: string, width: Value) => {
    const sign = /^[-+]?/.exec(self)![0];
    return sign + repeated('0', asNumber(width) - countCharacters(self)) + self.slice(sign.length);
  }),
  native('expandtabs', 'self, tabsize=8', (self: string, size: Value) => expandedTabs(self, asNumber(size))),
  strip('strip', 'both'),
  strip('lstrip', 'left'),
  strip('rstrip', 'right'),
  native('removeprefix', 'self, prefix', (self: string, prefix: Value) => {
    const word = asText(prefix, 'removeprefix() argument');
    return word !== '' && self.startsWith(word) ? self.slice(word.length) : self;
  }),
  native('removesuffix', 'self, suffix', (self: string, suffix: Value) => {
    const word = asText(suffix, 'removesuffix() argument');
    return word !== '' && self.endsWith(word) ? self.slice(0, -word.length) : self;
  }),
  search('find', false, undefined),
  search('rfind', true, undefined),
  search('index', false, notFound),
  search('rindex', true, notFound),
  edge('startswith', (part, word) => part.startsWith(word)),
  edge('endswith', (part, word) => part.endsWith(word)),
  native(
    'count',
    'self, sub, start=None, end=None',
    (self: string, word: Value, start: Value, stop: Value) => {
      const { part, isValid } = between(self, start, stop);
      const sought = asText(word, 'must be str, not');
      if (!isValid) return 0n;
      if (sought === '') return BigInt(countCharacters(part) + 1);
      return BigInt(partsOf(part, sought, Infinity, false).length - 1);
    },
  ),
  split('split', false),
  split('rsplit', true),
  native('splitlines', 'self, keepends=False', (self: string, keep: Value) => linesOf(self, Boolean(keep))),
  partition('partition', false),
  partition('rpartition', true),
  native('join', 'self, iterable', (self: string, parts: Value) =>
    joined(
      Array.from(elements(parts), (part, i) =>
        asText(part, `sequence item ${i}: expected str instance, item`),
      ),
      self,
    ),
  ),
  native('replace', 'self, old, new, count=-1', (self: string, old: Value, by: Value, most: Value) => {
    const limit = asNumber(most);
    return replaced(self, asText(old, 'old'), asText(by, 'new'), limit < 0 ? Infinity : limit);
  }),
  allOf('isalnum', /^[\p{L}\p{N}]+$/u),
  allOf('isalpha', /^\p{L}+$/u),
  allOf('isdecimal', /^\p{Nd}+$/u),
  allOf('isdigit', /^[\p{Nd}\u00b2\u00b3\u00b9\u2070\u2074-\u2079\u2080-\u2089\u2460-\u2468]+$/u),
  allOf('isnumeric', /^\p{N}+$/u),
  allOf('isascii', /^[\0-\x7f]*$/),
  allOf('isidentifier', /^[\p{ID_Start}_]\p{ID_Continue}*$/u),
  allOf('isprintable', /^(?:[^\p{C}\p{Z}]| )*$/u),
  allOf('isspace', new RegExp(`^${BLANKS}+$`)),
  native('islower', 'self', (self: string) => isLower(self)),
  native('isupper', 'self', (self: string) => isUpper(self)),
  native('istitle', 'self', (self: string) => {
    spendText(self.length, 32);
    return /\p{Cased}/u.test(self) && titled(self) === self;
  }),
];

/** The methods of texts by name. */
export function textMethods(lookup: Lookup): ReadonlyMap<string, Native> {
  return byName([
    ...METHODS,
    native('format', 'self, *args, **kwargs', (self: string, args: Tuple, named: Dict) =>
      formatText(self, { positional: args.items, named: namesOf(named), lookup }),
    ),
    native('format_map', 'self, mapping', (self: string, mapping: Value) => {
      if (!(mapping instanceof Dict)) throw failed('format_map() takes a mapping');
      return formatText(self, { positional: [], named: namesOf(mapping), lookup });
    }),
  ]);
}

/** Python's `str.islower`. */
export const isLower = (text: string): boolean => isCase(text, /\p{Lowercase}/u, /[\p{Uppercase}\p{Lt}]/u);
/** Python's `str.isupper`. */
export const isUpper = (text: string): boolean => isCase(text, /\p{Uppercase}/u, /[\p{Lowercase}\p{Lt}]/u);

function namesOf(dict: Dict): Map<string, Value> {
  const named = new Map<string, Value>();
  for (const [key, value] of dict.entries()) if (typeof key === 'string') named.set(key, value);
  return named;
}
