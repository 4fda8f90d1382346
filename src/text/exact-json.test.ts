/** Lossless JSON: what `JSON.parse` rounds or reorders is kept. */
import { expect, test } from 'vitest';
import { readExactJson } from './exact-json.js';

test('integers, floats and the order of keys', () => {
  expect(readExactJson('[1, 1.0, -0, -0.0, 1e2, 12345678901234567890, 1.5e-3]')).toEqual([
    1n,
    1,
    0n,
    -0,
    100,
    12345678901234567890n,
    0.0015,
  ]);
  const object = readExactJson(' {"b": 1, "2": null, "1": true, "__proto__": {"x": []}} ') as Map<
    string,
    unknown
  >;
  expect([...object]).toEqual([
    ['b', 1n],
    ['2', null],
    ['1', true],
    ['__proto__', new Map([['x', []]])],
  ]);
});

test('strings equal those of JSON.parse; the last of equal keys counts', () => {
  const text = String.raw`"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00 ü"`;
  expect(readExactJson(text)).toBe(JSON.parse(text));
  expect(readExactJson('{"a": 1, "b": 2, "a": 3}')).toEqual(
    new Map([
      ['a', 3n],
      ['b', 2n],
    ]),
  );
});

test.each([
  '',
  ' ',
  '{',
  '[1,]',
  '{"a":1,}',
  '{a: 1}',
  "'a'",
  '01',
  '1.',
  '.5',
  '+1',
  '1 2',
  'nul',
  'NaN',
  '"a',
  '"\\x"',
  '"\n"',
  '[1}',
  '{"a" 1}',
  '\ufeff1',
])('%j is no JSON', (text) => {
  expect(() => JSON.parse(text)).toThrow(SyntaxError);
  expect(() => readExactJson(text)).toThrow(SyntaxError);
});

test('depth and digits are limited', () => {
  expect(() => readExactJson('['.repeat(100_000))).toThrow(/nested more than 200 deep/);
  expect(() => readExactJson('1'.repeat(4301))).toThrow(/more than 4300 digits/);
  expect(readExactJson(`${'['.repeat(100)}${']'.repeat(100)}`)).toHaveLength(1);
});
