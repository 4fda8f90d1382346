/** Words for what a schema finds wrong: what was expected, and what was given. */
import { expect, test } from 'vitest';
import { z } from 'zod';
import { IN_WORDS, problemsIn } from './schema-issues.js';

function said(schema: z.ZodType, value: unknown): string {
  const { error } = schema.safeParse(value, IN_WORDS);
  return error ? problemsIn(error) : 'nothing';
}

test.each<[string, z.ZodType, unknown]>([
  ['expected a text, and it is 5', z.string(), 5],
  ['expected a number, and it is "0.5"', z.number(), '0.5'],
  ['expected a whole number, and it is 1.5', z.int(), 1.5],
  ['expected a list, and it is an object', z.array(z.string()), {}],
  ['a: it is missing: expected true or false', z.object({ a: z.boolean() }), {}],
  ['expected at least 1 character, and it is empty', z.string().min(1), ''],
  ['expected at most 2 characters, and it has 3', z.string().max(2), 'abc'],
  ['expected at least 2 items, and it has 1', z.array(z.int()).min(2), [1]],
  ['expected 0 or more, and it is -1', z.number().min(0), -1],
  ['expected more than 0, and it is 0', z.number().positive(), 0],
  ['expected 2 or less, and it is 3', z.number().max(2), 3],
  ['expected "a" or "b", and it is "c"', z.enum(['a', 'b']), 'c'],
  ['expected a number, and it is "x"', z.union([z.literal(-1), z.number()]), 'x'],
  ['expected 1, and it is 2', z.literal(1), 2],
  ['expected a text or a list, and it is 5', z.union([z.string(), z.array(z.string())]), 5],
  ['it has the unknown key "b"', z.strictObject({ a: z.int() }), { a: 1, b: 2 }],
  ['in: it has the unknown keys "b", "c"', z.object({ in: z.strictObject({}) }), { in: { b: 2, c: 3 } }],
  [
    'expected an object without the key "c", and it is an object',
    z.union([z.strictObject({ a: z.int().optional() }), z.strictObject({ b: z.int().optional() })]),
    { c: 1 },
  ],
  [
    'kind: expected "x" or "y", and it is "z"',
    z.discriminatedUnion('kind', [z.object({ kind: z.literal('x') }), z.object({ kind: z.literal('y') })]),
    { kind: 'z' },
  ],
  [
    'kind: it is missing: expected "x"',
    z.discriminatedUnion('kind', [z.object({ kind: z.literal('x') })]),
    {},
  ],
  [
    'expected an object, and it is null',
    z.discriminatedUnion('kind', [z.object({ kind: z.literal('x') })]),
    null,
  ],
  ['of our own', z.string().min(3, 'of our own'), 'a'],
])('%s', (words, schema, value) => expect(said(schema, value)).toBe(words));

test('a long value is cut, and of many issues the first are told', () => {
  expect(said(z.number(), 'x'.repeat(200))).toMatch(/^expected a number, and it is "x{59}\.\.\.$/);
  expect(said(z.array(z.string()), [1, 2, 3, 4, 5, 6, 7])).toMatch(/^0: .*; 4: [^;]*; and 2 more$/);
});
