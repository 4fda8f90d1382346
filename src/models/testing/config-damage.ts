/** Damage to a config.json: the kinds of wrong values that files have, at random places. */
import { generator } from '../../graph/testing/random.js';

type Json = Record<string, unknown>;

/** What may stand in the place of any value. */
const WRONG: readonly unknown[] = [
  null,
  true,
  false,
  '',
  'text',
  'Infinity',
  'auto',
  [],
  {},
  [null],
  [1, 2],
  ['mamba'],
  { a: { b: [] } },
  { __float__: 'NaN' },
  0,
  -0,
  1,
  2,
  3,
  7,
  65_537,
  2 ** 31,
  2 ** 53,
  1e9,
  1e308,
  -1,
  -1e308,
  0.5,
  1e-308,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
];

const NUMBERS: readonly ((value: number) => number)[] = [
  (value) => -value,
  (value) => value + 1,
  (value) => value - 1,
  (value) => value + 0.5,
  (value) => value * 2,
  (value) => value * 3,
  (value) => value / 2,
  (value) => value / 3,
  (value) => value * 1e6,
  (value) => value * 1e-6,
];

/** Damages configs at random; the same seed damages in the same way. */
export class Damage {
  private readonly next: () => number;

  constructor(seed: number) {
    this.next = generator(seed);
  }

  /** An integer from 0 to below `count`. */
  below(count: number): number {
    return Math.floor(this.next() * count);
  }

  private pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  /** The text of a config with one to three values that are wrong. */
  config(whole: Json): string {
    const copy = structuredClone(whole);
    for (let count = 1 + this.below(3); count > 0; count--) this.harm(copy);
    return JSON.stringify(copy, (_, value: unknown) =>
      typeof value === 'number' && !Number.isFinite(value) ? { __float__: String(value) } : value,
    );
  }

  private harm(object: Json): void {
    const keys = Object.keys(object);
    if (keys.length === 0) return;
    const key = this.pick(keys);
    const value = object[key];
    const choice = this.below(10);
    if (choice === 0) {
      delete object[key];
    } else if (choice === 1) {
      const other = this.pick(keys);
      [object[key], object[other]] = [object[other], object[key]];
    } else if (Array.isArray(value) && choice < 8) {
      object[key] = this.list(value);
    } else if (typeof value === 'object' && value !== null && choice < 8) {
      this.harm(value as Json);
    } else if (typeof value === 'number' && choice < 6) {
      object[key] = this.pick(NUMBERS)(value);
    } else if (typeof value === 'string' && choice < 4) {
      object[key] = this.pick([`${value}x`, value.slice(1), value.toUpperCase(), [value], value.repeat(3)]);
    } else {
      object[key] = choice === 9 ? nested(this.pick([10, 100])) : this.pick(WRONG);
    }
  }

  private list(values: readonly unknown[]): unknown[] {
    const at = this.below(values.length);
    const choices: (() => unknown[])[] = [
      () => [],
      () => [...values].reverse(),
      () => values.slice(1),
      () => [...values, ...values],
      () => [...values.slice(at), ...values.slice(0, at)],
      () => values.map((value, i) => (i === at ? this.pick(WRONG) : value)),
      () => Array.from({ length: 5000 }, (_, i) => values[i % values.length]),
      () => [values],
    ];
    return this.pick(choices)();
  }

  /** A copy of a text with some of its characters changed, or cut off. */
  text(whole: string): string {
    if (this.below(4) === 0) return whole.slice(0, this.below(whole.length));
    const characters = [...whole];
    for (let count = 1 + this.below(3); count > 0; count--) {
      characters[this.below(characters.length)] = this.pick([
        ...'"\\{}[],:0919-.eE+ \n\0\u007f\ud800é',
        'NaN',
        'Infinity',
        '-Infinity',
        '1e999',
        '"__proto__":',
        '',
      ]);
    }
    return characters.join('');
  }
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { value };
  return value;
}
