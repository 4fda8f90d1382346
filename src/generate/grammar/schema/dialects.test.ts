/** What Pydantic, OpenAPI, the AI SDK and people write: what is written under each of these schemas satisfies it. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../../errors.js';
import { accepts, expectValid } from '../testing/writing.js';
import { schemaNode } from './compiler.js';

const string = { type: 'string', maxLength: 6 };
const integer = { type: 'integer' };
const cat = {
  type: 'object',
  title: 'Cat',
  properties: { pet_type: { const: 'cat', enum: ['cat'], title: 'Pet Type', type: 'string' }, age: integer },
  required: ['pet_type', 'age'],
};
const dog = {
  type: 'object',
  title: 'Dog',
  properties: { pet_type: { const: 'dog', title: 'Pet Type', type: 'string' }, barks: { type: 'boolean' } },
  required: ['pet_type', 'barks'],
};

/** A literal with a member of that name would be taken for a promise. */
function conditional(when: object, yes: object, no?: object): object {
  return Object.fromEntries([['if', when], ['then', yes], ...(no ? [['else', no]] : [])]);
}

const PYDANTIC: Record<string, object> = {
  'optional field': {
    type: 'object',
    title: 'M',
    properties: { a: { anyOf: [string, { type: 'null' }], default: null, title: 'A' } },
  },
  'field with remarks': {
    type: 'object',
    properties: {
      a: {
        type: 'integer',
        exclusiveMinimum: 0,
        title: 'A',
        description: 'x',
        examples: [1],
        deprecated: true,
      },
    },
    required: ['a'],
  },
  'constr with a pattern': { type: 'string', pattern: '^[a-z]+$', minLength: 2, maxLength: 4 },
  decimal: {
    anyOf: [{ type: 'number' }, { type: 'string', pattern: '^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$' }],
    title: 'Price',
  },
  'decimal of some digits': {
    anyOf: [
      { type: 'number', maximum: 100 },
      {
        type: 'string',
        pattern: '^(?!^[-+.]*$)[+-]?0*(?:\\d{0,3}|(?=[\\d.]{1,6}0*$)\\d{0,3}\\.\\d{0,2}0*$)',
      },
    ],
  },
  set: { type: 'array', items: integer, uniqueItems: true, minItems: 3, maxItems: 6 },
  'set of strings': { type: 'array', items: { type: 'string' }, uniqueItems: true, minItems: 2, maxItems: 3 },
  'set of an enum': { type: 'array', items: { enum: ['a', 'b', 'c'] }, uniqueItems: true, minItems: 2 },
  'set of all of an enum': {
    type: 'array',
    items: { $ref: '#/$defs/C' },
    uniqueItems: true,
    minItems: 3,
    $defs: { C: { enum: ['a', 'b', 1] } },
  },
  'set of all of several kinds': {
    type: 'array',
    items: { anyOf: [{ enum: [1, 2] }, { enum: [2, 300000] }, { type: 'boolean' }] },
    uniqueItems: true,
    minItems: 5,
  },
  'set of booleans': { type: 'array', items: { type: 'boolean' }, uniqueItems: true },
  'set of few numbers': {
    type: 'array',
    items: { type: 'integer', minimum: 1, maximum: 4 },
    uniqueItems: true,
    minItems: 4,
  },
  'set of fractions': {
    type: 'array',
    items: { type: 'number', minimum: 0, maximum: 1 },
    uniqueItems: true,
    minItems: 4,
    maxItems: 6,
  },
  'set of strings or numbers': {
    type: 'array',
    items: { anyOf: [{ type: 'string' }, integer] },
    uniqueItems: true,
    minItems: 2,
    maxItems: 4,
  },
  'set of models': {
    type: 'array',
    items: { type: 'object', properties: { ok: { type: 'boolean' }, id: integer }, required: ['ok', 'id'] },
    uniqueItems: true,
    minItems: 2,
    maxItems: 3,
  },
  'set of anything': { type: 'array', items: {}, uniqueItems: true },
  tuple: { type: 'array', prefixItems: [integer, string], minItems: 2, maxItems: 2 },
  'tuple, older': { type: 'array', items: [integer, string], minItems: 2, maxItems: 2 },
  'named tuple': {
    type: 'array',
    prefixItems: [
      { title: 'X', ...integer },
      { title: 'Y', ...integer },
    ],
    minItems: 2,
    maxItems: 2,
  },
  date: { type: 'string', format: 'date' },
  datetime: { type: 'string', format: 'date-time' },
  time: { type: 'string', format: 'time' },
  timedelta: { type: 'string', format: 'duration' },
  uuid: { type: 'string', format: 'uuid' },
  email: { type: 'string', format: 'email' },
  url: { type: 'string', format: 'uri', minLength: 1, maxLength: 80 },
  'ip address': { type: 'string', format: 'ipv4' },
  'ip address v6': { type: 'string', format: 'ipv6' },
  'any of both ips': { type: 'string', format: 'ipvanyaddress', maxLength: 5 },
  path: { type: 'string', format: 'file-path', maxLength: 9 },
  secret: { type: 'string', format: 'password', writeOnly: true, maxLength: 9 },
  bytes: { type: 'string', format: 'binary', maxLength: 9 },
  json: { type: 'string', contentMediaType: 'application/json', contentSchema: integer, maxLength: 9 },
  'tagged union': {
    discriminator: { propertyName: 'pet_type', mapping: { cat: '#/$defs/Cat', dog: '#/$defs/Dog' } },
    oneOf: [{ $ref: '#/$defs/Cat' }, { $ref: '#/$defs/Dog' }],
    $defs: { Cat: cat, Dog: dog },
  },
  'a reference with remarks': {
    properties: { a: { $ref: '#/$defs/A', description: 'x', default: 1 } },
    required: ['a'],
    $defs: { A: integer },
  },
  'a reference in allOf': {
    properties: { a: { allOf: [{ $ref: '#/$defs/A' }], title: 'x' } },
    required: ['a'],
    $defs: { A: integer },
  },
  'a model of itself': {
    $ref: '#/$defs/Node',
    $defs: {
      Node: {
        type: 'object',
        properties: { v: integer, next: { anyOf: [{ $ref: '#/$defs/Node' }, { type: 'null' }] } },
        required: ['v', 'next'],
      },
    },
  },
  'dict of lists': {
    type: 'object',
    additionalProperties: { type: 'array', items: integer, maxItems: 2 },
    maxProperties: 2,
  },
  'dict with bounds': { type: 'object', additionalProperties: integer, minProperties: 2, maxProperties: 3 },
  'dict of an enum': {
    type: 'object',
    propertyNames: { $ref: '#/$defs/K' },
    additionalProperties: integer,
    $defs: { K: { enum: ['a', 'b'] } },
  },
  'dict of patterns': {
    type: 'object',
    patternProperties: { '^[a-z]+$': integer },
    minProperties: 1,
    maxProperties: 3,
  },
  'dict of lengths': {
    type: 'object',
    propertyNames: { minLength: 2, maxLength: 4 },
    additionalProperties: { type: 'null' },
    minProperties: 1,
  },
  'extra allowed': {
    type: 'object',
    properties: { a: integer },
    required: ['a'],
    additionalProperties: true,
  },
  'root model': {
    type: 'array',
    items: { $ref: '#/$defs/A' },
    title: 'R',
    $defs: { A: { type: 'object', properties: { a: integer }, required: ['a'] } },
  },
};

