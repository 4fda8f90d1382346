/** Sets of characters (Unicode code points), and the classes into which sets divide all characters. */
import { ConfigError } from '../../errors.js';

/** An inclusive range of code points. */
export type Range = readonly [from: number, to: number];
/** Ascending ranges that do not touch. */
export type Characters = readonly Range[];

const LAST = 0x10ffff;
/** Halves of surrogate pairs are not characters. */
const SURROGATES: Range = [0xd800, 0xdfff];

/** All code points but surrogates. */
export const ALL: Characters = [
  [0, SURROGATES[0] - 1],
  [SURROGATES[1] + 1, LAST],
];

/** Joins ranges in any order; halves of surrogate pairs are left out. */
export function charactersOf(ranges: readonly Range[]): Characters {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0]);
  const joined: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = joined.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined.flatMap(([from, to]): Range[] => {
    if (to < SURROGATES[0] || from > SURROGATES[1]) return [[from, to]];
    const parts: Range[] = [
      [from, SURROGATES[0] - 1],
      [SURROGATES[1] + 1, to],
    ];
    return parts.filter(([a, b]) => a <= b);
  });
}

/** All code points that are not in a set, without surrogates. */
export function complement(set: Characters): Characters {
  const others: Range[] = [];
  let next = 0;
  for (const [from, to] of set) {
    if (from > next) others.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= LAST) others.push([next, LAST]);
  return charactersOf(others);
}

/** `\d` of a regular expression: ASCII digits. */
export const DIGITS: Characters = [[0x30, 0x39]];
/** `\w` of a regular expression: ASCII letters, digits and the underscore. */
export const WORD: Characters = charactersOf([...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]);
/** `\s` in JavaScript. */
export const BLANK: Characters = charactersOf([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);
/** The line ends that `.` does not match. */
export const LINE_ENDS: Characters = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];

/** White space in Python and Rust as well. */
export const BLANK_EVERYWHERE: Characters = charactersOf([
  [0x09, 0x0d],
  [0x20, 0x20],
]);
const properties = new Map<string, Characters>();
let everyCharacter: string | undefined;

/**
 * The characters of a Unicode property by its name in `\p{...}`, such as `L` or `Script=Greek`. Throws `ConfigError` for an unknown one.
 */
export function charactersWith(property: string): Characters {
  const known = properties.get(property);
  if (known) return known;
  let runs: RegExp;
  try {
    runs = new RegExp(`\\p{${property}}+`, 'gu');
  } catch {
    throw new ConfigError(`there is no Unicode property '${property}'`);
  }
  everyCharacter ??= ALL.map(([from, to]) => textOf(from, to)).join('');
  const ranges: Range[] = [];
  for (const { 0: run } of everyCharacter.matchAll(runs)) {
    // A range ends before a character without the property, or before the surrogates.
    const from = run.codePointAt(0)!;
    const last = run.codePointAt(run.length - 2) ?? 0;
    const to = last > 0xffff ? last : run.charCodeAt(run.length - 1);
    ranges.push(...charactersOf([[from, to]]));
  }
  const found = charactersOf(ranges);
  properties.set(property, found);
  return found;
}

/** A string of all characters of a range. */
function textOf(from: number, to: number): string {
  const parts: string[] = [];
  for (let at = from; at <= to; at += 4096) {
    const points = Array.from({ length: Math.min(4096, to - at + 1) }, (_, i) => at + i);
    parts.push(String.fromCodePoint(...points));
  }
  return parts.join('');
}

/** A partition of all characters into classes: characters of a class are members of the same given sets. */
export class Alphabet {
  /** The characters of each class. */
  readonly classes: readonly Characters[];
  private readonly starts: number[] = [];
  private readonly classOfStart: number[] = [];
  private readonly members = new Map<Characters, readonly number[]>();

  constructor(sets: readonly Characters[]) {
    const distinct = [...new Set(sets)];
    const borders = new Set(ALL.map(([from]) => from));
    const events: { at: number; set: number; enters: boolean }[] = [];
    for (const [i, set] of distinct.entries()) {
      for (const [from, to] of set) {
        borders.add(from).add(to + 1);
        events.push({ at: from, set: i, enters: true }, { at: to + 1, set: i, enters: false });
      }
    }
    events.sort((a, b) => a.at - b.at || Number(a.enters) - Number(b.enters));
    const within = new Set<number>();
    const ids = new Map<string, number>();
    const classes: Range[][] = [];
    const memberships: number[][] = distinct.map(() => []);
    const starts = [...borders].filter((at) => at <= LAST).sort((a, b) => a - b);
    let next = 0;
    for (const [i, from] of starts.entries()) {
      for (; next < events.length && events[next]!.at <= from; next++) {
        const { set, enters } = events[next]!;
        if (enters) within.add(set);
        else within.delete(set);
      }
      const pieces = charactersOf([[from, (starts[i + 1] ?? LAST + 1) - 1]]);
      if (pieces.length === 0) continue;
      const key = [...within].sort((a, b) => a - b).join(' ');
      let id = ids.get(key);
      if (id === undefined) {
        id = classes.length;
        ids.set(key, id);
        classes.push([]);
        for (const set of within) memberships[set]!.push(id);
      }
      classes[id]!.push(...pieces);
      this.starts.push(from);
      this.classOfStart.push(id);
    }
    this.classes = classes;
    for (const [i, set] of distinct.entries()) this.members.set(set, memberships[i]!);
  }

  /** The classes that make up a set, which must be one of the given sets. */
  classesOf(set: Characters): readonly number[] {
    return this.members.get(set)!;
  }

  classOf(point: number): number {
    let [low, high] = [0, this.starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle]! <= point) low = middle;
      else high = middle - 1;
    }
    return this.classOfStart[low]!;
  }
}
