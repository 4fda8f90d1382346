/** Attention: values and gradients, one block of queries after the other, and shapes that do not fit. */
import { expect, test } from 'vitest';
import { ShapeError } from '../../errors.js';
import { type Dim, input } from '../index.js';
import { toOnnx } from '../lower/onnx/encode.js';
import { relativeError } from '../testing/arrays.js';
import { feedsOf } from '../testing/operator-case.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { contains, runOnnx } from '../testing/run-onnx.js';
import { type AttentionInputs, type AttentionOptions, attention, gradientInBlocks } from './attention.js';
import { attentionCases } from './testing/attention.js';

prove(attentionCases);

test('over a past it may take one block of queries after the other, unless somebody reads the weights', async () => {
  const fused = new Set(['AttentionInBlocks']);
  let looped = 0;
  for (const proof of attentionCases.attention!) {
    const leaves = proof.operands.map(({ dtype, dims }, i) => input(`operand${i}`, dtype, dims));
    const [output, weights] = proof.build(...leaves) as readonly [(typeof leaves)[0], (typeof leaves)[0]];
    const inBlocks = toOnnx({ output: output! }, { fused });
    looped += Number(contains(inBlocks, 'Loop'));
    expect(contains(toOnnx({ output: output!, weights: weights! }, { fused }), 'Loop')).toBe(false);
    const actual = await runOnnx(inBlocks, feedsOf(proof));
    const expected = await runOnnx(toOnnx({ output: output! }), feedsOf(proof));
    expect(actual.output!.dims).toEqual(expected.output!.dims);
    expect(relativeError(actual.output!.data, expected.output!.data), proof.name).toBeLessThan(1e-5);
  }
  expect(looped).toBeGreaterThan(0);
});

test.each([5, 8, 16, 20])(
  'over a past %i queries are whole blocks of eight and what is left',
  async (count) => {
    const [heads, room, size] = [48, 12, 3];
    const dims = {
      query: [1, heads, count, size],
      key: [1, 2, count, size],
      value: [1, 2, count, size],
      pastKey: [1, 2, room, size],
      pastValue: [1, 2, room, size],
    };
    const feeds = {
      ...Object.fromEntries(Object.entries(dims).map(([name, own], i) => [name, uniform(i, own)])),
      lengths: { dtype: 'int64' as const, dims: [1], data: BigInt64Array.of(7n) },
    };
    const at = (name: keyof typeof dims) =>
      input(
        name,
        'float32',
        dims[name].map(
          (size, axis): Dim => (axis !== 2 ? size : name.startsWith('past') ? 'past' : 'sequence'),
        ),
      );
    const { output } = attention(
      {
        query: at('query'),
        key: at('key'),
        value: at('value'),
        past: { key: at('pastKey'), value: at('pastValue'), lengths: input('lengths', 'int64', [1]) },
      },
      { scale: 0.5, causal: true },
    );
    const inBlocks = toOnnx({ output }, { fused: new Set(['AttentionInBlocks']) });
    expect(contains(inBlocks, 'Loop')).toBe(true);
    const [actual, expected] = [await runOnnx(inBlocks, feeds), await runOnnx(toOnnx({ output }), feeds)];
    expect(actual.output!.dims).toEqual([1, heads, count, size]);
    expect(relativeError(actual.output!.data, expected.output!.data)).toBeLessThan(1e-5);
  },
);

test.each([
  { scale: 0.5, causal: true },
  { scale: 0.5, causal: true, window: 3 },
  { scale: 0.5, causal: false },
])('the gradient of blocks of queries is that of all at once: %o', async (options) => {
  const operands = [
    [1, 4, 8, 3],
    [1, 2, 8, 3],
    [1, 2, 8, 2],
    [1, 4, 8, 2],
  ].map((dims, i) => uniform(i, dims));
  const [query, key, value, g] = operands.map(({ dims }, i) => input(`operand${i}`, 'float32', dims));
  const of = (most: number) => {
    const [dq, dk, dv] = gradientInBlocks([query!, key!, value!, g!], options, most);
    return toOnnx({ dq, dk, dv });
  };
  const feeds = Object.fromEntries(operands.map((operand, i) => [`operand${i}`, operand]));
  expect(contains(of(2), 'Loop')).toBe(true);
  const [actual, expected] = [await runOnnx(of(2), feeds), await runOnnx(of(8), feeds)];
  for (const name of ['dq', 'dk', 'dv'])
    expect(relativeError(actual[name]!.data, expected[name]!.data), name).toBeLessThan(1e-5);
});

test('shapes that do not fit are refused', () => {
  const of = (...shape: Dim[]) => input('x', 'float32', shape);
  const good = { query: of(1, 4, 3, 2), key: of(1, 2, 3, 2), value: of(1, 2, 3, 5) };
  const past = { key: of(1, 2, 6, 2), value: of(1, 2, 6, 5), lengths: input('l', 'int64', [1]) };
  const causal = { scale: 1, causal: true };
  const cases: [Partial<AttentionInputs>, AttentionOptions, string][] = [
    [{ query: of(1, 4, 3) }, causal, 'expected a query [batch, heads, sequence, headDim]'],
    [{ key: of(1, 2, 4, 2) }, causal, 'the key must be [1,2,3,2]'],
    [{ key: of(1, 2, 3, 1) }, causal, 'the key must be [1,2,3,2]'],
    [{ value: of(1, 1, 3, 5) }, causal, 'the value must be [1,2,3,5]'],
    [{ key: of(1, 3, 3, 2), value: of(1, 3, 3, 5) }, causal, '4 heads cannot share 3 keys evenly'],
    [{ bias: of(2, 3) }, causal, 'the bias does not broadcast to [1,4,3,3]'],
    [{ value: undefined }, causal, 'the value must be [1,2,3,2]'],
    [{}, { ...causal, valueSize: 2 }, 'values are given, or are the first numbers of the keys'],
    [{ value: undefined }, { ...causal, valueSize: 3 }, 'of which there are enough'],
    [{}, { ...causal, window: 0 }, 'a window is a whole number, 1 or more, of causal attention'],
    [
      {},
      { scale: 1, causal: false, window: 2 },
      'a window is a whole number, 1 or more, of causal attention',
    ],
    [{ past: { ...past, key: of(1, 1, 6, 2) } }, causal, 'the past key must be [1,2,6,2]'],
    [{ past: { ...past, value: of(1, 2, 5, 5) } }, causal, 'the past value must be [1,2,6,5]'],
    [{ past: { ...past, lengths: of(1) } }, causal, 'the lengths of what is past must be int64'],
  ];
  for (const [others, options, message] of cases) {
    expect(() => attention({ ...good, ...others }, options), message).toThrow(ShapeError);
    expect(() => attention({ ...good, ...others }, options)).toThrow(message);
  }
  expect(attention({ ...good, past }, causal).weights.shape).toEqual([1, 4, 3, 9]);
});
