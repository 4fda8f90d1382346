/** Jinja's tests, for `value is name`. */
import { binary } from './arithmetic.js';
import { contains, isEqual, order } from './compare.js';
import { byName, type Native, native } from './native.js';
import { isLower, isUpper } from './text-methods.js';
import {
  Dict,
  integerOf,
  isList,
  PythonObject,
  Range,
  Tuple,
  textOf,
  Undefined,
  type Value,
} from './values.js';

const test = (name: string, holds: (value: Value) => boolean): Native =>
  native(name, 'value', holds as (value: never) => boolean);

const comparison = (names: readonly string[], holds: (value: Value, other: Value) => boolean): Native[] =>
  names.map((name) => native(name, 'value, other', holds as (...values: never[]) => boolean));

const isNumber = (value: Value): boolean => integerOf(value) !== undefined || typeof value === 'number';

const remainderIs = (value: Value, divisor: Value, rest: bigint): boolean =>
  isEqual(binary('%', value, divisor), rest);

/** All tests by name; two of them check whether a filter or a test of a name exists. */
export function makeTests(filters: ReadonlyMap<string, Native>): ReadonlyMap<string, Native> {
  const tests: ReadonlyMap<string, Native> = byName([
    test('defined', (value) => !(value instanceof Undefined)),
    test('undefined', (value) => value instanceof Undefined),
    test('none', (value) => value === null),
    test('boolean', (value) => typeof value === 'boolean'),
    test('true', (value) => value === true),
    test('false', (value) => value === false),
    test('integer', (value) => typeof value === 'bigint'),
    test('float', (value) => typeof value === 'number'),
    test('number', isNumber),
    test('string', (value) => typeof value === 'string'),
    test('mapping', (value) => value instanceof Dict),
    test('sequence', (value) => {
      return (
        typeof value === 'string' ||
        isList(value) ||
        [Dict, Tuple, Range, Undefined].some((kind) => value instanceof kind)
      );
    }),
    test('iterable', (value) => {
      return (
        typeof value === 'string' ||
        isList(value) ||
        (value instanceof PythonObject && value.iterate() !== undefined)
      );
    }),
    test('callable', (value) => {
      return value instanceof Undefined || (value instanceof PythonObject && value.call !== undefined);
    }),
    test('escaped', () => false),
    test('lower', (value) => isLower(textOf(value))),
    test('upper', (value) => isUpper(textOf(value))),
    test('odd', (value) => remainderIs(value, 2n, 1n)),
    test('even', (value) => remainderIs(value, 2n, 0n)),
    ...comparison(['divisibleby'], (value, divisor) => remainderIs(value, divisor, 0n)),
    ...comparison(['sameas'], (value, other) => value === other),
    ...comparison(['in'], (value, container) => contains(container, value)),
    ...comparison(['==', 'eq', 'equalto'], isEqual),
    ...comparison(['!=', 'ne'], (value, other) => !isEqual(value, other)),
    ...comparison(['<', 'lt', 'lessthan'], (value, other) => order(value, other, '<') < 0),
    ...comparison(['<=', 'le'], (value, other) => order(value, other, '<=') <= 0),
    ...comparison(['>', 'gt', 'greaterthan'], (value, other) => order(value, other, '>') > 0),
    ...comparison(['>=', 'ge'], (value, other) => order(value, other, '>=') >= 0),
    test('filter', (value) => typeof value === 'string' && filters.has(value)),
    test('test', (value) => typeof value === 'string' && tests.has(value)),
  ]);
  return tests;
}
