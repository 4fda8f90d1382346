/** Python's operators on numbers, texts and lists. */
import { checkLength, spend, spendInteger } from './budget.js';
import { characters, joined, repeated, substring } from './characters.js';
import { failed } from './errors.js';
import { percentFormat } from './percent-format.js';
import {
  integerOf,
  isList,
  lengthOf,
  Range,
  Tuple,
  textOf,
  typeOf,
  Undefined,
  type Value,
} from './values.js';

/** The most digits of an int: Python prints no longer ones, and a single operation on longer ones could take seconds. */
const LARGEST = 10n ** 4300n;

/** Throws for an int of more than 4,300 digits. */
export function bounded(value: bigint): bigint {
  spendInteger(value);
  if (value >= LARGEST || value <= -LARGEST) throw failed('an integer of more than 4300 digits');
  return value;
}

/** An int as a float. Throws if it is too large. */
export function floatOf(value: bigint | number): number {
  const float = Number(value);
  if (typeof value === 'bigint' && !Number.isFinite(float)) throw failed('int too large to convert to float');
  return float;
}

/** Jinja's binary operators; `//` rounds down, and `%` has the sign of the divisor, as in Python. */
export type BinaryOperator = '+' | '-' | '*' | '/' | '//' | '%' | '**';

interface Rule {
  /** On two ints. */
  readonly ints: (a: bigint, b: bigint) => bigint | number;
  readonly floats: (a: number, b: number) => number;
  /** On other types; undefined for unsupported types. */
  readonly others?: (a: Value, b: Value) => Value | undefined;
}

const RULES: Readonly<Record<BinaryOperator, Rule>> = {
  '+': { ints: (a, b) => a + b, floats: (a, b) => a + b, others: concatenated },
  '-': { ints: (a, b) => a - b, floats: (a, b) => a - b },
  '*': { ints: (a, b) => a * b, floats: (a, b) => a * b, others: (a, b) => times(a, b) ?? times(b, a) },
  '/': {
    ints: (a, b) => floatOf(a) / floatOf(notZero(b, 'division by zero')),
    floats: (a, b) => a / notZero(b, 'float division by zero'),
  },
  '//': {
    ints: (a, b) => {
      const quotient = a / notZero(b, 'integer division or modulo by zero');
      return quotient * b !== a && a < 0n !== b < 0n ? quotient - 1n : quotient;
    },
    floats: (a, b) => {
      const rest = floatModulo(a, notZero(b, 'float floor division by zero'));
      return Math.round((a - rest) / b);
    },
  },
  '%': {
    ints: (a, b) => {
      const rest = a % notZero(b, 'integer modulo by zero');
      return rest !== 0n && rest < 0n !== b < 0n ? rest + b : rest;
    },
    floats: (a, b) => floatModulo(a, notZero(b, 'float modulo')),
  },
  '**': { ints: integerPower, floats: floatPower },
};

/** Throws Python's error for unsupported operand types. */
export function binary(operator: BinaryOperator, a: Value, b: Value): Value {
  // A text on the left of % is a format for the right operand.
  if (operator === '%' && typeof a === 'string') return percentFormat(a, b);
  const { ints, floats, others } = RULES[operator];
  const [left, right] = [integerOf(a), integerOf(b)];
  if (left !== undefined && right !== undefined) {
    spendInteger(left);
    const result = ints(left, right);
    return typeof result === 'bigint' ? bounded(result) : result;
  }
  const [x, y] = [left ?? a, right ?? b];
  if (isNumber(x) && isNumber(y)) return floats(floatOf(x), floatOf(y));
  for (const value of [a, b]) if (value instanceof Undefined) throw failed(value.reason);
  const result = others?.(a, b);
  if (result !== undefined) return result;
  if (operator === '+' && typeof a === 'string') {
    throw failed(`can only concatenate str (not "${typeOf(b)}") to str`);
  }
  throw failed(`unsupported operand type(s) for ${operator}: '${typeOf(a)}' and '${typeOf(b)}'`);
}

const isNumber = (value: Value): value is bigint | number =>
  typeof value === 'bigint' || typeof value === 'number';

function notZero<T extends bigint | number>(value: T, message: string): T {
  if (!value) throw failed(message);
  return value;
}

function floatModulo(a: number, b: number): number {
  if (!Number.isFinite(b) && Number.isFinite(a)) return a === 0 || a < 0 === b < 0 ? a : b;
  const rest = a % b;
  if (rest === 0) return b < 0 ? -0 : 0;
  return rest < 0 === b < 0 ? rest : rest + b;
}

function integerPower(base: bigint, exponent: bigint): bigint | number {
  if (exponent < 0n) {
    return floatOf(notZero(base, '0.0 cannot be raised to a negative power')) ** floatOf(exponent);
  }
  const digits = BigInt(String(base).length - 1);
  if (base * base > 1n && (exponent > 15_000n || digits * exponent > 4300n)) return bounded(LARGEST);
  return base ** exponent;
}

