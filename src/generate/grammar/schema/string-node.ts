/** What strings have to be. */
import { stringOf } from '../json.js';
import type { Node } from '../node.js';
import type { Terminal } from '../terminal.js';
import { keyword, limitOf, type Place, type Schema } from './document.js';
import { patternsOfFormat } from './formats.js';
import type { Strings } from './strings.js';

/** The strings, in quotes, that all of these schemas allow and that are not among `words`. */
export function stringNode(
  places: readonly Place[],
  words: readonly string[],
  path: string,
  strings: Strings,
): Node {
  return stringOf(stringTerminal(places, { words, path, strings }));
}

/** What bounds strings besides the keywords of their schemas. */
export interface MoreOfStrings {
  /** Strings that it must not be. */
  readonly words: readonly string[];
  readonly path: string;
  readonly strings: Strings;
  /** Patterns that must match too, or must not. */
  readonly patterns?: readonly string[];
  readonly refused?: readonly string[];
}

/** Strings that satisfy all schemas. Formats that are not known are remarks. Throws `Unfollowable` and `Impossible`. */
export function stringTerminal(
  places: readonly Place[],
  { words, path, strings, patterns: more = [], refused: out = [] }: MoreOfStrings,
): Terminal {
  let [least, most] = [0, Number.POSITIVE_INFINITY];
  const patterns = new Set(more);
  const refused = new Set(out);
  const formats: (readonly string[])[] = [];
  for (const place of places) {
    const { schema } = place;
    least = Math.max(least, limitOf(place, 'minLength') ?? 0);
    most = Math.min(most, limitOf(place, 'maxLength') ?? Number.POSITIVE_INFINITY);
    const pattern = keyword(schema, 'pattern');
    if (pattern !== undefined) patterns.add(strings.checked(pattern, `${place.path}/pattern`, false));
    const not = keyword(keyword(schema, 'not') as Schema, 'pattern');
    if (not !== undefined) refused.add(strings.checked(not, `${place.path}/not/pattern`, true));
    const format = keyword(schema, 'format');
    const ways = typeof format === 'string' ? patternsOfFormat(format) : undefined;
    if (ways && !formats.includes(ways)) formats.push(ways);
  }
  const bounds = { least, most, patterns: [...patterns], refused: [...refused], words, formats };
  return strings.terminal(bounds, path);
}

/** The strings among values. */
export function stringWords(values: readonly unknown[]): string[] {
  return values.filter((value) => typeof value === 'string');
}
