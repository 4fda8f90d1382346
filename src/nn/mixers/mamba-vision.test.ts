/** MambaVision's mixer against its definition on every device, its gradients, and that it looks both ways. */
import { describe, expect, test } from 'vitest';
import { openDevice } from '../../engine/index.js';
import { ConfigError } from '../../errors.js';
import { scalar } from '../../graph/index.js';
import { type NdArray, relativeError, tabulate, total } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { checkDefinition, silu, softplus } from '../testing/definition.js';
import { checkGradients } from '../testing/gradients.js';
import { compileMixer } from '../testing/runs.js';
import { randomWeights } from '../testing/weights.js';
import { mambaVision } from './mamba-vision.js';

const devices = [await openDevice('cpu', { threads: 1 }), await openDevice('wasm', { threads: 2 })];
const hiddenSize = 6;
const [half, stateSize, rank] = [3, 4, 1];
const config = { hiddenSize, stateSize, convKernel: 3, outputDeviation: 0.02 };
const mixer = mambaVision(config);
/** At which the state holds for some tokens. */
const weights = { 'dt_proj.bias': [-0.5, 0.5, 0.25] };

function definition(weight: (name: string) => NdArray, u: NdArray): NdArray {
  const [batch, tokens] = u.dims as [number, number];
  const linear = (name: string, h: readonly number[]): number[] => {
    const W = weight(`${name}.weight`);
    return Array.from({ length: W.dims[0]! }, (_, o) => total(h.length, (i) => W.at(o, i) * h[i]!));
  };
  const rows = Array.from({ length: batch }, (_, b) => {
    const projected = Array.from({ length: tokens }, (_, t) =>
      linear(
        'in_proj',
        Array.from({ length: hiddenSize }, (_, i) => u.at(b, t, i)),
      ),
    );
    const around = (name: string, first: number): number[][] =>
      projected.map((_, t) =>
        Array.from({ length: half }, (_, c) =>
          silu(
            total(3, (k) => weight(`${name}.weight`).at(c, 0, k) * (projected[t + k - 1]?.[first + c] ?? 0)),
          ),
        ),
      );
    const [x, z] = [around('conv1d_x', 0), around('conv1d_z', half)];
    const state = Array.from({ length: half }, () => new Array<number>(stateSize).fill(0));
    return x.map((now, t) => {
      const made = linear('x_proj', now);
      const dt = linear('dt_proj', made.slice(0, rank)).map((value, c) =>
        softplus(value + weight('dt_proj.bias').at(c)),
      );
      const y = now.map((value, c) => {
        const h = state[c]!;
        for (let n = 0; n < stateSize; n++) {
          const A = -Math.exp(weight('A_log').at(c, n));
          h[n] = Math.exp(dt[c]! * A) * h[n]! + dt[c]! * made[rank + n]! * value;
        }
        return total(stateSize, (n) => made[rank + stateSize + n]! * h[n]!) + weight('D').at(c) * value;
      });
      return linear('out_proj', [...y, ...z[t]!]);
    });
  });
  return tabulate(u.dims, (b, t, i) => rows[b]![t]![i]!);
}

describe.each(devices)('on $name', (device) => {
  test('is what its definition says', () =>
    checkDefinition(device, mixer, { hiddenSize, weights }, definition));
});

test('has its gradients', async () => {
  const gradients = await checkGradients(
    devices[0]!,
    (parameters, { x }) => mixer.forward(parameters, x!, { position: scalar(0, 'int64') }).output,
    { inputs: { x: uniform(3, [2, 7, hiddenSize]) }, weights },
  );
  expect([...gradients.keys()].sort()).toEqual(
    ['A_log', 'D', 'conv1d_x.weight', 'conv1d_z.weight', 'dt_proj.bias', 'dt_proj.weight', 'in_proj.weight']
      .concat('out_proj.weight', 'x', 'x_proj.weight')
      .sort(),
  );
  for (const [of, gradient] of gradients) expect(Math.hypot(...gradient), of).toBeGreaterThan(0);
});

test('a token sees the one after it, and keeps nothing', async () => {
  expect(mixer.state).toEqual([]);
  const runs = await compileMixer(devices[0]!, mixer, hiddenSize, randomWeights);
  const x = uniform(5, [1, 5, hiddenSize], -2, 2);
  const other = { ...x, data: Float32Array.from(x.data as Float32Array) };
  other.data[4 * hiddenSize]! += 1;
  const [before, after] = [await runs.whole(x), await runs.whole(other)];
  const token = (y: Float32Array, t: number) => y.subarray(t * hiddenSize, (t + 1) * hiddenSize);
  expect(relativeError(token(after, 3), token(before, 3))).toBeGreaterThan(1e-3);
  expect(relativeError(token(after, 2), token(before, 2))).toBeLessThan(1e-6);
});

test('sizes that cannot be are refused', () => {
  expect(() => mambaVision({ ...config, hiddenSize: 5 })).toThrow(ConfigError);
  expect(() => mambaVision({ ...config, hiddenSize: 5 })).toThrow(/hidden size 5 is odd/);
  expect(() => mambaVision({ ...config, convKernel: 4 })).toThrow(/kernel 4 is even/);
});
