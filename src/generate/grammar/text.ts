/**
 * Terminals for the contents of JSON strings: characters in UTF-8 or escaped, whose decoded string an automaton accepts, or whose length
 * is within bounds.
 */
import { type Automaton, DEAD, shortestEnds } from './automaton.js';
import { ALL, Alphabet, type Characters, type Range } from './characters.js';
import type { Terminal } from './terminal.js';

/** The remaining bytes of some characters of one class: one byte of `has`, then the rest of the chain. */
interface Chain {
  readonly id: number;
  /** [byte]: 1 if it may come. */
  readonly has: Uint8Array;
  readonly rest: Chain | undefined;
  readonly symbol: number;
}

/** A position within a character: the chains of its possible remaining bytes. */
interface Branch {
  readonly id: number;
  readonly chains: readonly Chain[];
  /** A cache of transitions by byte: a branch, the class of the character that the byte completes, or undefined if it is not allowed. */
  readonly next: Map<number, Branch | number | undefined>;
  /** The classes that can still be reached. */
  readonly classes: ReadonlySet<number>;
}

/** The encodings of all characters in a JSON string. */
class Spelling {
  readonly branches: Branch[] = [];
  /** [class]: a short encoding of one of its characters. */
  readonly shortest: Uint8Array[] = [];
  private readonly chains = new Map<string, Chain>();
  private readonly known = new Map<string, Branch>();

  /** `plain` omits escapes of characters that need none, so that each string has one encoding. */
  constructor(alphabet: Alphabet, useful: ReadonlySet<number>, plain: boolean) {
    const all = new Set<Chain>();
    for (const [symbol, characters] of alphabet.classes.entries()) {
      this.shortest.push(exampleOf(characters));
      if (!useful.has(symbol)) continue;
      for (const [from, to] of characters) {
        for (const places of spellingsOf(from, to, plain, alphabet.classes.length > 1)) {
          all.add(this.chain(places, symbol));
        }
      }
    }
    this.branch([...all]);
  }

  /** Where a byte leads to within a character. */
  step(branch: Branch, byte: number): Branch | number | undefined {
    const { next } = branch;
    if (!next.has(byte)) next.set(byte, this.stepped(branch, byte));
    return next.get(byte);
  }

  private stepped({ chains }: Branch, byte: number): Branch | number | undefined {
    const found = chains.filter(({ has }) => has[byte] === 1);
    if (found.length === 0) return undefined;
    const [{ rest, symbol }] = found as [Chain];
    return rest ? this.branch([...new Set(found.map((chain) => chain.rest!))]) : symbol;
  }

  private branch(chains: readonly Chain[]): Branch {
    const key = chains.map(({ id }) => id).join(' ');
    let branch = this.known.get(key);
    if (!branch) {
      const classes = new Set(chains.map(({ symbol }) => symbol));
      branch = { id: this.branches.length, chains, next: new Map(), classes };
      this.branches.push(branch);
      this.known.set(key, branch);
    }
    return branch;
  }

  private chain(places: readonly Bytes[], symbol: number): Chain {
    let chain: Chain | undefined;
    for (const { from, to, hex } of [...places].reverse()) {
      const key = `${from} ${to} ${hex} ${chain ? `>${chain.id}` : `=${symbol}`}`;
      let known = this.chains.get(key);
      if (!known) {
        const has = new Uint8Array(256);
        if (hex === undefined) has.fill(1, from, to + 1);
        else for (const byte of hexBytes(from, to, hex === 'lower')) has[byte] = 1;
        known = { id: this.chains.size, has, rest: chain, symbol };
        this.chains.set(key, known);
      }
      chain = known;
    }
    return chain!;
  }
}

/** The bytes at one position: a range of bytes, or of hexadecimal digits. */
interface Bytes {
  readonly from: number;
  readonly to: number;
  readonly hex?: 'lower' | 'both';
}

/**
 * The encodings of the characters in a range. `few` omits escapes of printable ASCII such as `\u003c`, which serializers emit only for text
 * inside HTML.
 */
