/** What zod 4 makes of its types: what is written under each of these schemas satisfies the schema, and zod itself. */
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { expectValid } from '../testing/writing.js';

interface Tree {
  value: number;
  children: Tree[];
}
const Tree: z.ZodType<Tree> = z.lazy(() => z.object({ value: z.int(), children: z.array(Tree) }));
const Category = z.object({
  name: z.string().max(5),
  get sub() {
    return z.array(Category).max(2);
  },
});
const Json: z.ZodType = z.json();

const TYPES: Record<string, z.ZodType> = {
  string: z.string(),
  'string of a length': z.string().length(4),
  'string with bounds': z.string().min(2).max(6),
  nonempty: z.string().nonempty().max(20),
  regex: z.string().regex(/^[A-Z]{3}-\d{2,4}$/),
  'regex and length': z
    .string()
    .regex(/^[a-z]+$/)
    .min(3)
    .max(8),
  'two regexes': z
    .string()
    .regex(/^[a-z]+$/)
    .regex(/[aeiou]/)
    .max(12),
  'starts with': z.string().startsWith('sk-').max(20),
  'ends with': z.string().endsWith('.ts').max(20),
  includes: z.string().includes('@').max(20),
  'starts, ends and includes': z.string().startsWith('a').endsWith('z').includes('mm').max(12),
  lowercase: z.string().lowercase().max(20),
  uppercase: z.string().uppercase().max(20),
  trimmed: z.string().trim().max(20),
  email: z.email(),
  'email with a length': z.email().max(40),
  'email of a browser': z.email({ pattern: z.regexes.html5Email }),
  'email with letters of all scripts': z.email({ pattern: z.regexes.unicodeEmail }),
  uuid: z.uuid(),
  uuidv4: z.uuidv4(),
  uuidv6: z.uuidv6(),
  uuidv7: z.uuidv7(),
  guid: z.guid(),
  url: z.url(),
  'http url': z.httpUrl(),
  emoji: z.emoji(),
  nanoid: z.nanoid(),
  cuid: z.cuid(),
  cuid2: z.cuid2(),
  ulid: z.ulid(),
  xid: z.xid(),
  ksuid: z.ksuid(),
  ipv4: z.ipv4(),
  ipv6: z.ipv6(),
  cidrv4: z.cidrv4(),
  hostname: z.hostname(),
  base64: z.base64().max(40),
  base64url: z.base64url().max(40),
  e164: z.e164(),
  hex: z.hex().max(10),
  'sha256 in hex': z.hash('sha256'),
  'iso date': z.iso.date(),
  'iso time': z.iso.time(),
  'iso time to the minute': z.iso.time({ precision: -1 }),
  'iso datetime': z.iso.datetime(),
  'iso datetime with an offset': z.iso.datetime({ offset: true }),
  'iso datetime, local': z.iso.datetime({ local: true }),
  'iso datetime to the millisecond': z.iso.datetime({ precision: 3 }),
  'iso duration': z.iso.duration(),
  'template literal': z.templateLiteral(['v', z.int().min(0).max(99), '.', z.enum(['a', 'b'])]),
  number: z.number(),
  'number in bounds': z.number().gt(0).lte(1),
  int: z.int(),
  int32: z.int32(),
  uint32: z.uint32(),
  float32: z.float32().min(-1000).max(1000),
  positive: z.int().positive(),
  nonnegative: z.number().nonnegative(),
  'multiple of 5': z.number().multipleOf(5),
  'multiple of 0.25': z.number().multipleOf(0.25).min(-2).max(2),
  'step and bounds': z.int().multipleOf(7).min(100).max(200),
  boolean: z.boolean(),
  null: z.null(),
  literal: z.literal('a'),
  literals: z.literal(['a', 1, true, null]),
  enum: z.enum(['red', 'green', 'blue']),
  'enum of TypeScript': z.enum({ Up: 1, Down: 2, Left: 'left' }),
  any: z.any(),
  unknown: z.unknown(),
  json: Json,
  nullable: z.string().max(4).nullable(),
  'nullish in an object': z.object({ a: z.int().nullish(), b: z.string().max(3).optional() }),
  array: z.array(z.int()),
  'array of a length': z.array(z.boolean()).length(3),
  'array with bounds': z.array(z.string().max(3)).min(1).max(3),
  tuple: z.tuple([z.int(), z.string().max(4)]),
  'tuple with a rest': z.tuple([z.int()], z.boolean()),
  object: z.object({ name: z.string().max(10), age: z.int().min(0).max(150) }),
  strict: z.strictObject({ a: z.int() }),
  loose: z.looseObject({ a: z.int() }),
  catchall: z.object({ a: z.string().max(3) }).catchall(z.int()),
  'nothing in it': z.object({}),
  partial: z.object({ a: z.int(), b: z.boolean(), c: z.null() }).partial(),
  pick: z.object({ a: z.int(), b: z.boolean() }).pick({ b: true }),
  extend: z.object({ a: z.int() }).extend({ b: z.boolean() }),
  record: z.record(z.string(), z.int()),
  'record of an enum': z.record(z.enum(['x', 'y']), z.number()),
  'partial record': z.partialRecord(z.enum(['x', 'y']), z.number()),
  'record with a pattern': z.record(z.string().regex(/^x-[a-z]{1,8}$/), z.boolean()),
  'loose record': z.looseRecord(z.string().regex(/^_/), z.int()),
  union: z.union([z.string().max(3), z.int(), z.null()]),
  'tagged union': z.discriminatedUnion('t', [
    z.object({ t: z.literal('x'), v: z.string().max(4) }),
    z.object({ t: z.literal('y'), n: z.int() }),
    z.object({ t: z.enum(['z', 'w']) }),
  ]),
  'tagged unions in one': z.discriminatedUnion('t', [
    z.discriminatedUnion('s', [
      z.object({ t: z.literal('a'), s: z.literal(1) }),
      z.object({ t: z.literal('a'), s: z.literal(2), more: z.boolean() }),
    ]),
    z.object({ t: z.literal('b') }),
  ]),
  'xor union': z.xor([z.object({ a: z.int() }), z.object({ b: z.int() })]),
  intersection: z.intersection(z.object({ a: z.int() }), z.object({ b: z.boolean() })),
  'intersection with a union': z.intersection(
    z.object({ id: z.int() }),
    z.union([z.object({ a: z.boolean() }), z.object({ b: z.null() })]),
  ),
  'intersection of numbers': z.intersection(z.number().min(2), z.number().max(9)),
  'default and remarks': z.object({
    a: z
      .int()
      .default(3)
      .describe('a number')
      .meta({ title: 'A', examples: [1, 2], deprecated: true }),
  }),
  readonly: z.array(z.int()).readonly(),
  catch: z.object({ a: z.int().catch(1) }),
  prefault: z.object({ a: z.int().prefault(1) }),
  brand: z.object({ a: z.int().brand('x') }),
  'tree by lazy': Tree,
  'category by getter': Category,
};