const OPENAPI: Record<string, object | [given: object, strict: object]> = {
  formats: {
    type: 'object',
    properties: {
      a: { type: 'integer', format: 'int32' },
      b: { type: 'integer', format: 'int64' },
      c: { type: 'number', format: 'float' },
      d: { type: 'number', format: 'double' },
      e: { type: 'number', format: 'decimal' },
      f: { type: 'integer', format: 'uint8' },
      g: { type: 'string', format: 'phone', maxLength: 4 },
    },
    required: ['a', 'b', 'c', 'd', 'e', 'f', 'g'],
  },
  nullable: [
    { type: 'string', nullable: true, maxLength: 4 },
    { type: ['string', 'null'], maxLength: 4 },
  ],
  'nullable enum': [{ type: 'string', nullable: true, enum: ['a', null] }, { enum: ['a', null] }],
  'nullable object': [
    { type: 'object', nullable: true, properties: { a: integer }, required: ['a'] },
    { type: ['object', 'null'], properties: { a: integer }, required: ['a'] },
  ],
  'exclusive bounds of draft 4': [
    { type: 'integer', minimum: 3, exclusiveMinimum: true, maximum: 6, exclusiveMaximum: true },
    { enum: [4, 5] },
  ],
  'bounds that are not exclusive': [
    { type: 'integer', minimum: 3, exclusiveMinimum: false, maximum: 4, exclusiveMaximum: false },
    { enum: [3, 4] },
  ],
  inheritance: {
    allOf: [
      { $ref: '#/components/schemas/Base' },
      { type: 'object', properties: { extra: string }, required: ['extra'] },
    ],
    components: { schemas: { Base: { type: 'object', properties: { id: integer }, required: ['id'] } } },
  },
  'inheritance of two levels, with remarks': {
    allOf: [
      {
        allOf: [{ properties: { a: integer }, required: ['a'] }, { properties: { b: { type: 'null' } } }],
        description: 'x',
      },
      { properties: { c: string, a: { minimum: 3 } }, required: ['c'] },
    ],
    'x-internal': true,
    xml: { name: 'x' },
    externalDocs: { url: 'x' },
    example: { a: 1 },
  },
  'bounds in several places': {
    allOf: [{ type: 'integer' }, { minimum: 2 }, { maximum: 9 }, { multipleOf: 3 }],
  },
  'enums in several places': {
    allOf: [{ enum: ['a', 'b', 'c'] }, { enum: ['b', 'c', 'd'] }, { not: { const: 'c' } }],
  },
  'types in several places': { allOf: [{ type: ['string', 'null'] }, { type: ['null', 'integer'] }] },
  'oneOf by required members': {
    type: 'object',
    properties: { a: integer, b: integer },
    oneOf: [{ required: ['a'] }, { required: ['b'] }],
  },
  'anyOf by required members': {
    type: 'object',
    properties: { a: integer, b: integer },
    anyOf: [{ required: ['a'] }, { required: ['b'] }],
  },
  'oneOf of closed objects': {
    oneOf: [
      { type: 'object', properties: { a: integer }, required: ['a'], additionalProperties: false },
      { type: 'object', properties: { b: integer }, required: ['b'], additionalProperties: false },
    ],
  },
  'oneOf of types': { oneOf: [{ type: 'boolean' }, integer, { type: 'array', items: integer }] },
  'oneOf of patterns': { type: 'string', maxLength: 8, oneOf: [{ pattern: '^a' }, { pattern: 'z$' }] },
  'oneOf of a text and some texts': { oneOf: [{ type: 'string', maxLength: 4 }, { enum: ['ab', 'cd'] }] },
  'oneOf of bounds': { type: 'integer', oneOf: [{ maximum: 5 }, { minimum: 3 }] },
  'readOnly and writeOnly': {
    properties: { a: { ...integer, readOnly: true }, b: { ...integer, writeOnly: true } },
    required: ['a', 'b'],
  },
  'required without a schema': { type: 'object', properties: { a: integer }, required: ['a', 'note'] },
  'names of all kinds': {
    type: 'object',
    properties: { __proto__x: integer, 'a/b~c': integer, constructor: integer, 'é"\\': integer, '': integer },
    required: ['__proto__x', 'a/b~c', 'constructor', 'é"\\', ''],
  },
  'patternProperties and others': {
    type: 'object',
    properties: { id: integer },
    patternProperties: { '^x-': { type: 'boolean' } },
    additionalProperties: { type: 'null' },
    required: ['id'],
    minProperties: 2,
    maxProperties: 4,
  },
  'a member that a pattern speaks of too': {
    type: 'object',
    properties: { aa: { type: 'integer' } },
    patternProperties: { '^a': { minimum: 5, maximum: 7 } },
    required: ['aa'],
  },
  'at least some of the members': {
    type: 'object',
    properties: { a: integer, b: integer, c: integer },
    minProperties: 2,
  },
  'at most one member': {
    type: 'object',
    properties: { a: integer, b: integer, c: integer },
    maxProperties: 1,
  },
  'members that others depend on': {
    type: 'object',
    properties: { a: integer, b: integer },
    dependentRequired: { a: ['b'] },
  },
  'dependencies of draft 7': {
    type: 'object',
    properties: { a: integer, b: {} },
    dependencies: { a: ['b'], b: { properties: { b: { type: 'null' } } } },
    $schema: 'http://json-schema.org/draft-07/schema#',
  },
  'if, then, else': {
    type: 'object',
    properties: { kind: { enum: ['a', 'b'] }, n: {} },
    required: ['kind', 'n'],
    ...conditional(
      { properties: { kind: { const: 'a' } } },
      { properties: { n: { type: 'integer' } } },
      { properties: { n: { type: 'string', maxLength: 3 } } },
    ),
  },
  'if without else': {
    type: 'object',
    properties: { a: { type: 'boolean' }, b: integer },
    ...conditional({ properties: { a: { const: true } }, required: ['a'] }, { required: ['b'] }),
  },
  'not a type': { not: { type: ['object', 'array', 'string'] } },
  'not some values': { type: 'string', maxLength: 3, not: { enum: ['', 'a', 'ab'] } },
  'not a number': { type: 'integer', minimum: 0, maximum: 4, not: { enum: [0, 2] } },
  'not a pattern': { type: 'string', maxLength: 5, not: { pattern: '[a-z]' } },
  'not a member': { type: 'object', properties: { a: integer, b: integer }, not: { required: ['a'] } },
  'not both members': {
    type: 'object',
    properties: { a: integer, b: integer },
    not: { required: ['a', 'b'] },
  },
  'not either': { type: 'integer', not: { anyOf: [{ maximum: 3 }, { minimum: 8 }] } },
  contains: {
    type: 'array',
    items: { type: 'integer' },
    contains: { minimum: 100 },
    minItems: 2,
    maxItems: 4,
  },
  'contains a few': {
    type: 'array',
    items: { enum: [1, 2, 3] },
    contains: { const: 2 },
    minContains: 2,
    maxContains: 3,
    maxItems: 6,
  },
  'unevaluated members': {
    allOf: [{ properties: { a: integer }, required: ['a'] }],
    properties: { b: integer },
    unevaluatedProperties: false,
  },
  'unevaluated items': { prefixItems: [integer], type: 'array', unevaluatedItems: false },
  'schemas that are true and false': {
    type: 'object',
    properties: { a: true, b: false, c: {} },
    required: ['a'],
  },
  anchors: {
    properties: { a: { $ref: '#num' } },
    required: ['a'],
    $defs: { x: { $anchor: 'num', ...integer } },
  },
  'dynamic references': {
    $ref: '#/$defs/t',
    $defs: {
      t: {
        $dynamicAnchor: 'n',
        type: 'object',
        properties: { v: integer, kids: { type: 'array', items: { $dynamicRef: '#n' } } },
        required: ['v'],
      },
    },
  },
  ids: {
    $ref: 'https://example.com/a.json',
    $defs: { a: { $id: 'https://example.com/a.json', type: 'integer' } },
  },
  'definitions, escaped': { $ref: '#/definitions/a~1b%20c', definitions: { 'a/b c': integer } },
  'the root itself': {
    type: 'object',
    properties: { v: integer, kids: { type: 'array', items: { $ref: '#' } } },
    required: ['v'],
  },
  'a reference with bounds': { $ref: '#/$defs/a', maximum: 5, $defs: { a: { type: 'integer', minimum: 3 } } },
  multiples: { type: 'number', multipleOf: 0.01, minimum: 0, maximum: 2 },
  'multiples of three': { type: 'integer', multipleOf: 3, exclusiveMinimum: 300 },
  'constants of all kinds': {
    properties: { a: { const: null }, b: { const: [1, { x: 'é' }] }, c: { const: 1.5 }, d: { const: '' } },
    required: ['a', 'b', 'c', 'd'],
  },
  'an enum of all kinds': { enum: ['x', 1, 1.5, null, true, { a: [] }, []] },
  'a type beside anyOf': {
    type: 'object',
    anyOf: [
      { properties: { a: integer }, required: ['a'] },
      { properties: { b: integer }, required: ['b'] },
    ],
  },
  'null for absent': {
    type: 'object',
    title: null,
    description: null,
    properties: { a: { type: 'integer', minimum: null, enum: null, default: null, format: null } },
    required: ['a'],
    additionalProperties: null,
    anyOf: null,
  },
};

