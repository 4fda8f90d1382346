/**
 * Nobody's request may keep the others waiting: what is done for one before it is admitted is bounded, and so is each step of writing
 * under its grammar. Here are two hundred schemas, patterns, templates and texts that ask for as much work as their writer could think of.
 *
 * Time is the processor's, of this process alone, in units of a fixed piece of work that is done right after, so that a slow or
 * busy machine changes nothing: on a quiet machine of 2026 the unit takes about 0.02 s.
 */
import { describe, expect, test } from 'vitest';
import { HeddleError } from '../../errors.js';
import { Random } from '../../nn/index.js';
import { Tokenizer, Vocabulary } from '../../text/index.js';
import { TEMPLATE_LIMITS, Template, TemplateError } from '../../text/jinja/index.js';
import { LONG_TEXT } from '../../text/long-texts.js';
import { Constraint, schemaNode, TokenTree } from './index.js';

/** About a second. */
const UNITS = 50;
/** What takes less is not measured: no machine is so slow that it matters. */
const SHORT_MS = 50;
/** Tokens that are written under each grammar that is made: the first ones are the expensive ones. */
const TOKENS = 12;

const tokenizer = await Tokenizer.load('assets/sotu-hybrid');
const vocabulary = Vocabulary.of(tokenizer);
const tree = new TokenTree(vocabulary);

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Objects, texts and maps, as in what is measured. */
function unit(): number {
  const began = cpuMs();
  const found = new Map<string, number>();
  for (let i = 0; i < 80_000; i++) found.set(`${i % 50_000} ${i % 7}`, i);
  return found.size > 0 ? cpuMs() - began : 0;
}

const repeated = (count: number, make: (i: number) => unknown): unknown[] =>
  Array.from({ length: count }, (_, i) => make(i));
const named = (count: number, make: (i: number) => unknown): object =>
  Object.fromEntries(repeated(count, (i) => [`n${i}`, make(i)]) as [string, unknown][]);
const nested = (depth: number, wrap: (inner: unknown) => unknown, inner: unknown = {}): unknown => {
  let schema = inner;
  for (let i = 0; i < depth; i++) schema = wrap(schema);
  return schema;
};
const chained = (count: number, make: (next: object) => object): object => ({
  $ref: '#/$defs/n0',
  $defs: { ...named(count, (i) => make({ $ref: `#/$defs/n${i + 1}` })), [`n${count}`]: { type: 'integer' } },
});
const integer = { type: 'integer' };