function* spellingsOf(from: number, to: number, plain: boolean, few: boolean): Generator<readonly Bytes[]> {
  const one = (byte: number): Bytes => ({ from: byte, to: byte });
  for (const [first, last] of PLAIN) {
    const bytes = { from: Math.max(from, first), to: Math.min(to, last) };
    if (bytes.from <= bytes.to) yield [bytes];
  }
  for (const sequence of utf8Ranges(Math.max(from, 0x80), to))
    yield sequence.map(([a, b]) => ({ from: a, to: b }));
  for (const [point, sign] of ESCAPES) {
    if (point >= from && point <= to && !(plain && point === 0x2f))
      yield [one(0x5c), one(sign.charCodeAt(0))];
  }
  // Control characters must be escaped; some have a short escape.
  const escaped: Range[] = [[from, Math.min(to, few || plain ? 0x1f : 0xffff)]];
  if (few && !plain) escaped.push([Math.max(from, 0x7f), Math.min(to, 0xffff)]);
  const ranges = plain
    ? escaped.flatMap(([a, b]) =>
        numbersIn(a, b)
          .filter(hasNoEscape)
          .map((at): Range => [at, at]),
      )
    : escaped;
  for (const [first, last] of ranges) {
    if (first > last) continue;
    const digits = (point: number): number[] => [12, 8, 4, 0].map((shift) => (point >> shift) & 15);
    for (const sequence of sequencesBetween(digits(first), digits(last), 0, 15)) {
      const hex = plain ? 'lower' : 'both';
      yield [one(0x5c), one(0x75), ...sequence.map(([a, b]): Bytes => ({ from: a, to: b, hex }))];
    }
  }
}

function hasNoEscape(point: number): boolean {
  return !ESCAPES.some(([own]) => own === point);
}

/** ASCII characters that need no escape. */
const PLAIN: readonly Range[] = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0x7f],
];

const ESCAPES: readonly (readonly [point: number, sign: string])[] = [
  [0x22, '"'],
  [0x5c, '\\'],
  [0x2f, '/'],
  [0x08, 'b'],
  [0x09, 't'],
  [0x0a, 'n'],
  [0x0c, 'f'],
  [0x0d, 'r'],
];

const EVERY = new Alphabet([ALL]);
let everySpelling: { readonly plain: Spelling; readonly full: Spelling } | undefined;

/** An automaton over character classes, as the source of a string's states. */
interface Course {
  readonly alphabet: Alphabet;
  readonly spelling: Spelling;
  next(state: number, symbol: number): number;
  accepts(state: number): boolean;
  goesOn(state: number): boolean;
  /** The class of the first character of a shortest completion. */
  toward(state: number): number;
}

/** Whether a terminal is a string's content. */
export function isText(terminal: Terminal): boolean {
  return terminal instanceof Text;
}

/** The same strings with one encoding each. */
export function plainText(text: Terminal): Terminal {
  return (text as Text).plain();
}

/** The strings that an automaton accepts. */
export function textOf(automaton: Automaton): Terminal {
  return textWith((plain) => courseOf(automaton, plain));
}

/** Strings with a number of characters within these bounds. */
export function textOfLength(least: number, most: number): Terminal {
  const top = most === Infinity ? least : most;
  const every = new Set([0]);
  everySpelling ??= { plain: new Spelling(EVERY, every, true), full: new Spelling(EVERY, every, false) };
  return textWith((plain) => ({
    alphabet: EVERY,
    spelling: everySpelling![plain ? 'plain' : 'full'],
    next: (state) => (state < top ? state + 1 : most === Infinity ? state : DEAD),
    accepts: (state) => state >= least,
    goesOn: (state) => state < most,
    toward: () => 0,
  }));
}

function textWith(course: (plain: boolean) => Course): Text {
  return new Text(course(false), () => new Text(course(true)));
}

function courseOf(automaton: Automaton, plain: boolean): Course {
  const { alphabet, next, accepts } = automaton;
  const classes = alphabet.classes.length;
  const { toward } = shortestEnds(automaton);
  const useful = new Set<number>();
  for (let i = 0; i < next.length; i++) if (next[i] !== DEAD) useful.add(i % classes);
  return {
    spelling: new Spelling(alphabet, useful, plain),
    alphabet,
    next: (state, symbol) => next[state * classes + symbol]!,
    accepts: (state) => accepts[state] === 1,
    goesOn: (state) => {
      for (let symbol = 0; symbol < classes; symbol++)
        if (next[state * classes + symbol] !== DEAD) return true;
      return false;
    },
    toward: (state) => toward[state]!,
  };
}

/** The cache of completions is cleared when it has this many entries. */
const MANY_COMPLETIONS = 10_000;
/** More than the number of branches: a state is course * PLACES + branch. */
const PLACES = 2 ** 20;

/** A state combines the state of the course and the position within a character. */
class Text implements Terminal {
  readonly start = 0;
  private readonly completions = new Map<number, Uint8Array>();

  constructor(
    private readonly course: Course,
    private readonly makePlain?: () => Text,
  ) {}

  plain(): Text {
    return this.makePlain?.() ?? this;
  }