const AI_SDK: Record<string, object> = {
  'an object': {
    $schema: 'http://json-schema.org/draft-07/schema#',
    type: 'object',
    properties: {
      recipe: {
        type: 'object',
        properties: {
          name: string,
          ingredients: {
            type: 'array',
            maxItems: 2,
            items: {
              type: 'object',
              properties: { name: string, amount: string },
              required: ['name', 'amount'],
              additionalProperties: false,
            },
          },
        },
        required: ['name', 'ingredients'],
        additionalProperties: false,
      },
    },
    required: ['recipe'],
    additionalProperties: false,
  },
  'a list in an envelope': {
    $schema: 'http://json-schema.org/draft-07/schema#',
    type: 'object',
    properties: { elements: { type: 'array', items: cat, maxItems: 2 } },
    required: ['elements'],
    additionalProperties: false,
  },
  'an enum in an envelope': {
    type: 'object',
    properties: { result: { type: 'string', enum: ['sunny', 'rainy'] } },
    required: ['result'],
    additionalProperties: false,
  },
  'strict, all required, null for absent': {
    type: 'object',
    properties: { a: { type: ['string', 'null'], maxLength: 4 }, b: { anyOf: [integer, { type: 'null' }] } },
    required: ['a', 'b'],
    additionalProperties: false,
  },
};