function schemas(): [string, unknown][] {
  const list: [string, unknown][] = [];
  for (const n of [8, 20, 200]) {
    list.push([
      `${n} choices of two at once`,
      {
        type: 'object',
        allOf: repeated(n, (i) => ({ anyOf: [{ required: [`a${i}`] }, { required: [`b${i}`] }] })),
      },
    ]);
    list.push([
      `${n} exclusive choices of three at once`,
      {
        allOf: repeated(n, (i) => ({
          oneOf: repeated(3, (j) => ({ properties: { [`p${i}`]: { const: j } } })),
        })),
      },
    ]);
    list.push([
      `${n} members that others depend on`,
      {
        type: 'object',
        properties: named(n, () => integer),
        dependentRequired: Object.fromEntries(
          repeated(n, (i) => [`n${i}`, [`n${i + 1}`]]) as [string, unknown][],
        ),
      },
    ]);
    list.push([
      `${n} conditions`,
      {
        type: 'object',
        allOf: repeated(n, (i) =>
          Object.fromEntries([
            ['if', { properties: { [`k${i}`]: { const: 1 } } }],
            ['then', { required: [`x${i}`] }],
            ['else', { required: [`y${i}`] }],
          ]),
        ),
      },
    ]);
    list.push([
      `not ${n} things`,
      {
        not: {
          anyOf: repeated(n, (i) => ({ required: [`a${i}`], properties: { [`b${i}`]: { minimum: i } } })),
        },
      },
    ]);
    list.push([
      `not of all of ${n}`,
      { allOf: repeated(n, (i) => ({ not: { allOf: [{ required: [`a${i}`] }, { minProperties: i }] } })) },
    ]);
    list.push([
      `one of ${n} that are alike`,
      {
        oneOf: repeated(n, (i) => ({
          type: 'object',
          properties: named(8, () => integer),
          required: [`n${i % 8}`],
        })),
      },
    ]);
    list.push([
      `one of ${n} patterns`,
      { type: 'string', oneOf: repeated(n, (i) => ({ pattern: `a{${i}}b` })) },
    ]);
    list.push([
      `${n} patterns at once`,
      { type: 'string', allOf: repeated(n, (i) => ({ pattern: `[a-f]{${i % 9}}.*${i}` })) },
    ]);
    list.push([
      `${n} patterns of names`,
      {
        type: 'object',
        patternProperties: Object.fromEntries(
          repeated(n, (i) => [`^[a-z]{1,${i + 1}}_${i}`, integer]) as [string, unknown][],
        ),
      },
    ]);
  }
  for (const n of [15, 60, 2000]) {
    list.push([
      `${n} references in a row`,
      chained(n, (next) => ({ type: 'object', properties: { a: next }, required: ['a'] })),
    ]);
    list.push([`${n} times twice, in allOf`, chained(n, (next) => ({ allOf: [next, next] }))]);
    list.push([
      `${n} times twice, in anyOf`,
      chained(n, (next) => ({ anyOf: [next, { ...next, title: 'x' }] })),
    ]);
    list.push([
      `${n} times twice, in oneOf`,
      chained(n, (next) => ({ oneOf: [next, { ...next, title: 'x' }] })),
    ]);
    list.push([
      `${n} times twice, in members`,
      chained(n, (next) => ({
        type: 'object',
        properties: { a: next, b: { ...next } },
        required: ['a', 'b'],
      })),
    ]);
    list.push([`${n} times not`, chained(n, (next) => ({ not: next }))]);
  }
  for (const n of [150, 5000, 20_000]) {
    list.push([`${n} levels of items`, nested(n, (items) => ({ items }))]);
    list.push([`${n} levels of members`, nested(n, (a) => ({ properties: { a }, required: ['a'] }))]);
    list.push([`${n} levels of not`, nested(n, (not) => ({ not }))]);
    list.push([`${n} levels of anyOf`, nested(n, (any) => ({ anyOf: [any, { type: 'null' }] }))]);
    list.push([`an enum of ${n}`, { enum: repeated(n, (i) => `v${i}`) }]);
    list.push([`none of ${n} values`, { type: 'string', not: { enum: repeated(n, (i) => `v${i}`) } }]);
    list.push([`${n} optional members`, { type: 'object', properties: named(n, () => true) }]);
    list.push([
      `half of ${n} members`,
      { type: 'object', properties: named(n, () => true), minProperties: n / 2 },
    ]);
    list.push([`${n} required names`, { type: 'object', required: repeated(n, (i) => `n${i}`) }]);
    list.push([`a tuple of ${n}`, { prefixItems: repeated(n, () => integer) }]);
    list.push([`${n} different numbers`, { items: integer, uniqueItems: true, minItems: n }]);
    list.push([
      `${n} different objects`,
      {
        items: { type: 'object', properties: { a: integer }, required: ['a'] },
        uniqueItems: true,
        minItems: n,
      },
    ]);
    list.push([
      `${n} members of any name`,
      { type: 'object', minProperties: n, additionalProperties: integer },
    ]);
    list.push([
      `one text of ${n} kinds`,
      { anyOf: repeated(n, (i) => ({ type: 'string', pattern: `^.*[a-y]{${i % 40}}z` })) },
    ]);
    list.push([
      `${n} different texts that are long`,
      { items: { type: 'string', minLength: 60 }, uniqueItems: true, minItems: n },
    ]);
    list.push([
      `${n} different texts of one letter`,
      { items: { type: 'string', pattern: '^a*$' }, uniqueItems: true, minItems: n },
    ]);
    list.push([
      `${n} names of a kind`,
      { type: 'object', patternProperties: { '^(a|b)+$': {} }, minProperties: n },
    ]);
    list.push([
      `an enum of ${n} that begin alike`,
      { enum: repeated(Math.min(n, 500), (i) => `${'x'.repeat(400)}${i}`) },
    ]);
    list.push([`contains ${n}`, { contains: { const: 1 }, minContains: n, items: integer }]);
    list.push([`${n} types`, { type: repeated(n, () => 'string') }]);
    list.push([`at least ${n} items`, { items: {}, minItems: n }]);
    list.push([`at least ${n} characters`, { type: 'string', minLength: n }]);
    list.push([
      `${n} characters of a pattern`,
      { type: 'string', pattern: '^[a-z ]+$', minLength: n, maxLength: 2 * n },
    ]);
  }
  for (const multipleOf of [1e-9, 3.000000007, 0.07, 1e300, 5e-324, 1234567.891]) {
    list.push([`multiples of ${multipleOf}`, { type: 'number', multipleOf, minimum: 1 }]);
  }
  const anyOfItself = {
    anyOf: [
      { type: 'object', properties: { a: { $ref: '#' } } },
      { type: 'object', properties: { a: { $ref: '#' }, b: { $ref: '#' } } },
      { items: { $ref: '#' } },
      { items: { $ref: '#' }, minItems: 1 },
    ],
  };
  list.push(['ways that begin alike, in themselves', anyOfItself]);
  return list;
}

