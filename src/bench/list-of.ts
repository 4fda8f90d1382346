/** Parses options that are lists. */
import { InvalidArgumentError } from 'commander';

/** A parser of a comma-separated list of known words. */
export function listOf<T extends string>(known: readonly T[]): (text: string) => T[] {
  return (text) =>
    text.split(',').map((name) => {
      const found = known.find((word) => word === name);
      if (!found) throw new InvalidArgumentError(`expected some of ${known.join(',')}.`);
      return found;
    });
}
