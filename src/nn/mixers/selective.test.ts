/**
 * Selective attention against its definition, in float64 and with loops:
 *
 * token j gets a score r_j = w.h_j + b, or w.silu(C [h_(j-3) .. h_j] + c) + b. At position i a head sees the last W tokens (itself included) and, of the older
 * ones, the K with the highest scores so far, of equal ones the earlier; log sigmoid(r_j) is added to the logits of
 * those. The bidirectional form sees all |i - j| < W and the K highest of the whole sequence.
 */
import { describe, expect, test } from 'vitest';
import { type HostTensor, openDevice } from '../../engine/index.js';
import { ConfigError } from '../../errors.js';
import { relativeError, toArray, total } from '../../graph/testing/arrays.js';
import { generator, uniform } from '../../graph/testing/random.js';
import { stateBytes } from '../mixer.js';
import type { ParameterSpec } from '../parameters.js';
import { ropeFrequencies } from '../rope.js';
import { silu } from '../testing/definition.js';
import { compileMixer } from '../testing/runs.js';
import { randomWeights } from '../testing/weights.js';
import { mamba2 } from './mamba2.js';
import { type SelectiveAttentionConfig, selectiveAttention, slidingWindowAttention } from './selective.js';

const device = await openDevice('cpu', { threads: 1 });
const hiddenSize = 8;
const sequence = 40;
const base = { hiddenSize, numHeads: 4, numKeyValueHeads: 2, headDim: 4, outputDeviation: 0.02 };
const TOLERANCE = 1e-5;

type Weights = ReadonlyMap<string, HostTensor>;

/** The definition. Returns the output, and how many keys beyond the window were used in all. */
function reference(
  config: SelectiveAttentionConfig,
  weights: Weights,
  x: HostTensor,
): { output: Float64Array; selections: number } {
  const { numHeads, numKeyValueHeads, headDim, window, selected, rope, causal = true } = config;
  const [batch, length] = x.dims as [number, number];
  const h = toArray(x);
  const arrays = new Map([...weights].map(([name, value]) => [name, toArray(value)]));
  const matrix = (name: string) => arrays.get(name)!;
  const output = new Float64Array(x.data.length);
  let selections = 0;
  for (let b = 0; b < batch; b++) {
    /** Row `row` of a projection at token t. */
    const projected = (name: string, row: number, t: number): number =>
      total(hiddenSize, (k) => matrix(name).at(row, k) * h.at(b, t, k));
    const headAt = (name: string, head: number, t: number, rotated: boolean): number[] => {
      const raw = Array.from({ length: headDim }, (_, d) => projected(name, head * headDim + d, t));
      if (!rotated || !rope) return raw;
      const half = headDim / 2;
      return raw.map((value, d) => {
        const angle = t * rope.frequencies[d % half]!;
        const partner = d < half ? -raw[d + half]! : raw[d - half]!;
        return value * Math.cos(angle) + partner * Math.sin(angle);
      });
    };
    const tokens = Array.from({ length }, (_, t) => t);
    const scores = tokens.map((t) => {
      if (selected === 0) return 0;
      const weighed = (feature: (k: number) => number): number =>
        total(hiddenSize, (k) => matrix('score.weight').at(0, k) * feature(k));
      const mixed = (k: number): number =>
        matrix('score.conv.bias').at(k) +
        total(4 * hiddenSize, (i) => {
          const token = t - 3 + Math.floor(i / hiddenSize);
          return token < 0 ? 0 : matrix('score.conv.weight').at(k, i) * h.at(b, token, i % hiddenSize);
        });
      const features = (k: number): number =>
        config.score === 'convolution' ? silu(mixed(k)) : h.at(b, t, k);
      // In float32, as anyone computes scores: which of two is higher must not depend on digits that do not exist.
      return Math.fround(weighed(features) + matrix('score.bias').at(0));
    });
    const all = (name: string, heads: number, rotated: boolean): number[][][] =>
      Array.from({ length: heads }, (_, head) => tokens.map((t) => headAt(name, head, t, rotated)));
    const queries = all('q_proj.weight', numHeads, true);
    const keys = all('k_proj.weight', numKeyValueHeads, true);
    const values = all('v_proj.weight', numKeyValueHeads, false);

    for (const i of tokens) {
      const near = tokens.filter((j) => (causal ? j <= i && i - j < window : Math.abs(i - j) < window));
      const candidates = causal ? tokens.filter((j) => j <= i - window) : tokens;
      const highest = [...candidates]
        .sort((a, c) => scores[c]! - scores[a]! || a - c)
        .slice(0, selected)
        .filter((j) => !near.includes(j));
      selections += highest.length;
      const seen = [...near, ...highest];
      const heads: number[] = [];
      for (let head = 0; head < numHeads; head++) {
        const shared = Math.floor(head / (numHeads / numKeyValueHeads));
        const logits = seen.map((j) => {
          const dot = total(headDim, (d) => queries[head]![i]![d]! * keys[shared]![j]![d]!);
          const isScored = highest.includes(j) || (config.scoresWindow && selected > 0);
          const bias = isScored ? -Math.log1p(Math.exp(-scores[j]!)) : 0;
          return dot / Math.sqrt(headDim) + bias;
        });
        const exponentials = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
        const sum = exponentials.reduce((a, c) => a + c, 0);
        for (let d = 0; d < headDim; d++) {
          heads.push(total(seen.length, (n) => (exponentials[n]! / sum) * values[shared]![seen[n]!]![d]!));
        }
      }
      for (let o = 0; o < hiddenSize; o++) {
        output[(b * length + i) * hiddenSize + o] = total(
          heads.length,
          (k) => matrix('o_proj.weight').at(o, k) * heads[k]!,
        );
      }
    }
  }
  return { output, selections };
}