function patterns(): string[] {
  const list: string[] = [];
  for (const n of [5, 30, 300]) {
    list.push(
      `^(a+)+b{${n}}$`,
      `^(([a-z]{1,${n}}){1,${n}}){1,${n}}$`,
      `^(?:[a-z]{1,${n}} ?){${n},${2 * n}}$`,
    );
    list.push(
      `(a|b)*a(a|b){${n}}$`,
      `^(?!.*a.{${n}}b).*$`,
      `^(?=.*a.{${n}}b).*$`,
      `^(\\p{L}{1,${n}}\\s?){1,${n}}$`,
    );
    list.push(
      `^${'(?=.*a)(?=.*b.)(?!.*cc)'.repeat(Math.min(n, 100))}.*$`,
      `^${Array.from({ length: Math.min(n, 100) }, (_, i) => `(?=.*${i}x)`).join('')}.*$`,
    );
    list.push(
      `${'('.repeat(n)}a${')'.repeat(n)}`,
      `${'(a?'.repeat(Math.min(n, 90))}${')*'.repeat(Math.min(n, 90))}$`,
      `^(?:${Array.from({ length: n }, (_, i) => `w${i}.*`).join('|')})$`,
    );
    list.push(
      `^(.*,){${n}}x$`,
      `^(a{0,${n}}){0,${n}}b(a{0,${n}}c?){0,${n}}$`,
      `[${Array.from({ length: n }, (_, i) => String.fromCharCode(0x4e00 + 2 * i)).join('')}]{${n}}`,
    );
    list.push(`\\b(\\w+\\b.*){1,${n}}\\b$`, `(?i)^(${'straße|'.repeat(n).slice(0, 3000)}x)+$`);
  }
  list.push(
    'a{1000000}',
    '(a{1000}){1000}',
    '((((a{100}){100}){100}){100}){100}',
    '\\p{L}'.repeat(400),
    `[${'\\p{Lu}\\P{Ll}'.repeat(150)}]*`,
    'x'.repeat(10_000),
  );
  return list;
}

