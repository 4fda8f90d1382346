import { describe, expect, test } from 'vitest';
import { parseStrictJson } from './strict-json.js';

const parse = (text: string, deepest = 4) => parseStrictJson(Buffer.from(text), deepest);

describe('strict JSON', () => {
  test.each([
    ...[
      '{}',
      '[]',
      ' { } \n',
      '"{[,"',
      '1',
      'null',
      '[{},"x"]',
      '{"a":[{},"a"],"b":{"a":1}}',
      '[{"a":1},{"a":1}]',
    ],
    ...['{"a":"a","\\u0062":"\\\\","\\"":"\\"}{"}', '{"__proto__":1,"constructor":2}', '[[[[]]]]'],
  ])('%s is read as JSON.parse reads it', (text) => {
    expect(parse(text)).toEqual(JSON.parse(text));
  });

  test.each([
    ['', /not JSON in UTF-8 \(Unexpected end/],
    ['{', /not JSON in UTF-8/],
    ['{}"x"', /not JSON in UTF-8 \(Unexpected/],
    ['[{} "x"]', /not JSON in UTF-8/],
    ['}}}', /not JSON in UTF-8/],
    ['"abc', /not JSON in UTF-8/],
    ['\ufeff{}', /not JSON in UTF-8 \(.*\\u\{feff\}/],
    ['{"a":1,"a":2}', /the key "a" occurs twice/],
    ['{"a":{"b":1,"c":[],"b":2}}', /the key "b" occurs twice/],
    ['{"a":1,"\\u0061":2}', /the key "a" occurs twice/],
    ['[[[[[]]]]]', /nested more than 4 deep/],
    ['[{"a":[{"a":{}}]}]', /nested more than 4 deep/],
  ])('%j is refused', (text, message) => {
    expect(() => parse(text)).toThrow(SyntaxError);
    expect(() => parse(text)).toThrow(message);
  });

  test('bytes that are not UTF-8 are refused', () => {
    expect(() => parseStrictJson(Uint8Array.of(0x22, 0xff, 0x22), 1)).toThrow(/not JSON in UTF-8/);
  });

  test('two million values are read, and no more', () => {
    expect(parse(`[${'0,'.repeat(1_999_998)}0]`)).toHaveLength(1_999_999);
    expect(() => parse(`[${'0,'.repeat(2_000_000)}0]`)).toThrow(/more than 2000000 values/);
    expect(() => parse(`[${'[],'.repeat(1_000_000)}0]`)).toThrow(/more than 2000000 values/);
  });
});
