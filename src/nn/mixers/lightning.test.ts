/** Lightning attention: its definition in float64, the law, gradients, and the slopes of MiniMax. */
import { describe, expect, test } from 'vitest';
import { elementwise, type NdArray } from '../../graph/testing/arrays.js';
import { sigmoid, silu } from '../testing/definition.js';
import { proveMixer } from '../testing/prove.js';
import { linearOf, Memory, range, rmsNormed, tokenByToken, type Weight } from '../testing/token-loop.js';
import { type LightningConfig, lightningAttention, lightningSlopes } from './lightning.js';

const base: LightningConfig = {
  hiddenSize: 10,
  headDim: 4,
  slopes: lightningSlopes(3, 1, 4),
  normEpsilon: 1e-5,
  outputDeviation: 0.02,
};

function definition({ slopes, headDim, normEpsilon }: LightningConfig) {
  return (weight: Weight, x: NdArray): NdArray => {
    const [batch, sequence] = x.dims as [number, number];
    const qkv = elementwise(silu, linearOf(weight, 'qkv_proj', x));
    const gate = elementwise(sigmoid, linearOf(weight, 'output_gate', x));
    const mixed = tokenByToken([batch, sequence, slopes.length * headDim], (row) => {
      const memories = slopes.map(() => Memory.zeros(headDim, headDim));
      return (t) => {
        const read = memories.flatMap((memory, h) => {
          const part = (n: number) => range(headDim).map((i) => qkv.at(row, t, (h * 3 + n) * headDim + i));
          memory.decay(range(headDim).map(() => Math.exp(-slopes[h]!)));
          memory.write(part(1), part(2));
          return memory.read(part(0));
        });
        return rmsNormed(read, normEpsilon).map(
          (value, i) => value * weight('norm.weight').at(i) * gate.at(row, t, i),
        );
      };
    });
    return linearOf(weight, 'out_proj', mixed);
  };
}

for (const [name, slopes] of Object.entries({
  'slopes of a middle layer': base.slopes,
  'one head that forgets nothing': [0],
})) {
  const config = { ...base, slopes };
  const small = { ...config, hiddenSize: 6, headDim: 3, normEpsilon: 0.125 };
  proveMixer(name, {
    mixer: lightningAttention(config),
    hiddenSize: 10,
    definition: definition(config),
    small: { mixer: lightningAttention(small), hiddenSize: 6 },
  });
}

describe('slopes', () => {
  test('are those of ALiBi in the first layer, and nearly none in the last', () => {
    const first = lightningSlopes(8, 0, 6);
    for (const [h, slope] of first.entries()) expect(slope).toBeCloseTo(0.5 ** (h + 1), 4);
    for (const slope of lightningSlopes(8, 5, 6)) expect(slope).toBeLessThan(2e-5);
  });

  test('of a model of one layer are finite', () => {
    expect(lightningSlopes(1, 0, 1)[0]).toBeCloseTo(2 ** -8, 6);
  });
});
