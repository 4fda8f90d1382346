/** Equality and order, as Python has them: numbers of all kinds compare by value, and a text never equals a number. */
import { nested, spend, spendText } from './budget.js';
import { compareTexts, indexOfText } from './characters.js';
import { failed } from './errors.js';
import { Dict, elements, isList, Range, Tuple, typeOf, Undefined, type Value } from './values.js';

/** The value of a number or a bool; undefined for other types. */
function numeric(value: Value): bigint | number | undefined {
  if (typeof value === 'boolean') return BigInt(value);
  return typeof value === 'bigint' || typeof value === 'number' ? value : undefined;
}

/** Python's `==`: integers, floats and booleans are compared by value, lists and dictionaries by their elements. */
export function isEqual(a: Value, b: Value): boolean {
  spend();
  const [left, right] = [numeric(a), numeric(b)];
  // biome-ignore lint/suspicious/noDoubleEquals: an int and a float are compared by their exact values.
  if (left !== undefined && right !== undefined) return left == right;
  if (typeof a === 'string' && typeof b === 'string') {
    if (a.length !== b.length) return false;
    spendText(a.length);
    return a === b;
  }
  if (a === b) return true;
  if (a instanceof Undefined) return b instanceof Undefined;
  const [one, other] = [sequence(a), sequence(b)];
  if (one && other && typeOf(a) === typeOf(b)) {
    return one.length === other.length && nested(() => one.every((item, i) => isEqual(item, other[i]!)));
  }
  if (!(a instanceof Dict && b instanceof Dict) || a.size() !== b.size()) return false;
  return nested(() =>
    Array.from(a.entries()).every(([key, value]) => {
      const there = b.get(key);
      return there !== undefined && isEqual(value, there);
    }),
  );
}

function sequence(value: Value): readonly Value[] | undefined {
  if (isList(value)) return value;
  if (value instanceof Tuple) return value.items;
  return value instanceof Range ? Array.from(elements(value)) : undefined;
}

/** Below 0, 0 or above 0, or NaN if they are unordered. Throws for values without an order. */
export function order(a: Value, b: Value, operator = '<'): number {
  spend();
  const [left, right] = [numeric(a), numeric(b)];
  if (left !== undefined && right !== undefined) {
    // biome-ignore lint/suspicious/noDoubleEquals: an int and a float are compared by their exact values.
    return left < right ? -1 : left > right ? 1 : left == right ? 0 : Number.NaN;
  }
  if (typeof a === 'string' && typeof b === 'string') return compareTexts(a, b);
  for (const value of [a, b]) if (value instanceof Undefined) throw failed(value.reason);
  const [one, other] = [sequence(a), sequence(b)];
  if (!(one && other) || typeOf(a) !== typeOf(b) || a instanceof Range) {
    throw failed(`'${operator}' not supported between instances of '${typeOf(a)}' and '${typeOf(b)}'`);
  }
  return nested(() => {
    for (let i = 0; i < one.length && i < other.length; i++) {
      if (!isEqual(one[i]!, other[i]!)) return order(one[i]!, other[i]!, operator);
    }
    return one.length - other.length;
  });
}

/** Python's `value in container`: a substring, an element, or a key of a dict. */
export function contains(container: Value, value: Value): boolean {
  if (typeof container === 'string') {
    if (typeof value === 'string') return indexOfText(container, value) >= 0;
    throw failed(`'in <string>' requires string as left operand, not ${typeOf(value)}`);
  }
  if (container instanceof Dict) return container.has(value);
  for (const item of iterated(container)) if (item === value || isEqual(item, value)) return true;
  return false;
}

function iterated(container: Value): Iterable<Value> {
  if (isList(container) || (typeof container === 'object' && container?.iterate)) return elements(container);
  throw failed(`argument of type '${typeOf(container)}' is not iterable`);
}

/** A stable sort in ascending order, stable also in reverse. */
export function sorted<T>(items: readonly T[], key: (item: T) => Value, reverse: boolean): T[] {
  const keyed = items.map((item) => ({ item, key: key(item) }));
  keyed.sort((a, b) => (reverse ? order(b.key, a.key) : order(a.key, b.key)) || 0);
  return keyed.map(({ item }) => item);
}