  step(state: number, byte: number): number | undefined {
    const { course } = this;
    const { spelling } = course;
    const from = Math.floor(state / PLACES);
    const reached = spelling.step(spelling.branches[state % PLACES]!, byte);
    if (reached === undefined) return undefined;
    if (typeof reached === 'number') {
      const to = course.next(from, reached);
      return to === DEAD ? undefined : to * PLACES;
    }
    return this.isOpen(from, reached) ? from * PLACES + reached.id : undefined;
  }

  accepts(state: number): boolean {
    return state % PLACES === 0 && this.course.accepts(state / PLACES);
  }

  goesOn(state: number): boolean {
    return state % PLACES !== 0 || this.course.goesOn(state / PLACES);
  }

  completion(state: number): Uint8Array {
    let known = this.completions.get(state);
    if (!known) {
      if (this.completions.size > MANY_COMPLETIONS) this.completions.clear();
      known = this.complete(state);
      this.completions.set(state, known);
    }
    return known;
  }

  private complete(state: number): Uint8Array {
    const { course } = this;
    const { spelling } = course;
    const bytes: number[] = [];
    let at = Math.floor(state / PLACES);
    let branch: Branch | undefined = spelling.branches[state % PLACES]!;
    // First complete the present character.
    while (branch && branch.id !== 0) {
      const from: Branch = branch;
      const byte = numbersIn(0, 255).find((each) => {
        const to = spelling.step(from, each);
        return typeof to === 'number'
          ? course.next(at, to) !== DEAD
          : to !== undefined && this.isOpen(at, to);
      })!;
      bytes.push(byte);
      const reached = spelling.step(from, byte)!;
      if (typeof reached === 'number') at = course.next(at, reached);
      branch = typeof reached === 'number' ? undefined : reached;
    }
    while (!course.accepts(at)) {
      const symbol = course.toward(at);
      for (const byte of spelling.shortest[symbol]!) bytes.push(byte);
      at = course.next(at, symbol);
    }
    return Uint8Array.from(bytes);
  }

  /** Whether any character of a branch is allowed. */
  private isOpen(at: number, { classes }: Branch): boolean {
    for (const symbol of classes) if (this.course.next(at, symbol) !== DEAD) return true;
    return false;
  }
}

/** A letter or digit if there is one, otherwise the character with the shortest encoding. */
function exampleOf(characters: Characters): Uint8Array {
  const has = (point: number): boolean => characters.some(([from, to]) => point >= from && point <= to);
  const nice = [0x61, 0x41, 0x30, 0x20].find(has);
  const letters = Array.from({ length: 0x5f }, (_, i) => 0x20 + i).filter(
    (point) => point !== 0x22 && point !== 0x5c,
  );
  const point =
    nice ?? letters.find((each) => each > 0x60 && has(each)) ?? letters.find(has) ?? characters[0]![0];
  const text = JSON.stringify(String.fromCodePoint(point));
  return new TextEncoder().encode(text.slice(1, -1));
}

function numbersIn(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
}

function hexBytes(from: number, to: number, plain: boolean): number[] {
  const bytes: number[] = [];
  for (let digit = from; digit <= to; digit++) {
    const sign = digit.toString(16);
    bytes.push(sign.charCodeAt(0));
    if (digit > 9 && !plain) bytes.push(sign.toUpperCase().charCodeAt(0));
  }
  return bytes;
}

/** The UTF-8 of all characters in a range beyond ASCII. */
function utf8Ranges(from: number, to: number): Range[][] {
  if (from > to) return [];
  const border = [0x7ff, 0xffff].find((last) => from <= last && to > last);
  if (border !== undefined) return [...utf8Ranges(from, border), ...utf8Ranges(border + 1, to)];
  return sequencesBetween(encoded(from), encoded(to), 0x80, 0xbf);
}

function encoded(point: number): number[] {
  return Array.from(new TextEncoder().encode(String.fromCodePoint(point)));
}

/** All byte sequences between two of equal length, whose continuation bytes range from `first` to `last`. */
function sequencesBetween(
  low: readonly number[],
  high: readonly number[],
  first: number,
  last: number,
): Range[][] {
  const [a, ...lows] = low as [number, ...number[]];
  const [b, ...highs] = high as [number, ...number[]];
  if (lows.length === 0) return [[[a, b]]];
  const least = lows.map(() => first);
  const most = lows.map(() => last);
  const after = (from: number, to: number, rest: readonly Range[][]): Range[][] =>
    from > to ? [] : rest.map((places) => [[from, to], ...places]);
  if (a === b) return after(a, a, sequencesBetween(lows, highs, first, last));
  return [
    ...after(a, a, sequencesBetween(lows, most, first, last)),
    ...after(a + 1, b - 1, sequencesBetween(least, most, first, last)),
    ...after(b, b, sequencesBetween(least, highs, first, last)),
  ];
}
