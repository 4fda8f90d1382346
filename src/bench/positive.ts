/** A reader of command-line values. */
import { InvalidArgumentError } from 'commander';

/** A whole number, 1 or more. Throws `InvalidArgumentError` for anything else. */
export function positive(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1)
    throw new InvalidArgumentError('expected a whole number, 1 or more.');
  return count;
}
