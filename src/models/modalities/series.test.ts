/** The gradient of the quantile loss through a whole model of series, and that all of it obeys the law on its state. */
import { describe, expect, test } from 'vitest';
import { float32, type HostTensor, openDevice } from '../../engine/index.js';
import { only, withInputs } from '../../engine/testing/with-inputs.js';
import { divide, input, multiply, scalar, sum, type Tensor } from '../../graph/index.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { ParameterRegistry } from '../../nn/index.js';
import { modelConfig } from '../config.js';
import { hybridModel } from '../hybrid.js';
import { perceive } from '../model.js';
import { checkSlopes } from '../testing/gradients.js';
import { tinyConfig, tinyWeights } from '../testing/tiny.js';

const device = await openDevice('cpu', { threads: 1 });
const { vocabSize: _, eosTokenId: __, ...base } = tinyConfig({ pattern: 'M-' });
const model = hybridModel(
  modelConfig({
    ...base,
    input: {
      kind: 'series',
      channels: ['a', 'b'],
      targets: ['b'],
      patch: 2,
      horizon: 3,
      quantiles: [0.5],
      offset: [0, 1],
      scale: [1, 2],
    },
  }),
);

describe('a model of series', () => {
  test('does not see what comes later, and nothing of what is missing', async () => {
    const registry = new ParameterRegistry();
    const inputs = {
      values: input('values', 'float32', [1, 6, 2, 2]),
      observed: input('observed', 'float32', [1, 6, 2, 2]),
    };
    const { said } = perceive(model, registry, inputs, scalar(0, 'int64'));
    const executable = await device.compile(withInputs({ outputs: said, weights: tinyWeights(model) }));
    const x = uniform(1, [1, 6, 2, 2], -2, 2).data as Float32Array;
    const seen = x.map((_, i) => (i % 5 === 0 ? 0 : 1));
    const run = async (values: Float32Array) =>
      (await executable.run({ values: float32(values, [1, 6, 2, 2]), observed: float32(seen, [1, 6, 2, 2]) }))
        .scaled!.data as Float32Array;
    const whole = await run(x);
    const later = await run(x.map((value, i) => (i >= 16 ? value + 1 : value)));
    const size = whole.length / 6;
    expect(later.subarray(0, 4 * size)).toEqual(whole.subarray(0, 4 * size));
    expect(relativeError(later.subarray(4 * size), whole.subarray(4 * size))).toBeGreaterThan(1e-3);
    expect(await run(x.map((value, i) => (i % 5 === 0 ? 99 : value)))).toEqual(whole);
  });

  test('has the gradient that difference quotients show, of its input layer and its output', async () => {
    const registry = new ParameterRegistry();
    const inputs = {
      values: input('values', 'float32', [2, 5, 2, 2]),
      observed: input('observed', 'float32', [2, 5, 2, 2]),
    };
    const { scaled, spread, center } = perceive(model, registry, inputs, scalar(0, 'int64')).said;
    const loss = sum(multiply(divide(multiply(sum(scaled!, [2, 4]), spread!), 3), center!));
    const names = ['input.weight', 'input.bias', 'output.weight'];
    await checkSlopes(
      device,
      loss,
      Object.fromEntries(names.map((name) => [name, registry.tensors.get(name)!])),
      {
        ...Object.fromEntries(tinyWeights(model)),
        values: uniform(2, [2, 5, 2, 2], -2, 2),
        observed: float32(
          Array.from({ length: 40 }, (_, i) => (i % 6 === 0 ? 0 : 1)),
          [2, 5, 2, 2],
        ),
      },
    );
  });
});

