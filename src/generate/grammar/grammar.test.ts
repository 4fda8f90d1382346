/** What a grammar lets through parses, and its schema holds for it, whatever the model would like to write. */
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import { Random } from '../../nn/index.js';
import { anyObject } from './json.js';
import { NumberRange } from './number.js';
import { schemaNode } from './schema/compiler.js';
import { accepts, expectValid, tree, written } from './testing/writing.js';

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
    expectValid(schema, { texts: 20 });
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

/** The text that completes a number. */
function way(range: NumberRange, text: string): string {
  return Buffer.from(range.completion(text)).toString();
}

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
        expect([text, range.isWhole(text + way(range, text))]).toEqual([text, true]);
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
    if (possible) expect(range.isWhole(way(range, ''))).toBe(true);
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
    ['^red$|^green$', ['red', 'green'], ['reds', 'redgreen', '']],
    ['^a|b$', ['ax', 'xb'], ['xa', 'bx']],
    ['(a*){5}', ['', 'aaa'], []],
    ['^(a*)*$', ['', 'aaa'], ['b']],
    ['^\\p{L}{1,3}$', ['é', 'abc', '日本'], ['', '1', 'abcd']],
    ['^\\P{L}$', ['1'], ['a']],
    ['^(?=.*\\d)(?=.*[a-z])\\w{3,5}$', ['a1b', '11a'], ['abc', '111', 'a1', 'a1b2c3']],
    ['^(?!admin$|root)[a-z]+$', ['admins', 'a'], ['admin', 'rooted']],
    ['^(?!.*\\.\\.)[a.]+$', ['a.a.'], ['a..a']],
    ['^a(?=b|c)[a-d]+$', ['ab', 'acd'], ['ad', 'a']],
    ['^(?:(?!x)[a-z]){2}$', ['ab'], ['ax', 'xa']],
    ['^(?![\\s\\S]*z)a', ['ab'], ['az', 'abz']],
    ['\\bcat\\b', ['cat', 'a cat!'], ['cats', 'concat']],
    ['^\\Bx|y\\B.', ['ayb'], ['x', 'y', 'y!']],
    ['(?i)^yes|No$', ['YES!', 'nO', 'yes'], ['y']],
    ['^(?i:a)b$', ['Ab', 'ab'], ['AB']],
    ['^(?P<year>\\d{4})\\Z', ['1999'], ['199']],
    ['\\A\\d\\z', ['1'], ['11']],
    ['^\\ud83d\\ude42$', ['🙂'], ['🙃']],
    ['^[\\u{1f600}-\\u{1f64f}]$', ['🙂'], ['a']],
    ['^[\\x41-\\x43\\-]$', ['B', '-'], ['D']],
    ['^[^]$'.replace('[^]', '[\\s\\S]'), ['a'], ['']],
    ['^{a}$', ['{a}'], ['a']],
    ['^[\\w-.]+$', ['a-b.c'], ['a+']],
    ['^\\cA$', ['\u0001'], ['A']],
    ['', ['', 'x'], []],
    ['^$', [''], ['x']],
  ])('%s', (pattern, right, wrong) => {
    const node = schemaNode({ type: 'string', pattern });
    for (const text of right) expect([text, accepts(node, JSON.stringify(text))]).toEqual([text, true]);
    for (const text of wrong) expect([text, accepts(node, JSON.stringify(text))]).toEqual([text, false]);
  });

  test.each([
    '(a',
    'a)',
    '[a',
    'a**',
    '(a)\\1',
    'a{3,2}',
    '\\',
    '(?<=a)b',
    '(?<!a)b',
    '\\k<x>',
    '[b-a]',
    '\\p{Nothing}',
    '(?m)^a',
  ])('refuses %s', (pattern) => {
    expect(() => schemaNode({ properties: { a: { type: 'string', pattern } } })).toThrow(ConfigError);
    expect(() => schemaNode({ properties: { a: { type: 'string', pattern } } })).toThrow(
      '#/properties/a/pattern: ',
    );
  });

  test('with counts in counts, less is promised, and all of it is right', () => {
    for (const pattern of [
      '^(?:[a-z]{1,20} ?){40,100}$',
      '^((a{1,9}){1,9}){1,9}$',
      '^(a|aa|aaa)*(a{1,50}){1,50}(b{1,50}|c{1,50}){1,50}$',
    ]) {
      expectValid({ type: 'string', pattern }, { texts: 4 });
    }
  });
});
