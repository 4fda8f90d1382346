/** Bits and precisions as people write them. */
import { InvalidArgumentError } from 'commander';
import { expect, test } from 'vitest';
import { bitsFrom } from './bits.js';
import { precisionsFrom } from './run-flags.js';

test.each([
  ['4', { bits: 4 }],
  ['int8', { bits: 8 }],
  ['S=8,M=4', { bits: 4, layers: { S: 8, M: 4 } }],
  ['int8, M=int4 ,[M*]=32', { bits: 8, layers: { M: 4, '[M*]': 32 } }],
])('%s', (text, bits) => expect(bitsFrom(text)).toEqual(bits));

test.each(['', '5', 'int', 'int32', 'S=', '=8', 'S=5', '4,,8', 'float16'])("'%s' is refused", (text) =>
  expect(() => bitsFrom(text)).toThrow(InvalidArgumentError),
);

test.each([
  ['float32', { all: 'float32' }],
  ['bfloat16,*=float32', { all: 'bfloat16', layers: { '*': 'float32' } }],
  ['M=bfloat16 , [M*]=float32', { layers: { M: 'bfloat16', '[M*]': 'float32' } }],
])('%s', (text, precisions) => expect(precisionsFrom(text)).toEqual(precisions));

test.each(['', 'float16', '*=', '=float32', 'bfloat16,', '*=8', '*=float32=float32'])(
  "'%s' is refused",
  (text) => expect(() => precisionsFrom(text)).toThrow(InvalidArgumentError),
);
