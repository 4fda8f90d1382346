import { expect, test } from 'vitest';
import { count, quote, visible } from './wording.js';

test('a value is quoted as JSON, on one short line', () => {
  expect(quote('größe\n')).toBe('"größe\\n"');
  expect(quote({ a: [1, null] })).toBe('{"a":[1,null]}');
  expect(quote(undefined)).toBe('nothing');
  expect(quote('x'.repeat(1000))).toBe(`"${'x'.repeat(119)}...`);
  expect(quote([Array(1000).fill(1)])).toMatch(/^\[\[(1,){59}...$/);
});

test('control characters and invisible characters are escaped', () => {
  const hidden = ['\u0000', '\u001b', '\u007f', '\u009b', '\u200b', '\u2028', '\u202e', '\ufeff', '\ud800'];
  for (const character of hidden) {
    expect(quote(`a${character}b`)).toMatch(/^[ -~]+$/);
    expect(visible(`a${character}b`)).toMatch(/^a\\u\{[0-9a-f]+\}b$/);
  }
  expect(visible('größe 層 🙂')).toBe('größe 層 🙂');
});

test('only one is singular', () => {
  expect([0, 1, 2].map((number) => count(number, 'byte'))).toEqual(['0 bytes', '1 byte', '2 bytes']);
});
