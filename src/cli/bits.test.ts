/** Bits as people write them. */
import { InvalidArgumentError } from 'commander';
import { expect, test } from 'vitest';
import { bitsFrom } from './bits.js';

test.each([
  ['4', { bits: 4 }],
  ['int8', { bits: 8 }],
  ['S=8,M=4', { bits: 4, layers: { S: 8, M: 4 } }],
  ['int8, M=int4 ,[M*]=32', { bits: 8, layers: { M: 4, '[M*]': 32 } }],
])('%s', (text, bits) => expect(bitsFrom(text)).toEqual(bits));

test.each(['', '5', 'int', 'int32', 'S=', '=8', 'S=5', '4,,8', 'float16'])("'%s' is refused", (text) =>
  expect(() => bitsFrom(text)).toThrow(InvalidArgumentError),
);
