/**
 * Numbers of JSON within bounds, digit by digit: of what was written so far it is known whether it is a number within them, and
 * whether it can become one. Exponents are not written, nor more digits than a double tells apart.
 *
 * All is counted in units of the last digit there may be, in whole numbers, so that nothing is rounded: a decimal of 15 digits is
 * above or below a double exactly as the double that it is read as. Multiples alone are rounded, by those who check them:
 * 0.07 / 0.01 is no whole number in doubles, so 0.07 counts as no multiple of 0.01.
 */
import type { Terminal } from './terminal.js';

const DIGITS = 15;
const FRACTION_DIGITS = 9;
const UNIT = 10n ** BigInt(FRACTION_DIGITS);
const LARGEST = 10n ** BigInt(DIGITS) * UNIT;

/** Which numbers are allowed. */
export interface NumberBounds {
  readonly integer: boolean;
  readonly least?: number;
  readonly most?: number;
  /** Whether the bound itself is excluded. */
  readonly aboveLeast?: boolean;
  readonly belowMost?: boolean;
  /** What the number must be a multiple of, each more than 0. */
  readonly multiplesOf?: readonly number[];
  /** Whether each number is written in one way alone, without zeros at the end of a fraction. */
  readonly plain?: boolean;
}

/** The caches are cleared when they have so many entries. */
const MANY_TEXTS = 10_000;
/** How many prefixes are tried to find a multiple; beyond it the prefix counts as one that cannot be completed. */
const MANY_TRIES = 500;
const PARTS = /^(-?)(0|[1-9]\d*)?(?:(\.)(\d*))?$/;
const SIGNS = '0123456789-.';

/** Numbers of JSON within bounds, written without an exponent. */
export class NumberRange implements Terminal {
  readonly start = '';
  private readonly integer: boolean;
  /** In units, both included. */
  private readonly low: bigint;
  private readonly high: bigint;
  private readonly factors: readonly number[];
  /** The least common multiple of the factors, in units: all numbers are multiples of it. */
  private readonly factor: bigint;
  /** How many digits behind the point make a multiple of all factors. */
  private readonly fraction: number;
  private readonly known = new Map<string, boolean>();
  private readonly completions = new Map<string, Uint8Array>();
  /** Beginnings that were looked at for the one that was asked for. */
  private tries = 0;

  constructor(private readonly bounds: NumberBounds) {
    const { integer, least, most, aboveLeast = false, belowMost = false, multiplesOf = [] } = bounds;
    this.integer = integer;
    this.factors = multiplesOf.filter((factor) => !(integer && factor === 1));
    const low = least === undefined ? -LARGEST : atLeast(least, aboveLeast);
    const high = most === undefined ? LARGEST : -atLeast(-most, belowMost);
    // Of a tiny factor a large number is no multiple in doubles, but Infinity times as much.
    const reach = Math.min(...this.factors.map((factor) => 0.9 * Number.MAX_VALUE * factor));
    const farthest = reach < 10 ** DIGITS ? -atLeast(-reach, false) : LARGEST;
    this.low = low > -farthest ? low : -farthest;
    this.high = high < farthest ? high : farthest;
    this.factor = this.factors.map(unitsOfFactor).reduce(leastCommonMultiple, 1n);
    // All decimals are multiples of what has more digits than they may have, and of others with as many digits.
    const digits = this.factors.map((factor) => fractionDigitsOf(factor));
    this.fraction = Math.min(FRACTION_DIGITS, ...digits);
  }

  /** The same numbers, each of them written in one way alone. */
  plain(): NumberRange {
    return new NumberRange({ ...this.bounds, plain: true });
  }

  /** Whether any number is within the bounds. */
  get possible(): boolean {
    return this.isBeginning('');
  }

  /** Whether a text is a number within the bounds. Zero has no sign. */
  isWhole(text: string): boolean {
    const [, sign, whole, dot, fraction = ''] = PARTS.exec(text) ?? [];
    if (!whole || (dot && (this.integer || fraction === ''))) return false;
    if (this.bounds.plain && fraction.endsWith('0')) return false;
    const value = unitsOf(whole, fraction);
    if (sign === '-' && value === 0n) return false;
    return this.holds(sign === '-' ? -value : value) && this.isMultiple(Number(text));
  }

  /** Whether a number is a multiple of all factors, as it is checked in doubles. */
  private isMultiple(value: number): boolean {
    return this.factors.every((factor) => Number.isInteger(value / factor));
  }

  step(state: string, byte: number): string | undefined {
    const sign = String.fromCharCode(byte);
    if (!SIGNS.includes(sign)) return undefined;
    const text = state + sign;
    return this.isBeginning(text) ? text : undefined;
  }

  accepts(state: string): boolean {
    return this.isWhole(state);
  }

  goesOn(state: string): boolean {
    return this.next(state).length > 0;
  }

  /** Whether a text can become one, or is one. */
  isBeginning(text: string): boolean {
    let answer = this.known.get(text);
    if (answer === undefined) {
      if (this.known.size > MANY_TEXTS) this.known.clear();
      const isFirst = this.tries === 0;
      this.tries++;
      answer =
        this.tries <= MANY_TRIES &&
        this.canBegin(text) &&
        (this.factors.length === 0 || this.canBecomeMultiple(text));
      // What was given up on the way says nothing of a beginning by itself.
      if (answer || isFirst || this.tries <= MANY_TRIES) this.known.set(text, answer);
      if (isFirst) this.tries = 0;
    }
    return answer;
  }

