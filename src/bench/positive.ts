/** A parser of command-line values. */
import { InvalidArgumentError } from 'commander';

/** Parses an integer of at least 1. Throws `InvalidArgumentError` for anything else. */
export function positive(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1)
    throw new InvalidArgumentError('expected a whole number, 1 or more.');
  return count;
}
