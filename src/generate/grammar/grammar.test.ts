/** What a grammar lets through parses, and its schema holds for it, whatever the model would like to write. */
import { Ajv2020 as Ajv } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import { Random } from '../../nn/index.js';
import { Vocabulary } from '../../text/index.js';
import { tinyTokenizer } from '../../text/testing/tiny.js';
import { Constraint } from './constraint.js';
import { anyObject } from './json.js';
import { Matcher } from './matcher.js';
import type { Node } from './node.js';
import { NumberRange } from './number.js';
import { schemaNode } from './schema/compiler.js';
import { TokenTree } from './token-tree.js';

const vocabulary = Vocabulary.of(tinyTokenizer);
const tree = new TokenTree(vocabulary);
const END = 0;
const ajv = new Ajv({ strict: false, allErrors: true });
(formats as unknown as (ajv: Ajv) => void)(ajv);

/** What a model of random wishes writes under a grammar; undefined where it did not come to an end. */
function written(grammar: Node, seed: number, maxTokens = 300): string | undefined {
  const random = new Random(seed);
  const constraint = new Constraint(grammar, tree, [END]);
  // Some like long texts, some like certain tokens.
  const liking = Float32Array.from(vocabulary.bytes, () => 6 * random.uniform());
  const bytes: number[] = [];
  for (let left = maxTokens; left > 0; left--) {
    const logits = liking.map((like) => like + 6 * random.uniform());
    constraint.steer(logits, left);
    const id = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    if (id === END) return decode(bytes);
    bytes.push(...vocabulary.bytes[id]!);
    if (constraint.chosen(id)) return decode(bytes);
  }
  return undefined;
}

function decode(bytes: readonly number[]): string {
  return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
}

function accepts(grammar: Node, text: string): boolean {
  const matcher = new Matcher(grammar);
  return matcher.run(matcher.start, Buffer.from(text))?.accepts === true;
}