/** Hidden states whose first feature takes few values: with a score of that alone, most tokens tie with others. */
function withTies(seed: number): HostTensor {
  const x = uniform(seed, [2, sequence, hiddenSize], -2, 2);
  const next = generator(seed);
  for (let token = 0; token < 2 * sequence; token++) x.data[token * hiddenSize] = Math.floor(3 * next()) - 1;
  return x;
}

const tied = { 'score.weight': [1, 0, 0, 0, 0, 0, 0, 0] };
const equal = { 'score.weight': [0, 0, 0, 0, 0, 0, 0, 0] };

interface Inputs {
  x: HostTensor;
  given?: Readonly<Record<string, readonly number[]>>;
}

const random: Inputs = { x: uniform(4, [2, sequence, hiddenSize], -2, 2) };
const cases: [string, Omit<SelectiveAttentionConfig, keyof typeof base>, Inputs][] = [
  ['random scores', { window: 5, selected: 6 }, random],
  ['rope', { window: 4, selected: 3, rope: { frequencies: ropeFrequencies(100, 4) } }, random],
  ['scores of a convolution', { window: 5, selected: 6, score: 'convolution' }, random],
  ['scores that count in the window', { window: 5, selected: 6, scoresWindow: true }, random],
  ['a window of one', { window: 1, selected: 4 }, random],
  ['one selected', { window: 3, selected: 1 }, random],
  ['more room than tokens', { window: 3, selected: 50 }, random],
  ['a window longer than the sequence', { window: 50, selected: 3 }, random],
  ['no selection: a sliding window', { window: 6, selected: 0 }, random],
  ['scores of which many are equal', { window: 4, selected: 5 }, { x: withTies(6), given: tied }],
  ['ties, a window of one and one selected', { window: 1, selected: 1 }, { x: withTies(7), given: tied }],
  ['scores that are all equal', { window: 3, selected: 4 }, { x: withTies(8), given: equal }],
];

function weightsFor({ given = {} }: Inputs) {
  return (specs: Iterable<ParameterSpec>): Weights => {
    const known = [...specs];
    const used = Object.entries(given).filter(([name]) => known.some((spec) => spec.name === name));
    return randomWeights(known, { given: Object.fromEntries(used) });
  };
}

describe('causal', () => {
  for (const [name, options, inputs] of cases) {
    test(name, async () => {
      const config = { ...base, ...options };
      let weights: Weights = new Map();
      const runs = await compileMixer(device, selectiveAttention(config), hiddenSize, (specs) => {
        weights = weightsFor(inputs)(specs);
        return weights;
      });
      const { output, selections } = reference(config, weights, inputs.x);
      const longer = options.window < sequence;
      expect(selections > 0, 'the case is about selection').toBe(longer && options.selected > 0);
      expect(relativeError(await runs.whole(inputs.x), output), 'parallel').toBeLessThan(TOLERANCE);
      for (const sizes of [[1], [sequence], [7], [3, 1, 19, 2]]) {
        const streamed = await runs.inPieces(inputs.x, sizes);
        expect(relativeError(streamed.output, output), `in pieces of ${sizes}`).toBeLessThan(TOLERANCE);
      }
    });
  }
});