describe('zod', () => {
  test.each(Object.entries(TYPES))('%s', (_, type) => {
    const schema = z.toJSONSchema(type, { reused: 'inline' });
    for (const value of expectValid(schema)) {
      expect([value, type.safeParse(value).error?.issues ?? []]).toEqual([value, []]);
    }
  });

  test.each(['draft-4', 'draft-7', 'openapi-3.0'] as const)('as %s writes it', (target) => {
    const type = z.object({
      n: z.number().gt(0).lt(5),
      maybe: z.string().max(4).nullable(),
      kind: z.literal('k'),
      map: z.record(z.string(), z.int()),
    });
    for (const value of expectValid(z.toJSONSchema(type, { target }), { strict: z.toJSONSchema(type) })) {
      expect([value, type.safeParse(value).success]).toEqual([value, true]);
    }
  });

  test('definitions that are used several times', () => {
    const Point = z.object({ x: z.int(), y: z.int() }).meta({ id: 'Point' });
    const type = z.object({ a: Point, b: Point, list: z.array(Point).max(2) });
    const schema = z.toJSONSchema(type);
    expect(JSON.stringify(schema)).toContain('#/$defs/Point');
    expectValid(schema);
    expectValid(z.toJSONSchema(type, { reused: 'ref' }));
  });

  test('what an input may leave out', () => {
    expectValid(z.toJSONSchema(z.object({ a: z.int().default(1), b: z.string().max(3) }), { io: 'input' }));
  });
});