  /** The signs that may come next. */
  next(text: string): string[] {
    return [...SIGNS].filter((sign) => this.isBeginning(text + sign));
  }

  /** Something short that makes a beginning whole. */
  completion(text: string): Uint8Array {
    let known = this.completions.get(text);
    if (!known) {
      if (this.completions.size > MANY_TEXTS) this.completions.clear();
      known = this.complete(text);
      this.completions.set(text, known);
    }
    return known;
  }

  private complete(text: string): Uint8Array {
    let way = '';
    while (!this.isWhole(text + way)) {
      const signs = this.next(text + way);
      way += signs.find((sign) => this.isWhole(text + way + sign)) ?? signs[0]!;
    }
    return new TextEncoder().encode(way);
  }

  /** Whether a beginning has an end that is a multiple in doubles, too: nearly always the first that is tried. */
  private canBecomeMultiple(text: string): boolean {
    if (this.isWhole(text)) return true;
    if (text.includes('.') && text.length - text.indexOf('.') > this.fraction) return false;
    return [...SIGNS].some((sign) => this.isBeginning(text + sign));
  }

  private canBegin(text: string): boolean {
    const parts = PARTS.exec(text);
    if (!parts) return false;
    const [, sign, whole = '', dot, fraction = ''] = parts;
    if (whole === '') return dot === undefined && this.next(text).length > 0;
    const negative = sign === '-';
    if (dot !== undefined) {
      const digits = this.fractionDigits(whole.length);
      if (digits === 0 || fraction.length > digits) return false;
      const start = unitsOf(whole, fraction);
      // A fraction that ends with a zero has to go on.
      const from = this.bounds.plain && (fraction === '' || fraction.endsWith('0')) ? start + 1n : start;
      return this.meets(negative, from, start + 10n ** BigInt(FRACTION_DIGITS - fraction.length), digits);
    }
    // All that have these digits first.
    const more = whole === '0' ? 0 : DIGITS - whole.length;
    for (let digits = 0; digits <= more; digits++) {
      const length = 10n ** BigInt(digits) * UNIT;
      const from = BigInt(whole) * length;
      if (this.meets(negative, from, from + length, this.fractionDigits(whole.length + digits))) return true;
    }
    return false;
  }

  /** How many digits may stand behind the point where so many stand before it. */
  private fractionDigits(before: number): number {
    return this.integer ? 0 : Math.max(0, Math.min(FRACTION_DIGITS, DIGITS - before));
  }

  /** Whether a number of so many digits behind the point, of those from `from` to below `to`, is within the bounds. */
  private meets(negative: boolean, from: bigint, to: bigint, digits: number): boolean {
    const step = leastCommonMultiple(10n ** BigInt(FRACTION_DIGITS - digits), this.factor);
    const [low, high] = negative ? [-this.high, -this.low] : [this.low, this.high];
    const least = negative && from === 0n ? step : from;
    const first = least > low ? least : low;
    const last = to - 1n < high ? to - 1n : high;
    return roundedUp(first, step) <= last;
  }

  private holds(value: bigint): boolean {
    return value >= this.low && value <= this.high && value % this.factor === 0n;
  }
}

function unitsOf(whole: string, fraction: string): bigint {
  return BigInt(whole + fraction.padEnd(FRACTION_DIGITS, '0'));
}

/** The digits of a double, and how many of them stand behind the point: fewer than none where zeros follow. */
function decimalOf(value: number): { readonly digits: bigint; readonly fraction: number } {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(
    String(value),
  ) as unknown as [string, string, string, string | undefined, string | undefined];
  return { digits: BigInt(`${sign}${whole}${fraction}`), fraction: fraction.length - Number(exponent) };
}

/** The first number of units that is at least a bound, or above it. */
function atLeast(bound: number, above: boolean): bigint {
  const { digits, fraction } = decimalOf(bound);
  const shift = FRACTION_DIGITS - fraction;
  if (shift >= 0) return digits * 10n ** BigInt(shift) + (above ? 1n : 0n);
  const divisor = 10n ** BigInt(-shift);
  const isBetween = digits % divisor !== 0n;
  return roundedUp(digits, divisor) / divisor + (above && !isBetween ? 1n : 0n);
}

/** The least number of units above 0 that is a multiple of a number. */
function unitsOfFactor(factor: number): bigint {
  const { digits, fraction } = decimalOf(factor);
  const shift = FRACTION_DIGITS - fraction;
  if (shift >= 0) return digits * 10n ** BigInt(shift);
  return digits / greatestCommonDivisor(digits, 10n ** BigInt(-shift));
}

function fractionDigitsOf(factor: number): number {
  return Math.max(0, decimalOf(factor).fraction);
}

function greatestCommonDivisor(a: bigint, b: bigint): bigint {
  let [x, y] = [a, b];
  while (y !== 0n) [x, y] = [y, x % y];
  return x;
}

function leastCommonMultiple(a: bigint, b: bigint): bigint {
  return (a / greatestCommonDivisor(a, b)) * b;
}

/** The first multiple of a step that is not below. */
function roundedUp(value: bigint, step: bigint): bigint {
  const rest = value % step;
  if (rest === 0n) return value;
  return rest > 0n ? value - rest + step : value - rest;
}
