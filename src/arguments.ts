/** Checks of arguments, since callers in JavaScript may give values of other types than the declarations say. */
import { DataError } from './errors.js';

/** Throws `DataError` for anything but a text; `subject` begins the message, such as `the path is`. */
export function expectText(value: unknown, subject: string): asserts value is string {
  if (typeof value !== 'string') refuse(value, subject, 'a text');
}

/** Throws `DataError` for anything but an array or a typed array. */
export function expectList(value: unknown, subject: string, entries: string): void {
  if (!Array.isArray(value) && !ArrayBuffer.isView(value)) refuse(value, subject, `a list of ${entries}`);
}

/** Throws `DataError` for anything but a list or another iterable object. */
export function expectIterable(value: unknown, subject: string, entries: string): void {
  const isIterable = typeof value === 'object' && value !== null && Symbol.iterator in value;
  if (!isIterable) refuse(value, subject, `a list of ${entries}`);
}

/** Throws `DataError` for anything but an object; an array is refused, too. */
export function expectObject(value: unknown, subject: string, expected: string): asserts value is object {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(value, subject, expected);
}

/** Throws `DataError` for options that are no object. */
export function expectOptions(value: unknown): asserts value is object {
  expectObject(value, 'the options are', 'an object, or nothing');
}

/** The most characters of a text that are repeated. */
const LONGEST = 60;

function refuse(value: unknown, subject: string, expected: string): never {
  throw new DataError(`${subject} ${shown(value)}: expected ${expected}`);
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length <= LONGEST ? value : `${value.slice(0, LONGEST)}...`);
}
