/** Readers of command-line values; a wrong one is told with what was expected. */
import { InvalidArgumentError } from 'commander';

/** Parses an option. Throws commander's `InvalidArgumentError` for what is no whole number from 0 on. */
export function wholeNumber(text: string): number {
  return wholeUpTo(Number.POSITIVE_INFINITY, text, 'expected a whole number, 0 or more.');
}

/** Parses a port to listen on. Throws commander's `InvalidArgumentError` for what is no whole number from 0 to 65535. */
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

/** Parses an option. Throws commander's `InvalidArgumentError` for what is no finite number. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('expected a number.');
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

/** Collects an option that may be given several times; it takes one value each time, so that it never takes a folder's name. */
export function each(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}