const SCHEMAS: Record<string, object> = {
  string: { type: 'string' },
  'string of some length': { type: 'string', minLength: 3, maxLength: 7 },
  integer: { type: 'integer' },
  'integer in bounds': { type: 'integer', minimum: -17, exclusiveMaximum: 130 },
  'safe integer': { type: 'integer', minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
  number: { type: 'number' },
  'number in bounds': { type: 'number', exclusiveMinimum: 0, maximum: 0.25 },
  'negative number': { type: 'number', minimum: -3.75, exclusiveMaximum: -3.5 },
  anything: {},
  types: { type: ['string', 'null', 'boolean'] },
  enum: { enum: ['red', 'green', 3, null, { a: [1] }, 'dé"jà\\'] },
  const: { const: { kind: 'x', list: [1, 2] } },
  object: {
    type: 'object',
    properties: {
      name: { type: 'string', maxLength: 10 },
      age: { type: 'integer', minimum: 0, maximum: 150 },
      tags: { type: 'array', items: { type: 'string', maxLength: 5 }, maxItems: 4 },
    },
    required: ['name', 'age', 'tags'],
    additionalProperties: false,
  },
  'optional members': {
    type: 'object',
    properties: { a: { type: 'integer' }, 'b "quoted"': { type: 'boolean' }, c: { const: 1 }, d: {} },
    required: ['c'],
    additionalProperties: false,
  },
  'no member required': { type: 'object', properties: { a: { type: 'null' }, b: { type: 'null' } } },
  map: { type: 'object', additionalProperties: { type: 'integer' }, maxProperties: 3 },
  empty: { type: 'object', additionalProperties: false },
  tuple: { type: 'array', prefixItems: [{ type: 'integer' }, { type: 'string' }], items: false, minItems: 2 },
  'tuple with more': {
    type: 'array',
    prefixItems: [{ type: 'null' }],
    items: { type: 'boolean' },
    minItems: 3,
    maxItems: 5,
  },
  'array of a length': { type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 3 },
  'array of nothing': { type: 'array', maxItems: 0 },
  anyOf: {
    anyOf: [
      { type: 'string', maxLength: 4 },
      { type: 'object', properties: { x: { type: 'number' } }, required: ['x'] },
    ],
  },
  'distinct oneOf': {
    oneOf: [
      {
        type: 'object',
        properties: { kind: { const: 'a' }, v: { type: 'integer' } },
        required: ['kind', 'v'],
      },
      { type: 'object', properties: { kind: { const: 'b' } }, required: ['kind'] },
    ],
  },
  recursive: {
    $ref: '#/$defs/tree',
    $defs: {
      tree: {
        type: 'object',
        properties: {
          value: { type: 'integer' },
          children: { type: 'array', items: { $ref: '#/$defs/tree' } },
        },
        required: ['value', 'children'],
        additionalProperties: false,
      },
    },
  },
  pattern: { type: 'string', pattern: '^[A-Z]{2}-\\d{3,5}(\\.[a-c]+)?$' },
  'open pattern': { type: 'string', pattern: 'ab|cd' },
  'wide pattern': { type: 'string', pattern: '^[^a-z\\s]{2,4}[é-ü\\u3040-\\u309f]$' },
  date: { type: 'string', format: 'date' },
  time: { type: 'string', format: 'time' },
  'date-time': { type: 'string', format: 'date-time' },
  email: { type: 'string', format: 'email' },
  hostname: { type: 'string', format: 'hostname' },
  ipv4: { type: 'string', format: 'ipv4' },
  uuid: { type: 'string', format: 'uuid' },
  uri: { type: 'string', format: 'uri' },
  'what zod writes': z.toJSONSchema(
    z.object({
      id: z.uuid(),
      mail: z.email(),
      at: z.iso.datetime(),
      count: z.int().positive(),
      kind: z.enum(['a', 'b']),
      maybe: z.string().nullable().optional(),
      pair: z.tuple([z.number(), z.boolean()]),
      any: z.union([z.string().max(3), z.number()]),
      either: z.discriminatedUnion('t', [
        z.object({ t: z.literal('x'), v: z.string().max(4) }),
        z.object({ t: z.literal('y') }),
      ]),
      notes: z.record(z.string(), z.number()),
    }),
  ),
};

describe('schemas', () => {
  test.each(Object.entries(SCHEMAS))('%s: what is written is valid', (_, schema) => {
    const validate = ajv.compile(schema);
    const grammar = schemaNode(schema);
    const texts = Array.from({ length: 30 }, (_, seed) => written(grammar, seed));
    for (const text of texts) {
      expect(text).toBeDefined();
      expect([text, validate(JSON.parse(text!)), validate.errors]).toEqual([text, true, null]);
    }
  });

  test('what is valid, in the order of the schema, may be written', () => {
    const grammar = schemaNode(SCHEMAS.object);
    expect(accepts(grammar, '{"name":"Zoë","age":33,"tags":[]}')).toBe(true);
    expect(accepts(grammar, '{ "name": "a\\u00e9\\n", "age": 150, "tags": ["x", "y"] }')).toBe(true);
    expect(accepts(grammar, '{\n  "name": "",\n  "age": 0,\n  "tags": [\n    "x"\n  ]\n}')).toBe(true);
    for (const wrong of [
      '{"name":"a","age":151,"tags":[]}',
      '{"name":"a","age":33}',
      '{"name":"a","age":33,"tags":[],}',
      '{"name":"a","age":033,"tags":[]}',
      '{"name":"01234567890","age":33,"tags":[]}',
      '{"name":"a\n","age":33,"tags":[]}',
      ' {"name":"a","age":33,"tags":[]}',
    ]) {
      expect([wrong, accepts(grammar, wrong)]).toEqual([wrong, false]);
    }
  });

  test.each([
    ['a keyword of which nothing can be promised', { not: { type: 'string' } }, /#\/not/],
    ['items that differ', { type: 'array', items: { type: 'integer' }, uniqueItems: true }, /uniqueItems/],
    ['multiples', { type: 'number', multipleOf: 0.1 }, /multipleOf/],
    ['several schemas at once', { allOf: [{ type: 'string' }, { maxLength: 3 }] }, /allOf/],
    ['schemas that may both hold', { oneOf: [{ type: 'integer' }, { type: 'number' }] }, /oneOf/],
    ['bounds without a number', { type: 'integer', minimum: 3, maximum: 2 }, /bounds/],
    ['a format that is not known', { type: 'string', format: 'iri' }, /iri/],
    [
      'a pattern that a format need not have',
      { type: 'string', format: 'email', pattern: '^a' },
      /leave out/,
    ],
    ['a look ahead', { type: 'string', pattern: '^(?=a)b$' }, /look around/],
    ['a reference to nothing', { $ref: '#/$defs/x' }, /nothing at/],
    ['a reference to elsewhere', { $ref: 'https://example.com/x' }, /not in this schema/],
    ['a type that there is not', { type: 'text' }, /"text"/],
    ['no schema', 7, /no schema/],
    ['a required member without a schema', { type: 'object', properties: {}, required: ['a'] }, /'a'/],
    ['a schema that is too long', { enum: ['x'.repeat(70_000)] }, /characters/],
  ])('refuses %s', (_, schema, words) => {
    const make = () => new Matcher(schemaNode(schema));
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(words);
  });
});

describe('any object', () => {
  test('is an object', () => {
    for (let seed = 0; seed < 200; seed++) {
      const value = JSON.parse(written(anyObject(), seed, 60)!);
      expect(Object.prototype.toString.call(value)).toBe('[object Object]');
    }
  });
});

describe('an end in time', () => {
  test('whatever few tokens there are, the text is closed with them', () => {
    const grammar = schemaNode(SCHEMAS.recursive);
    const plan = tree.spell(Buffer.from('{"value":0,"children":[]}'))!.length;
    for (let maxTokens = plan; maxTokens < plan + 60; maxTokens++) {
      for (let seed = 0; seed < 5; seed++) {
        const text = written(grammar, seed, maxTokens);
        expect([maxTokens, text === undefined]).toEqual([maxTokens, false]);
        JSON.parse(text!);
      }
    }
  });

  test('fewer than there must be give a beginning', () => {
    expect(written(schemaNode(SCHEMAS.recursive), 1, 5)).toBeUndefined();
  });
});

describe('numbers', () => {
  test('those within bounds, and no others, are whole; each of their beginnings can become one', () => {
    const random = new Random(4);
    for (let i = 0; i < 300; i++) {
      const least = Math.round((random.uniform() - 0.5) * 4000) / 10;
      const most = least + Math.round(random.uniform() * 300) / 10;
      const range = new NumberRange({ integer: false, least, most });
      for (let j = 0; j < 10; j++) {
        const value = Math.round((random.uniform() - 0.5) * 6000) / 10;
        const text = String(value);
        const holds = value >= least && value <= most && !Object.is(value, -0);
        expect([text, least, most, range.isWhole(text)]).toEqual([text, least, most, holds]);
        if (!holds) continue;
        for (let end = 0; end <= text.length; end++) expect(range.isBeginning(text.slice(0, end))).toBe(true);
      }
    }
  });

  test('a beginning that can become one does', () => {
    const random = new Random(5);
    for (let i = 0; i < 300; i++) {
      const integer = random.uniform() < 0.5;
      const least = Math.floor((random.uniform() - 0.5) * 2000);
      const range = new NumberRange({ integer, least, most: least + Math.floor(random.uniform() * 50) });
      let text = '';
      for (let j = 0; j < 4; j++) {
        expect([text, range.isWhole(text + range.completion(text))]).toEqual([text, true]);
        const signs = range.next(text);
        if (signs.length === 0) break;
        text += signs[random.below(signs.length)];
      }
    }
  });
});

describe('bounds that no double meets', () => {
  test.each([
    [{ integer: false, least: 0.1234567891, most: 0.1234567892 }, false],
    [{ integer: false, least: 0.3, most: 0.3 }, true],
    [{ integer: true, least: 0.2, most: 0.8 }, false],
    [{ integer: true, least: 0, most: 1, aboveLeast: true, belowMost: true }, false],
    [{ integer: false, least: 0, most: 1e-9, aboveLeast: true }, true],
    [{ integer: false, least: 1e300 }, false],
    [{ integer: true, least: Number.MIN_SAFE_INTEGER, most: -(10 ** 14) }, true],
    [{ integer: false, least: -0.1, most: 0, belowMost: true }, true],
  ])('%j', (bounds, possible) => {
    const range = new NumberRange(bounds);
    expect(range.possible).toBe(possible);
    if (possible) expect(range.isWhole(range.completion(''))).toBe(true);
  });
});

describe('patterns', () => {
  test.each([
    ['^a{2,3}b*$', ['aa', 'aaabbb'], ['a', 'aaaa', 'aab ']],
    ['^(?:x|y)+?[^0-9]$', ['xyx!', 'y"'], ['x5', '!']],
    ['^[\\w.-]+@\\S$', ['a.b-c@ü'], ['@x', 'a@ ']],
    ['b', ['abc', 'b'], ['ac']],
    ['^\\$\\d$', ['$5'], ['5']],
    ['a$', ['ba', 'a'], ['ab']],
    ['^.$', ['é', '🙂'], ['', '\n']],
  ])('%s', (pattern, right, wrong) => {
    const node = patternNode(pattern);
    const inside = (text: string): string => JSON.stringify(text).slice(1, -1);
    for (const text of right) expect([text, accepts(node, inside(text))]).toEqual([text, true]);
    for (const text of wrong) expect([text, accepts(node, inside(text))]).toEqual([text, false]);
  });

  test.each(['(a', 'a)', '[a', 'a**', '\\1', '(?i)a', '^a|b$', 'a{3,2}', '(a*){5}', '\\', '\\p{L}'])(
    'refuses %s',
    (pattern) => {
      expect(() => patternNode(pattern)).toThrow(ConfigError);
    },
  );
});
