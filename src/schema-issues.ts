/** Words for what a zod schema finds wrong, in place of zod's own: what was expected, and what was given. */
import type { z } from 'zod';

/** The context of a parse whose issues are in these words; a message that a schema gives itself comes first. */
export const IN_WORDS: z.core.ParseContext<z.core.$ZodIssue> = { error: wordsOf };

/** Keys and messages of the first few issues: one wrong list may have thousands. */
export function problemsIn({ issues }: z.ZodError): string {
  const shown = issues
    .slice(0, 5)
    .map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`));
  const more = issues.length - shown.length;
  return `${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}

const TYPES: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  tuple: 'a list',
  object: 'an object',
  record: 'an object',
  null: 'null',
  nan: 'NaN',
  never: 'nothing',
};

/** The most characters of a given value that are repeated. */
const LONGEST = 60;

function wordsOf(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === 'unrecognized_keys')
    return `it has the unknown ${keys(issue as z.core.$ZodIssueUnrecognizedKeys)}`;
  const expected = expectation(issue as z.core.$ZodIssue & { input: unknown });
  if (expected === undefined) return undefined;
  const input = inputOf(issue);
  return input === undefined
    ? `it is missing: expected ${expected}`
    : `expected ${expected}, and it ${given(issue, input)}`;
}

/** What stands at the issue's path. The issue of a union that is told apart by a key has the path of the key, and the whole object as its input. */
function inputOf({ input, discriminator }: z.core.$ZodRawIssue): unknown {
  const isObject = typeof input === 'object' && input !== null;
  return typeof discriminator === 'string' && isObject
    ? (input as Record<string, unknown>)[discriminator]
    : input;
}

/** What should stand there; undefined where zod's own words are kept. */
function expectation(issue: z.core.$ZodIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return TYPES[issue.expected] ?? issue.expected;
    case 'invalid_value':
      return oneOf(issue.values.map((value) => shown(value)));
    case 'too_small':
      return bound(issue, issue.minimum, 'least');
    case 'too_big':
      return bound(issue, issue.maximum, 'most');
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    case 'invalid_format':
      return formatted(issue);
    case 'unrecognized_keys':
      return `an object without the ${keys(issue)}`;
    case 'invalid_key':
      return issue.issues[0]?.message;
    case 'invalid_union': {
      if ('options' in issue && issue.options) return oneOf(issue.options.map((value) => shown(value)));
      // A number that stands for none, such as -1, says little.
      const kinds = issue.errors.flatMap(([first]) =>
        first && !isNumeral(first) ? [expectation(first)] : [],
      );
      return oneOf([...new Set(kinds.filter((kind) => kind !== undefined))]);
    }
    default:
      return undefined;
  }
}

function keys({ keys: names }: Pick<z.core.$ZodIssueUnrecognizedKeys, 'keys'>): string {
  return `${names.length === 1 ? 'key' : 'keys'} ${names.map((name) => shown(name)).join(', ')}`;
}

function isNumeral(issue: z.core.$ZodIssue): boolean {
  return issue.code === 'invalid_value' && issue.values.every((value) => typeof value === 'number');
}

function bound(
  { origin, inclusive = true, exact = false }: z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig,
  limit: number | bigint,
  side: 'least' | 'most',
): string {
  const unit =
    origin === 'string' ? 'character' : origin === 'array' || origin === 'set' ? 'item' : undefined;
  if (unit === undefined) {
    if (inclusive) return `${limit} or ${side === 'least' ? 'more' : 'less'}`;
    return `${side === 'least' ? 'more' : 'less'} than ${limit}`;
  }
  const count = `${limit} ${unit}${Number(limit) === 1 ? '' : 's'}`;
  return exact ? count : `at ${side} ${count}`;
}

function formatted(issue: z.core.$ZodIssueInvalidStringFormat): string {
  if (issue.format === 'regex') return `a text of the form ${issue.pattern}`;
  if (issue.format === 'datetime') return 'a time such as 2026-01-31T12:00:00Z';
  return `a text of the form '${issue.format}'`;
}

function oneOf(choices: readonly string[]): string {
  if (choices.length <= 1) return choices[0] ?? 'something else';
  return `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
}

/** What was given: its number of characters or items where that is what is wrong, its kind where it is large, and else itself. */
function given({ code, origin }: z.core.$ZodRawIssue, input: unknown): string {
  const isCounted =
    (code === 'too_small' || code === 'too_big') && (origin === 'string' || origin === 'array');
  if (isCounted) {
    const { length } = input as { length: number };
    return length === 0 ? 'is empty' : `has ${length}`;
  }
  if (Array.isArray(input)) return 'is a list';
  if (typeof input === 'object' && input !== null) return 'is an object';
  return `is ${shown(input)}`;
}

function shown(value: unknown): string {
  const text = typeof value === 'bigint' ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length <= LONGEST ? text : `${text.slice(0, LONGEST)}...`;
}