const TEMPLATES = [
  '{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}',
  '{% for a in range(99999999) %}x{% endfor %}',
  "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
  "{{ 'a' * 9999999999 }}",
  "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
  '{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}',
  "{{ ['a'] * 99999999 }}",
  "{{ range(99999999) | list | join(',') }}",
  "{{ 'a'.center(999999999) }}",
  "{{ '%999999999d' % 1 }}",
  "{{ '{:>999999999}'.format(1) }}",
  '{{ 10 ** 10 ** 10 }}',
  `${'{% if true %}'.repeat(20_000)}${'{% endif %}'.repeat(20_000)}`,
  `{{ ${'('.repeat(20_000)}1${')'.repeat(20_000)} }}`,
  `{{ ${'['.repeat(20_000)}${']'.repeat(20_000)} }}`,
  `{{ ${'1 + '.repeat(50_000)}1 }}`,
];

function texts(): [string, string][] {
  const signs = [
    'a',
    ' ',
    '\n',
    '0',
    '!',
    'é',
    '🙂',
    '日',
    '\u0000',
    'ab',
    ' a',
    '\t ',
    '<|endoftext|>',
    'e\u0301',
    '\ud83d',
    "'s",
  ];
  return signs.map((sign) => [JSON.stringify(sign), sign.repeat(LONG_TEXT / sign.length)]);
}

/** Writes a little under what was made, as a model that likes anything. */
function write(schema: unknown): void {
  const constraint = new Constraint(schemaNode(schema), tree, [0]);
  const random = new Random(1);
  for (let left = TOKENS; left > 0; left--) {
    const logits = Float32Array.from(vocabulary.bytes, () => random.uniform());
    constraint.steer(logits, 500 + left);
    const id = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    if (id === 0 || constraint.advance(id)) return;
  }
}

describe('hostile requests', () => {
  unit();
  const hold = (name: string, work: () => void): void => {
    const began = cpuMs();
    let thrown: unknown;
    try {
      work();
    } catch (error) {
      thrown = error;
    }
    const spent = cpuMs() - began;
    const units = spent < SHORT_MS ? 0 : spent / Math.max(unit(), unit());
    expect([name, units < UNITS, units]).toEqual([name, true, units]);
    // What is wrong is told as such, and is no accident.
    const isTold = thrown === undefined || thrown instanceof HeddleError || thrown instanceof TemplateError;
    expect([name, isTold, thrown]).toEqual([name, true, thrown]);
  };

  test('there are two hundred of them', () => {
    expect(schemas().length + patterns().length + TEMPLATES.length + texts().length).toBeGreaterThanOrEqual(
      200,
    );
  });

  test.each(schemas())('a schema: %s', (name, schema) => hold(name, () => write(schema)));

  test.each(patterns())('a pattern: %s', (pattern) =>
    hold(pattern, () => write({ type: 'string', pattern })),
  );

  test.each(TEMPLATES)('a template: %s', (source) =>
    hold(source, () => new Template(source).render([], TEMPLATE_LIMITS)),
  );

  test.each(texts())('a text of %s', (name, text) => hold(name, () => tokenizer.encode(text)));
});

test('what a model opens while thousands of tokens remain is closed within them', () => {
  const schema = {
    $ref: '#/$defs/list',
    $defs: { list: { type: 'array', items: { $ref: '#/$defs/list' } } },
  };
  const constraint = new Constraint(schemaNode(schema), tree, [0]);
  const opening = vocabulary.bytes.map((bytes) => bytes?.filter((byte) => byte === 0x5b).length ?? 0);
  let text = '';
  let isComplete = false;
  for (let left = 2600; left > 0 && !isComplete; left--) {
    const logits = Float32Array.from(opening);
    constraint.steer(logits, left);
    const id = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    text += Buffer.from(vocabulary.bytes[id]!).toString();
    isComplete = constraint.chosen(id);
  }
  expect(isComplete).toBe(true);
  expect(text).toMatch(/^\[{1000,}\s*\][\s\]]*$/);
});
