/**
 * Numbers of JSON within bounds, digit by digit: of what was written so far it is known whether it is a number within them, and
 * whether it can become one. Exponents are not written, nor more digits than a double tells apart.
 *
 * All is counted in units of the last digit there may be, in whole numbers, so that nothing is rounded: a decimal of 15 digits is
 * above or below a double exactly as the double that it is read as.
 */

const DIGITS = 15;
const FRACTION_DIGITS = 9;
const UNIT = 10n ** BigInt(FRACTION_DIGITS);
const LARGEST = 10n ** BigInt(DIGITS) * UNIT;

export interface NumberBounds {
  readonly integer: boolean;
  readonly least?: number;
  readonly most?: number;
  /** Whether the bound itself is excluded. */
  readonly aboveLeast?: boolean;
  readonly belowMost?: boolean;
}

const PARTS = /^(-?)(0|[1-9]\d*)?(?:(\.)(\d*))?$/;
const SIGNS = '0123456789-.';

export class NumberRange {
  private readonly integer: boolean;
  /** In units, both included. */
  private readonly low: bigint;
  private readonly high: bigint;
  private readonly known = new Map<string, boolean>();

  constructor({ integer, least, most, aboveLeast = false, belowMost = false }: NumberBounds) {
    this.integer = integer;
    this.low = least === undefined ? -LARGEST : atLeast(least, aboveLeast);
    this.high = most === undefined ? LARGEST : -atLeast(-most, belowMost);
  }

  /** Whether any number is within the bounds. */
  get possible(): boolean {
    return this.isBeginning('');
  }

  /** Whether a text is a number within the bounds. Zero has no sign. */
  isWhole(text: string): boolean {
    const [, sign, whole, dot, fraction = ''] = PARTS.exec(text) ?? [];
    if (!whole || (dot && (this.integer || fraction === ''))) return false;
    const value = unitsOf(whole, fraction);
    if (sign === '-') return value > 0n && this.holds(-value);
    return this.holds(value);
  }

  /** Whether a text can become one, or is one. */
  isBeginning(text: string): boolean {
    let answer = this.known.get(text);
    if (answer === undefined) {
      answer = this.canBegin(text);
      this.known.set(text, answer);
    }
    return answer;
  }

  /** The signs that may come next. */
  next(text: string): string[] {
    return [...SIGNS].filter((sign) => this.isBeginning(text + sign));
  }

  /** Something short that makes a beginning whole. */
  completion(text: string): string {
    let way = '';
    while (!this.isWhole(text + way)) {
      const signs = this.next(text + way);
      way += signs.find((sign) => this.isWhole(text + way + sign)) ?? signs[0]!;
    }
    return way;
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
      const from = unitsOf(whole, fraction);
      return this.meets(negative, from, from + 10n ** BigInt(FRACTION_DIGITS - fraction.length), digits);
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
    const step = 10n ** BigInt(FRACTION_DIGITS - digits);
    const [low, high] = negative ? [-this.high, -this.low] : [this.low, this.high];
    const least = negative && from === 0n ? step : from;
    const first = least > low ? least : low;
    const last = to - step < high ? to - step : high;
    return roundedUp(first, step) <= last;
  }

  private holds(value: bigint): boolean {
    return value >= this.low && value <= this.high;
  }
}

function unitsOf(whole: string, fraction: string): bigint {
  return BigInt(whole + fraction.padEnd(FRACTION_DIGITS, '0'));
}

/** The first number of units that is at least a bound, or above it. */
function atLeast(bound: number, above: boolean): bigint {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(
    String(bound),
  ) as unknown as [string, string, string, string | undefined, string | undefined];
  const digits = BigInt(`${sign}${whole}${fraction}`);
  const shift = Number(exponent) - fraction.length + FRACTION_DIGITS;
  if (shift >= 0) return digits * 10n ** BigInt(shift) + (above ? 1n : 0n);
  const divisor = 10n ** BigInt(-shift);
  const isBetween = digits % divisor !== 0n;
  return roundedUp(digits, divisor) / divisor + (above && !isBetween ? 1n : 0n);
}

/** The first multiple of a step that is not below. */
function roundedUp(value: bigint, step: bigint): bigint {
  const rest = value % step;
  if (rest === 0n) return value;
  return rest > 0n ? value - rest + step : value - rest;
}