function floatPower(base: number, exponent: number): number {
  if (base === 0 && exponent < 0) throw failed('0.0 cannot be raised to a negative power');
  if (base < 0 && !Number.isInteger(exponent) && Number.isFinite(base * exponent)) {
    throw failed('complex numbers are not supported');
  }
  if (base === 1 || (base === -1 && !Number.isFinite(exponent))) return 1;
  const power = base ** exponent;
  if (!Number.isFinite(power) && Number.isFinite(base) && Number.isFinite(exponent)) {
    throw failed("(34, 'Numerical result out of range')");
  }
  return power;
}

function concatenated(a: Value, b: Value): Value | undefined {
  if (typeof a === 'string' && typeof b === 'string') {
    checkLength(a.length + b.length);
    return a + b;
  }
  if (isList(a) && isList(b)) {
    spend(a.length + b.length);
    return [...a, ...b];
  }
  if (!(a instanceof Tuple && b instanceof Tuple)) return undefined;
  spend(a.items.length + b.items.length);
  return new Tuple([...a.items, ...b.items]);
}

function times(value: Value, count: Value): Value | undefined {
  const number = integerOf(count);
  if (number === undefined) return undefined;
  const often = Number(number > 0n ? number : 0n);
  if (typeof value === 'string') return repeated(value, often);
  if (value instanceof Tuple) return new Tuple(repeatedItems(value.items, often));
  return isList(value) ? repeatedItems(value, often) : undefined;
}

function repeatedItems(items: readonly Value[], often: number): Value[] {
  spend(items.length * often);
  const all: Value[] = [];
  for (let i = 0; items.length > 0 && i < often; i++) for (const item of items) all.push(item);
  return all;
}

/** `-value` as Python computes it; booleans count as integers. Throws `TemplateError` for a value that is not a number. */
export function negative(value: Value): Value {
  const integer = integerOf(value);
  if (integer !== undefined) return -integer;
  if (typeof value === 'number') return -value;
  throw value instanceof Undefined
    ? failed(value.reason)
    : failed(`bad operand type for unary -: '${typeOf(value)}'`);
}

/** `+value` as Python computes it; booleans become integers. Throws `TemplateError` for a value that is not a number. */
export function positive(value: Value): Value {
  const integer = integerOf(value);
  if (integer !== undefined || typeof value === 'number') return integer ?? value;
  throw value instanceof Undefined
    ? failed(value.reason)
    : failed(`bad operand type for unary +: '${typeOf(value)}'`);
}

/** The operator `~`: concatenation as texts. */
export function concatenation(values: readonly Value[]): string {
  let all = '';
  for (const value of values) {
    const text = textOf(value);
    checkLength(all.length + text.length);
    all += text;
  }
  return all;
}

/** The elements of a slice. Throws for a value that cannot be indexed. */
export function sliced(value: Value, start: Value, stop: Value, step: Value): Value {
  if (value instanceof Undefined) throw failed(value.reason);
  if (!(typeof value === 'string' || isList(value) || value instanceof Tuple || value instanceof Range)) {
    throw failed(`'${typeOf(value)}' object is not subscriptable`);
  }
  const stride = step === null ? 1n : sliceIndex(step);
  if (stride === 0n) throw failed('slice step cannot be zero');
  const length = lengthOf(value);
  const [low, high] = stride > 0n ? [0n, BigInt(length)] : [-1n, BigInt(length) - 1n];
  const place = (given: Value, absent: bigint): bigint => {
    if (given === null) return absent;
    const index = sliceIndex(given);
    const at = index < 0n ? index + BigInt(length) : index;
    return at < low ? low : at > high ? high : at;
  };
  const from = place(start, stride > 0n ? low : high);
  const to = place(stop, stride > 0n ? high : low);
  if (value instanceof Range) {
    return new Range(value.at(Number(from)), value.at(Number(to)), value.step * stride);
  }
  const by = Number(stride);
  const picked = <T>(items: ArrayLike<T>): T[] => {
    const result: T[] = [];
    for (let i = Number(from); by > 0 ? i < Number(to) : i > Number(to); i += by) result.push(items[i]!);
    spend(result.length);
    return result;
  };
  if (isList(value)) return picked(value);
  if (value instanceof Tuple) return new Tuple(picked(value.items));
  if (by === 1) return substring(value, Number(from), Math.max(Number(from), Number(to)));
  return joined(picked(characters(value)));
}

function sliceIndex(value: Value): bigint {
  const index = integerOf(value);
  if (index === undefined) throw failed('slice indices must be integers or None or have an __index__ method');
  return index;
}