describe('bidirectional', () => {
  const options: [string, Omit<SelectiveAttentionConfig, keyof typeof base>, Inputs][] = [
    ...cases,
    ['the whole sequence selected, a window of one', { window: 1, selected: sequence }, random],
  ];
  for (const [name, option, inputs] of options) {
    test(name, async () => {
      const config = { ...base, ...option, causal: false };
      const mixer = selectiveAttention(config);
      expect(mixer.state).toEqual([]);
      let weights: Weights = new Map();
      const runs = await compileMixer(device, mixer, hiddenSize, (specs) => {
        weights = weightsFor(inputs)(specs);
        return weights;
      });
      const { output } = reference(config, weights, inputs.x);
      expect(relativeError(await runs.whole(inputs.x), output)).toBeLessThan(TOLERANCE);
    });
  }
});

test('the ties in these cases decide: taking the later of equal scores gives another output', async () => {
  const config = { ...base, window: 4, selected: 5 };
  const x = withTies(6);
  let weights: Weights = new Map();
  const runs = await compileMixer(device, selectiveAttention(config), hiddenSize, (specs) => {
    weights = weightsFor({ x, given: tied })(specs);
    return weights;
  });
  // The least rise of later tokens' scores reverses every tie, and nothing else that is visible.
  const reversed = { ...x, data: (x.data as Float32Array).slice() };
  for (let token = 0; token < 2 * sequence; token++) {
    reversed.data[token * hiddenSize]! += (token % sequence) * 2 ** -18;
  }
  const { output } = reference(config, weights, reversed);
  expect(relativeError(await runs.whole(x), output)).toBeGreaterThan(0.01);
});

describe('memory', () => {
  const mixers = {
    'sliding window': slidingWindowAttention({ ...base, window: 6 }),
    selective: selectiveAttention({ ...base, window: 4, selected: 5 }),
    mamba2: mamba2({
      hiddenSize,
      numHeads: 2,
      headDim: 4,
      stateSize: 3,
      numGroups: 1,
      convKernel: 4,
      convBias: true,
      projectionBias: false,
      timeStepLimit: [0, Number.POSITIVE_INFINITY],
      normGroups: 1,
      normEpsilon: 1e-5,
      outputDeviation: 0.02,
    }),
  };
  for (const [name, mixer] of Object.entries(mixers)) {
    test(`${name}: as many bytes as declared, whatever the length`, async () => {
      const runs = await compileMixer(device, mixer, hiddenSize, randomWeights);
      const bytesAfter = async (length: number, batch: number): Promise<number> => {
        const { states } = await runs.inPieces(uniform(1, [batch, length, hiddenSize]), [100]);
        return states.reduce((sum, { bytes }) => sum + bytes, 0);
      };
      const declared = stateBytes(mixer.state, 10);
      expect(declared).toBeGreaterThan(0);
      expect(stateBytes(mixer.state, 1000)).toBe(declared);
      expect(await bytesAfter(10, 1)).toBe(declared);
      expect(await bytesAfter(1000, 1)).toBe(declared);
      expect(await bytesAfter(10, 3)).toBe(3 * declared);
    });
  }

  test('of a window of 4 and 5 selected: 8 keys and values of 2 heads of 4, and 8 scores', () => {
    expect(stateBytes(mixers.selective.state, 1)).toBe(4 * (8 * 2 * 2 * 4 + 8));
  });
});

test('a window or a selection that cannot be is an error that names it', () => {
  const build = (window: number, selected: number) => () => selectiveAttention({ ...base, window, selected });
  expect(build(0, 3)).toThrow(ConfigError);
  expect(build(0, 3)).toThrow(/window is 0/);
  expect(build(2.5, 3)).toThrow(/window is 2.5/);
  expect(build(2, -1)).toThrow(/selected is -1/);
});