describe('dialects', () => {
  test.each(Object.entries({ ...PYDANTIC, ...AI_SDK }))('%s', (_, schema) => {
    expectValid(schema);
  });

  test.each(Object.entries(OPENAPI))('%s', (_, schema) => {
    const [given, strict] = Array.isArray(schema) ? schema : [schema, withoutNulls(schema)];
    expectValid(given, { strict });
  });

  test('what cannot be followed is left out where there is another way', () => {
    const schema = { anyOf: [{ type: 'string', pattern: '(?<=a)b' }, { type: 'integer' }] };
    for (const value of expectValid(schema)) expect(value).toBeTypeOf('number');
  });

  test('null may come where OpenAPI says so, and members that nothing is said of where a schema says what they are', () => {
    expect(accepts(schemaNode({ type: 'string', nullable: true }), 'null')).toBe(true);
    const open = schemaNode({
      type: 'object',
      properties: { a: integer },
      additionalProperties: { type: 'boolean' },
    });
    expect(accepts(open, '{"a": 1, "b": true}')).toBe(true);
    expect(accepts(open, '{"a": 1, "b": 2}')).toBe(false);
    expect(accepts(open, '{"b": true, "a": 1}')).toBe(false);
  });

  test('a way that leads back to its schema adds nothing', () => {
    const itself = schemaNode({ anyOf: [{ allOf: [{ $ref: '#' }] }, { type: 'integer' }] });
    expect([accepts(itself, '7'), accepts(itself, '"a"')]).toEqual([true, false]);
  });

  test('items of a set differ, and each set may be written', () => {
    const set = schemaNode({ type: 'array', items: { enum: ['a', 'b', 'c'] }, uniqueItems: true });
    for (const right of ['[]', '["c"]', '["c", "a", "b"]'])
      expect([right, accepts(set, right)]).toEqual([right, true]);
    for (const wrong of ['["a", "a"]', '["a", "b", "a"]', '["a", "b", "c", "a"]']) {
      expect([wrong, accepts(set, wrong)]).toEqual([wrong, false]);
    }
    const numbers = schemaNode({ type: 'array', items: { type: 'number' }, uniqueItems: true });
    expect(accepts(numbers, '[1, 10, 1.5]')).toBe(true);
    expect(accepts(numbers, '[1, 10, 1]')).toBe(false);
    expect(accepts(numbers, '[1, 1.0]')).toBe(false);
  });
});

