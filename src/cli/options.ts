/** Parsers of option values. */
import { InvalidArgumentError } from 'commander';

/** Parses a non-negative integer. Throws commander's `InvalidArgumentError`. */
export function wholeNumber(text: string): number {
  const expected = /^\d+$/.test(text.trim())
    ? 'expected a whole number from 0 to 9,007,199,254,740,991.'
    : 'expected a whole number, 0 or more.';
  return wholeUpTo(Number.MAX_SAFE_INTEGER, text, expected);
}

/** Parses a port, an integer from 0 to 65535. Throws commander's `InvalidArgumentError`. */
export function port(text: string): number {
  return wholeUpTo(65535, text, 'expected a whole number from 0 to 65535.');
}

function wholeUpTo(most: number, text: string, expected: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < 0 || value > most) {
    throw new InvalidArgumentError(expected);
  }
  return value;
}

/** Parses a finite number. Throws commander's `InvalidArgumentError`. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('expected a number.');
  return value;
}

/** Parses a number above 0. Throws commander's `InvalidArgumentError`. */
export function above0(text: string): number {
  const value = number(text);
  if (!(value > 0)) throw new InvalidArgumentError('expected a number above 0.');
  return value;
}

/** Parses a number of 0 or more. Throws commander's `InvalidArgumentError`. */
export function atLeast0(text: string): number {
  const value = number(text);
  if (!(value >= 0)) throw new InvalidArgumentError('expected a number, 0 or more.');
  return value;
}

/** Parses a share between 0 and 1. Throws commander's `InvalidArgumentError`. */
export function share(text: string): number {
  const value = number(text);
  if (!(value > 0 && value < 1))
    throw new InvalidArgumentError('expected a share between 0 and 1, as in 0.05.');
  return value;
}

/** Parses an option that must be one of these words. Throws commander's `InvalidArgumentError`. */
export function choice<T extends string>(allowed: readonly T[]): (text: string) => T {
  return (text) => {
    if (!allowed.includes(text as T))
      throw new InvalidArgumentError(`expected one of: ${allowed.join(', ')}.`);
    return text as T;
  };
}

/** Collects a repeatable option, with one value each time, so that it never consumes an argument. */
export function each(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}
