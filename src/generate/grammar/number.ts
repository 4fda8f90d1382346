/**
 * JSON numbers within bounds, digit by digit: for every prefix it is known whether it is a number within the bounds, and whether it can
 * become one. Numbers have no exponent, and no more digits than a double distinguishes.
 *
 * All values are integers in units of the last possible digit, so that nothing is rounded: a decimal of 15 digits compares to a double as
 * the double that it parses to. Only multiples are subject to rounding, since validators check them in doubles: 0.07 / 0.01 is not an
 * integer there, so 0.07 does not count as a multiple of 0.01.
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
  /** Factors of which the number must be a multiple; each is positive. */
  readonly multiplesOf?: readonly number[];
  /** Whether each number has only one spelling, without trailing zeros in a fraction. */
  readonly plain?: boolean;
}

/** The caches are cleared when they have this many entries. */
const MANY_TEXTS = 10_000;
/** The most prefixes that are tried to find a multiple, after which a prefix is considered impossible to complete. */
const MANY_TRIES = 500;
const PARTS = /^(-?)(0|[1-9]\d*)?(?:(\.)(\d*))?$/;
const SIGNS = '0123456789-.';

/** JSON numbers within bounds, without an exponent. */
export class NumberRange implements Terminal {
  readonly start = '';
  private readonly integer: boolean;
  /** Inclusive bounds, in units. */
  private readonly low: bigint;
  private readonly high: bigint;
  private readonly factors: readonly number[];
  /** The least common multiple of the factors, in units. */
  private readonly factor: bigint;
  /** The number of fraction digits of multiples of all factors. */
  private readonly fraction: number;
  private readonly known = new Map<string, boolean>();
  private readonly completions = new Map<string, Uint8Array>();
  /** Prefixes that were examined for the present query. */
  private tries = 0;

  constructor(private readonly bounds: NumberBounds) {
    const { integer, least, most, aboveLeast = false, belowMost = false, multiplesOf = [] } = bounds;
    this.integer = integer;
    this.factors = multiplesOf.filter((factor) => !(integer && factor === 1));
    const low = least === undefined ? -LARGEST : atLeast(least, aboveLeast);
    const high = most === undefined ? LARGEST : -atLeast(-most, belowMost);
    // Dividing a large number by a tiny factor overflows to Infinity in doubles.
    const reach = Math.min(...this.factors.map((factor) => 0.9 * Number.MAX_VALUE * factor));
    const farthest = reach < 10 ** DIGITS ? -atLeast(-reach, false) : LARGEST;
    this.low = low > -farthest ? low : -farthest;
    this.high = high < farthest ? high : farthest;
    this.factor = this.factors.map(unitsOfFactor).reduce(leastCommonMultiple, 1n);
    // A factor with more digits than the numbers may have divides all of them; the others have at most as many digits.
    const digits = this.factors.map((factor) => fractionDigitsOf(factor));
    this.fraction = Math.min(FRACTION_DIGITS, ...digits);
  }

  /** The same numbers with one spelling each. */
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

  /** Whether a number is a multiple of all factors, in doubles. */
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

  /** Whether a text is a prefix of a number within the bounds. */
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
      // A result after giving up does not hold for a prefix by itself, so it is not cached.
      if (answer || isFirst || this.tries <= MANY_TRIES) this.known.set(text, answer);
      if (isFirst) this.tries = 0;
    }
    return answer;
  }

  /** The characters that may come next. */
  next(text: string): string[] {
    return [...SIGNS].filter((sign) => this.isBeginning(text + sign));
  }

  /** A short completion of a prefix. */
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

  /** Whether a prefix has a completion that is a multiple in doubles, too: nearly always the first one tried. */
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
      // A fraction that ends with a zero must continue.
      const from = this.bounds.plain && (fraction === '' || fraction.endsWith('0')) ? start + 1n : start;
      return this.meets(negative, from, start + 10n ** BigInt(FRACTION_DIGITS - fraction.length), digits);
    }
    // All numbers with these leading digits.
    const more = whole === '0' ? 0 : DIGITS - whole.length;
    for (let digits = 0; digits <= more; digits++) {
      const length = 10n ** BigInt(digits) * UNIT;
      const from = BigInt(whole) * length;
      if (this.meets(negative, from, from + length, this.fractionDigits(whole.length + digits))) return true;
    }
    return false;
  }

  /** The most fraction digits of a number with this many integer digits. */
  private fractionDigits(before: number): number {
    return this.integer ? 0 : Math.max(0, Math.min(FRACTION_DIGITS, DIGITS - before));
  }

  /** Whether any number in [`from`, `to`), with this many fraction digits, is within the bounds. */
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

/** The digits of a double, and how many of them are fraction digits (negative if zeros follow). */
function decimalOf(value: number): { readonly digits: bigint; readonly fraction: number } {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(
    String(value),
  ) as unknown as [string, string, string, string | undefined, string | undefined];
  return { digits: BigInt(`${sign}${whole}${fraction}`), fraction: fraction.length - Number(exponent) };
}

/** A lower bound, rounded up to units. */
function atLeast(bound: number, above: boolean): bigint {
  const { digits, fraction } = decimalOf(bound);
  const shift = FRACTION_DIGITS - fraction;
  if (shift >= 0) return digits * 10n ** BigInt(shift) + (above ? 1n : 0n);
  const divisor = 10n ** BigInt(-shift);
  const isBetween = digits % divisor !== 0n;
  return roundedUp(digits, divisor) / divisor + (above && !isBetween ? 1n : 0n);
}

/** The least positive number of units that is a multiple of a factor. */
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
