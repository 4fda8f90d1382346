/** Attention over a latent: what every mixer owes, what it keeps of a token, and that adapters count in both of its forms. */
import { expect, test } from 'vitest';
import { openDevice } from '../../engine/index.js';
import { input, scalar } from '../../graph/index.js';
import { type NdArray, relativeError, tabulate, total } from '../../graph/testing/arrays.js';
import { uniform } from '../../graph/testing/random.js';
import { stateBytes } from '../mixer.js';
import { ParameterRegistry } from '../parameters.js';
import { ropeFrequencies } from '../rope.js';
import { proveMixer } from '../testing/prove.js';
import { compileMixer } from '../testing/runs.js';
import { randomWeights } from '../testing/weights.js';
import { type LatentAttentionConfig, latentAttention } from './latent-attention.js';

const device = await openDevice('cpu', { threads: 1 });

const hiddenSize = 10;
const plain: LatentAttentionConfig = {
  hiddenSize,
  numHeads: 4,
  latentSize: 6,
  keyDim: 3,
  rotaryDim: 4,
  valueDim: 5,
  normEpsilon: 1e-5,
  outputDeviation: 0.02,
};
const rope = { frequencies: ropeFrequencies(100, 4) };
const cases: [string, LatentAttentionConfig][] = [
  ['without positions', plain],
  ['with rope, and queries from a latent', { ...plain, rope, queryLatentSize: 7, bias: true }],
  ['with rope on neighbours and a scale', { ...plain, rope, ropeInterleaved: true, scale: 0.25 }],
  ['without a shared key', { ...plain, rotaryDim: 0 }],
];

for (const [name, config] of cases) {
  proveMixer(`latent attention ${name}`, {
    mixer: latentAttention(config),
    hiddenSize,
    definition: (weight, x) => definition(config, weight, x),
    // A small epsilon bends the norm of a small latent more than a difference quotient can follow.
    small: { mixer: latentAttention({ ...config, normEpsilon: 0.125 }), hiddenSize },
  });
}

/** The definition, with keys and values of every head and token. */
function definition(config: LatentAttentionConfig, weight: (name: string) => NdArray, x: NdArray): NdArray {
  const { numHeads, latentSize, keyDim, rotaryDim, valueDim, queryLatentSize, bias = false } = config;
  const [batch, tokens] = x.dims as [number, number];
  const size = keyDim + rotaryDim;
  const linear = (name: string, h: number[], isBiased = false): number[] => {
    const matrix = weight(`${name}.weight`);
    return Array.from(
      { length: matrix.dims[0]! },
      (_, o) =>
        total(h.length, (i) => matrix.at(o, i) * h[i]!) + (isBiased ? weight(`${name}.bias`).at(o) : 0),
    );
  };
  const norm = (name: string, h: number[]): number[] => {
    const rms = Math.sqrt(total(h.length, (i) => h[i]! ** 2) / h.length + config.normEpsilon);
    return h.map((value, i) => (value / rms) * weight(`${name}.weight`).at(i));
  };
  const turned = (h: number[], token: number): number[] => {
    if (!config.rope) return h;
    const { frequencies } = config.rope;
    const half = h.length / 2;
    const place = (pair: number, second: boolean): number =>
      config.ropeInterleaved ? 2 * pair + Number(second) : pair + (second ? half : 0);
    const result = [...h];
    for (let pair = 0; pair < half; pair++) {
      const [a, b] = [h[place(pair, false)]!, h[place(pair, true)]!];
      const angle = token * frequencies[pair]!;
      result[place(pair, false)] = a * Math.cos(angle) - b * Math.sin(angle);
      result[place(pair, true)] = b * Math.cos(angle) + a * Math.sin(angle);
    }
    return result;
  };
  const rows = Array.from({ length: batch }, (_, b) => {
    const made = Array.from({ length: tokens }, (_, t) => {
      const h = Array.from({ length: hiddenSize }, (_, i) => x.at(b, t, i));
      const q =
        queryLatentSize === undefined
          ? linear('q_proj', h)
          : linear('q_b_proj', norm('q_a_layernorm', linear('q_a_proj', h, bias)));
      const compressed = linear('kv_a_proj_with_mqa', h, bias);
      const shared = turned(compressed.slice(latentSize), t);
      const kv = linear('kv_b_proj', norm('kv_a_layernorm', compressed.slice(0, latentSize)));
      return Array.from({ length: numHeads }, (_, head) => {
        const query = q.slice(head * size, (head + 1) * size);
        const own = kv.slice(head * (keyDim + valueDim), (head + 1) * (keyDim + valueDim));
        return {
          query: [...query.slice(0, keyDim), ...turned(query.slice(keyDim), t)],
          key: [...own.slice(0, keyDim), ...shared],
          value: own.slice(keyDim),
        };
      });
    });
    return made.map((heads, t) => {
      const mixed = heads.flatMap(({ query }, head) => {
        const shares = made.slice(0, t + 1).map((token) => {
          const dot = total(size, (d) => query[d]! * token[head]!.key[d]!);
          return Math.exp(dot * (config.scale ?? 1 / Math.sqrt(size)));
        });
        const sum = shares.reduce((a, b) => a + b, 0);
        return Array.from({ length: valueDim }, (_, d) =>
          total(t + 1, (j) => (shares[j]! / sum) * made[j]![head]!.value[d]!),
        );
      });
      return linear('o_proj', mixed, bias);
    });
  });
  return tabulate(x.dims, (b, t, i) => rows[b]![t]![i]!);
}

test('keeps a latent and a shared key of each token, whatever the number of heads', () => {
  for (const numHeads of [4, 64]) {
    const { state } = latentAttention({ ...plain, numHeads });
    expect(stateBytes(state, 1000) - stateBytes(state, 0)).toBe(1000 * 4 * (6 + 4));
  }
});

test('an adapter of kv_b_proj counts in both forms', async () => {
  const mixer = latentAttention(plain);
  const adapted: typeof mixer = {
    state: mixer.state,
    forward(_, x, context) {
      const has = (module: string) =>
        module === 'kv_b_proj' ? { rank: 2, scale: 0.5, hasFactors: true } : undefined;
      return mixer.forward(registry.root(has), x, context);
    },
  };
  const registry = new ParameterRegistry();
  adapted.forward(registry.root(), input('x', 'float32', ['batch', 'sequence', hiddenSize]), {
    position: scalar(0, 'int64'),
  });
  const runs = await compileMixer(device, adapted, hiddenSize, () => randomWeights(registry.specs.values()));
  const unadapted = await compileMixer(device, mixer, hiddenSize, (specs) => {
    const all = randomWeights(registry.specs.values());
    return new Map(Array.from(specs, ({ name }) => [name, all.get(name)!]));
  });
  const x = uniform(5, [2, 9, hiddenSize], -2, 2);
  const whole = await runs.whole(x);
  expect(relativeError((await runs.inPieces(x, [2, 1])).output, whole)).toBeLessThan(1e-5);
  expect(relativeError(await unadapted.whole(x), whole)).toBeGreaterThan(0.01);
});
