/** Numbers as Python's formats write them: rounded from their exact values, halves to the even digit. */
import { spend, spendText } from './budget.js';
import { failed } from './errors.js';
import { exponentText, floatText } from './literals.js';

/** The most nonzero decimals of a float. */
const MOST_DECIMALS = 1100;

/** A float as an exact fraction. */
function fraction(value: number): { numerator: bigint; denominator: bigint } {
  let denominator = 1n;
  let scaled = value;
  // Multiplying by a power of 2 is exact, unless the number is one of the smallest, which the first factor lifts.
  while (!Number.isInteger(scaled)) {
    scaled *= 2 ** 32;
    denominator <<= 32n;
  }
  return { numerator: BigInt(scaled), denominator };
}

/** |value| times 10^power, rounded to an integer. */
function scaledInteger(value: number, power: number): bigint {
  // Numbers far from 1, and many digits, need long divisions.
  spend(10 + Math.abs(power) / 4 + Math.abs(Math.log2(Math.abs(value) || 1)) / 16);
  const { numerator, denominator } = fraction(Math.abs(value));
  const [over, under] =
    power >= 0
      ? [numerator * 10n ** BigInt(power), denominator]
      : [numerator, denominator * 10n ** BigInt(-power)];
  const quotient = over / under;
  const twice = (over % under) * 2n;
  const isUp = twice > under || (twice === under && quotient % 2n === 1n);
  return isUp ? quotient + 1n : quotient;
}

/** Formats with `decimals` decimals, without a sign. */
export function fixedText(value: number, decimals: number): string {
  spendText(decimals);
  const known = Math.min(decimals, MOST_DECIMALS);
  const digits = String(scaledInteger(value, known)).padStart(known + 1, '0');
  const point = digits.length - known;
  const rest = digits.slice(point).padEnd(decimals, '0');
  return decimals === 0 ? digits : `${digits.slice(0, point)}.${rest}`;
}

/** With so many significant digits: these, and the power of ten of the first. */
function significant(value: number, count: number): { digits: string; power: number } {
  if (value === 0) return { digits: '0'.repeat(count), power: 0 };
  const known = Math.min(count, MOST_DECIMALS);
  let power = Number(value.toExponential().split('e')[1]);
  let digits = String(scaledInteger(value, known - 1 - power));
  if (digits.length > known) {
    power++;
    digits = digits.slice(0, -1);
  }
  return { digits: digits.padEnd(count, '0'), power };
}

const withPoint = (digits: string): string =>
  digits.length > 1 ? `${digits[0]}.${digits.slice(1)}` : digits;
const withoutZeros = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);

/** Python's presentation types of floats. */
export type FloatStyle = 'e' | 'f' | 'g' | '%';

/** The format of a float, without sign and width. */
export interface FloatFormat {
  readonly style: FloatStyle;
  readonly precision: number;
  /** `#`: keeps the point, and for `g` the zeros at the end. */
  readonly alternate: boolean;
}

/** A float without its sign. */
export function unsignedFloat(value: number, { style, precision, alternate }: FloatFormat): string {
  if (!Number.isFinite(value)) return `${floatText(Math.abs(value))}${style === '%' ? '%' : ''}`;
  spendText(precision);
  const pointed = (text: string): string => (alternate && !text.includes('.') ? `${text}.` : text);
  if (style === 'f') return pointed(fixedText(value, precision));
  if (style === '%') return `${pointed(fixedText(value * 100, precision))}%`;
  if (style === 'e') {
    const { digits, power } = significant(value, precision + 1);
    return `${pointed(withPoint(digits))}e${exponentText(power)}`;
  }
  const count = precision || 1;
  const { digits, power } = significant(value, count);
  const cut = (text: string): string => (alternate ? pointed(text) : withoutZeros(text));
  if (power < -4 || power >= count) return `${cut(withPoint(digits))}e${exponentText(power)}`;
  if (power < 0) return cut(`0.${'0'.repeat(-power - 1)}${digits}`);
  const whole = digits.slice(0, power + 1);
  return cut(count > power + 1 ? `${whole}.${digits.slice(power + 1)}` : whole);
}

const BASES = new Map([
  ['b', 2],
  ['o', 8],
  ['x', 16],
]);

/** An int without its sign, in the base that a format's letter names; `#` puts that in front. */
export function unsignedInteger(value: bigint, letter: string, alternate: boolean): string {
  const base = BASES.get(letter.toLowerCase()) ?? 10;
  const digits = (value < 0n ? -value : value).toString(base);
  return alternate && base !== 10 ? `0${letter.toLowerCase()}${digits}` : digits;
}

/** As Python's `round` does it: an int stays one; halves go to the even digit. */
export function rounded(value: bigint | number, decimals: number): bigint | number {
  if (typeof value === 'bigint') {
    if (decimals >= 0) return value;
    const unit = 10n ** BigInt(Math.min(-decimals, 4301));
    const half = unit / 2n;
    const down = value - (((value % unit) + unit) % unit);
    const rest = value - down;
    const isUp = rest > half || (rest === half && (down / unit) % 2n !== 0n);
    return isUp ? down + unit : down;
  }
  if (!Number.isFinite(value) || decimals > 330) return value;
  if (decimals < -330) return value * 0;
  const digits = scaledInteger(value, decimals);
  const result = Number(`${digits}e${-decimals}`);
  if (!Number.isFinite(result)) throw failed('rounded value too large to represent');
  return value < 0 || Object.is(value, -0) ? -result : result;
}