describe('scaling by a window', () => {
  const [window, patch, channels] = [12, 2, ['a', 'b']];
  const scaled = hybridModel(
    modelConfig({
      ...tinyConfig({ pattern: '-' }),
      vocabSize: 0,
      eosTokenId: undefined,
      input: {
        ...{ kind: 'series', channels, targets: ['b', 'a'], patch, horizon: 3, quantiles: [0.5], window },
        ...{ offset: [0, 1], scale: [1, 2] },
      },
    }),
  );
  const positions = 60;
  /** Both channels change their level by 40 in the middle; the first one has gaps. */
  const values = uniform(5, [1, positions, patch, 2], -2, 2).data as Float32Array;
  const at = (i: number): number => (i < values.length / 2 ? values[i]! : values[i]! + 40);
  const isSeen = (i: number): boolean => i % 2 === 1 || i % 6 !== 0;

  /** By the definition, in float64, of a channel in its own units: means and deviations after each position. */
  function definition(channel: number): { mean: number; deviation: number }[] {
    let [count, total, squares] = [0, 0, 0];
    return Array.from({ length: positions }, (_, position) => {
      const places = Array.from({ length: patch }, (_, i) => (position * patch + i) * 2 + channel);
      const read = places.filter(isSeen).map(at);
      const all = count + read.length;
      count = Math.min(all, window);
      const kept = all === 0 ? 1 : count / all;
      total = kept * (total + read.reduce((sum, x) => sum + x, 0));
      squares = kept * (squares + read.reduce((sum, x) => sum + x * x, 0));
      const mean = total / Math.max(1, count);
      const scale = [1, 2][channel]!;
      const least = (0.05 * scale) ** 2;
      return { mean, deviation: Math.sqrt(Math.max(squares / Math.max(1, count) - mean ** 2, least)) };
    });
  }

  async function read(pieces: readonly number[]): Promise<{ center: number[]; spread: number[] }> {
    const found = { center: [] as number[], spread: [] as number[] };
    let state = new Map<string, HostTensor>(
      scaled.state.map(({ name }) => [name, float32(new Float32Array(2), [1, 2])]),
    );
    let first = 0;
    for (const length of pieces) {
      const registry = new ParameterRegistry();
      const dims = [1, length, patch, 2];
      const inputs = {
        values: input('values', 'float32', dims),
        observed: input('observed', 'float32', dims),
      };
      const before = Object.fromEntries(
        scaled.state.map(({ name }) => [name, input(name, 'float32', [1, 2])]),
      );
      const result = perceive(scaled, registry, inputs, scalar(0, 'int64'), { state: before });
      const { center, spread } = result.said as Record<'center' | 'spread', Tensor>;
      const next = Object.entries(result.state).map(([name, value]) => [`after ${name}`, value] as const);
      const outputs = { center, spread, ...Object.fromEntries(next) };
      const program = withInputs({ outputs, weights: tinyWeights(scaled) });
      const executable = await device.compile(program);
      const places = Array.from({ length: length * patch * 2 }, (_, i) => first * patch * 2 + i);
      const feeds = {
        values: float32(
          places.map((i) => (isSeen(i) ? at(i) : 0)),
          dims,
        ),
        observed: float32(
          places.map((i) => Number(isSeen(i))),
          dims,
        ),
        ...Object.fromEntries(state),
      };
      const made = await executable.run(only(program, feeds));
      for (const name of ['center', 'spread'] as const)
        found[name].push(...(made[name]!.data as Float32Array));
      state = new Map(scaled.state.map(({ name }) => [name, made[`after ${name}`]!]));
      first += length;
      await executable.dispose();
    }
    return found;
  }

  test('is plain as long as the window is not full, follows another level then, and is the same in pieces', async () => {
    expect(scaled.state.map(({ shape }) => shape)).toEqual(Array(3).fill(['batch', 2]));
    const whole = await read([positions]);
    for (const [target, channel] of [1, 0].entries()) {
      const wanted = definition(channel);
      for (const [position, { mean, deviation }] of wanted.entries()) {
        const near = (found: number, expected: number): void =>
          expect(Math.abs(found - expected), `${channel} at ${position}`).toBeLessThan(2e-3);
        near(whole.center[position * 2 + target]!, mean);
        near(whole.spread[position * 2 + target]!, deviation);
      }
      const first = Array.from({ length: window }, (_, i) => i * 2 + channel)
        .filter(isSeen)
        .map(at);
      const plain = first.reduce((sum, x) => sum + x, 0) / first.length;
      expect(wanted[window / patch - 1]!.mean).toBeCloseTo(plain, 6);
      // Three windows behind the change of level, of which all that was read still halves the mean.
      expect(whole.center[(positions - 1) * 2 + target]!).toBeGreaterThan(38);
      expect(whole.spread[(positions - 1) * 2 + target]!).toBeLessThan(10);
    }
    for (const pieces of [
      [7, 30, 23],
      Array(positions)
        .fill(1)
        .slice(0, 8)
        .concat(positions - 8),
    ]) {
      const parts = await read(pieces);
      expect(relativeError(Float32Array.from(parts.center), Float32Array.from(whole.center))).toBeLessThan(
        1e-5,
      );
      expect(relativeError(Float32Array.from(parts.spread), Float32Array.from(whole.spread))).toBeLessThan(
        1e-4,
      );
    }
  });

  test('a config that names none keeps none', () => {
    expect((model.json as { input: object }).input).not.toHaveProperty('window');
    expect((scaled.json as { input: object }).input).toHaveProperty('window', window);
  });
});