/** What ajv takes for null says nothing. */
function withoutNulls(schema: object): object {
  return JSON.parse(JSON.stringify(schema), (key, value: unknown) =>
    value === null &&
    ['title', 'description', 'minimum', 'enum', 'format', 'additionalProperties', 'anyOf'].includes(key)
      ? undefined
      : value,
  ) as object;
}

function refusalOf(schema: unknown): Error | undefined {
  try {
    schemaNode(schema);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

describe('what is refused', () => {
  const secret = { type: 'string', pattern: '^(?<!x)a$' };
  test.each([
    ['a look behind', { properties: { a: secret } }, '#/properties/a/pattern'],
    ['in an item', { items: { items: secret } }, '#/items/items/pattern'],
    ['in a definition', { $ref: '#/$defs/x', $defs: { x: secret } }, '#/$defs/x/pattern'],
    ['in all ways', { anyOf: [secret, { type: 'string', pattern: '(a)\\1' }] }, '#/anyOf/0/pattern'],
    [
      'a schema that nothing satisfies',
      { allOf: [{ type: 'string' }, { type: 'integer' }] },
      'exclude each other',
    ],
    ['false', { properties: { a: false }, required: ['a'] }, '#/properties/a'],
    ['constants that exclude each other', { allOf: [{ const: 1 }, { const: 2 }] }, 'none of its values'],
    ['schemas that may both hold', { oneOf: [{ type: 'integer' }, { type: 'number' }] }, '#'],
    ['bounds without a number', { type: 'integer', minimum: 3, maximum: 2 }, 'bounds'],
    ['a multiple of nothing', { type: 'integer', multipleOf: 0 }, '#/multipleOf'],
    ['lengths without a string', { type: 'string', minLength: 3, maxLength: 2 }, 'minLength'],
    ['a format against its pattern', { type: 'string', format: 'date', pattern: '^a' }, 'pattern'],
    ['a reference to nothing', { $ref: '#/$defs/x' }, '#/$ref'],
    ['a reference to elsewhere', { $ref: 'https://example.com/x' }, 'not in this schema'],
    ['a reference to itself', { $ref: '#' }, 'nothing but itself'],
    [
      'references in a circle',
      { $ref: '#/$defs/a', $defs: { a: { $ref: '#/$defs/b' }, b: { allOf: [{ $ref: '#/$defs/a' }] } } },
      'itself',
    ],
    [
      'a value without an end',
      { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] },
      'an end',
    ],
    ['ways without an end', { anyOf: [{ $ref: '#' }] }, 'an end'],
    ['a type that there is not', { type: 'text' }, '"text"'],
    ['no schema', 7, 'no schema'],
    ['too many items', { type: 'array', items: {}, minItems: 1_000_000 }, 'characters'],
    [
      'more different items than there are',
      { type: 'array', items: { enum: [1, 2] }, uniqueItems: true, minItems: 3 },
      'different',
    ],
    [
      'more different items than there are of several kinds',
      {
        type: 'array',
        items: { anyOf: [{ enum: [1, 2] }, { enum: [2, 3] }] },
        uniqueItems: true,
        minItems: 4,
      },
      'different',
    ],
    [
      'more different names than there are',
      {
        type: 'object',
        patternProperties: { '^[ab]$': {} },
        additionalProperties: false,
        minProperties: 3,
      },
      'members',
    ],
    [
      'different items of any kind',
      { type: 'array', items: {}, uniqueItems: true, minItems: 3 },
      '#/uniqueItems',
    ],
    ['a schema that is too long', { enum: ['x'.repeat(300_000)] }, 'characters'],
    ['a schema that is too deep', JSON.parse(`${'{"items":'.repeat(500)}{}${'}'.repeat(500)}`), 'deep'],
    ['a format of no text', { type: 'string', pattern: 7 }, '#/pattern'],
    ['a bound that is no number', { type: 'number', minimum: '3' }, '#/minimum'],
    ['properties that are a list', { type: 'object', properties: ['a'] }, '#/properties'],
    ['required that is a text', { type: 'object', required: 'a' }, '#/required'],
  ])('%s', (_, schema, words) => {
    const refusal = refusalOf(schema);
    // The server knows an error by its class.
    expect([refusal?.constructor, refusal?.message]).toEqual([ConfigError, expect.stringContaining(words)]);
  });
});
