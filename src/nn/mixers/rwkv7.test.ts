/** RWKV-7's time mixing, a first layer and another: the published definition in float64, the law, gradients, and what is refused. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../errors.js';
import { input, scalar, type Tensor } from '../../graph/index.js';
import { type NdArray, tabulate, total } from '../../graph/testing/arrays.js';
import { chain, named } from '../compose.js';
import { linear } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { ParameterRegistry } from '../parameters.js';
import { Random } from '../random.js';
import { parametersOf, sigmoid } from '../testing/definition.js';
import { proveMixer, spreadWeights } from '../testing/prove.js';
import { dot, headOf, linearOf, Memory, range, tokenByToken, type Weight } from '../testing/token-loop.js';
import { type Rwkv7Config, rwkv7 } from './rwkv7.js';

const base: Rwkv7Config = {
  hiddenSize: 8,
  headDim: 4,
  decayRank: 3,
  gateRank: 5,
  rateRank: 2,
  valueRank: 3,
  layer: 0,
  numLayers: 4,
  normEpsilon: 1e-5,
  outputDeviation: 0.02,
};

/** The layers one after the other, in a model: what the first leaves reaches the others. */
function inModel(...layers: Mixer[]): Mixer {
  const all = chain(...layers.map((layer, i) => named(`${i}`, layer)));
  return {
    state: all.state,
    forward: (parameters, x, context) =>
      all.forward(parameters, x, { ...context, carried: new Map<string, Tensor>() }),
  };
}

/** A later layer alone: the first values are a map of its input. */
function afterValues(layer: Mixer, width: number): Mixer {
  return {
    state: layer.state,
    forward(parameters, x, context) {
      const values = parameters.within('first', (p) => linear(p, x, width));
      return layer.forward(parameters, x, { ...context, carried: new Map([['rwkv7.values', values]]) });
    },
  };
}

/** One layer: its output, and its values, which those of the first layer are mixed into. */
function layerOf(config: Rwkv7Config, weight: Weight, x: NdArray, first?: NdArray): [NdArray, NdArray] {
  const { hiddenSize: W, headDim: D } = config;
  const [batch, sequence] = x.dims as [number, number];
  const mixed = (use: string): NdArray =>
    tabulate(x.dims, (b, t, i) => {
      const now = x.at(b!, t!, i!);
      const before = t! > 0 ? x.at(b!, t! - 1, i!) : 0;
      return now + (before - now) * weight('x_x').at('rwkvag'.indexOf(use), i!);
    });
  const low = (name: string, from: NdArray, f: (x: number) => number, withBias: boolean): NdArray => {
    const inner = linearOf(weight, `${name}.lora.0`, from);
    return linearOf(
      weight,
      `${name}.lora.2`,
      tabulate(inner.dims, (...at) => f(inner.at(...at))),
      withBias,
    );
  };
  const same = (value: number): number => value;
  const r = linearOf(weight, 'r_proj', mixed('r'));
  const rawKey = linearOf(weight, 'k_proj', mixed('k'));
  const rawValue = linearOf(weight, 'v_proj', mixed('v'));
  const w = low('w_lora', mixed('w'), Math.tanh, true);
  const a = low('a_lora', mixed('a'), same, true);
  const g = low('g_lora', mixed('g'), sigmoid, false);
  const share = first && low('v_lora', mixed('v'), same, true);
  const v = tabulate(x.dims, (b, t, i) => {
    const own = rawValue.at(b!, t!, i!);
    return first ? own + (first.at(b!, t!, i!) - own) * sigmoid(share!.at(b!, t!, i!)) : own;
  });
  const all = tokenByToken([batch, sequence, W], (row) => {
    const memories = range(W / D).map(() => Memory.zeros(D, D));
    return (t) =>
      memories.flatMap((memory, h) => {
        const at = (i: number): number => h * D + i;
        const rate = headOf(a, row, t, h, D).map(sigmoid);
        const raw = headOf(rawKey, row, t, h, D);
        const long = raw.map((value, i) => value * weight('k_k').at(at(i)));
        const kk = long.map((value) => value / Math.max(Math.sqrt(dot(long, long)), 1e-12));
        const k = raw.map((value, i) => value * (1 + (rate[i]! - 1) * weight('k_a').at(at(i))));
        const value = headOf(v, row, t, h, D);
        // Found before the decay, as it is published.
        const found = memory.read(kk);
        memory.decay(headOf(w, row, t, h, D).map((x) => Math.exp(-0.6065306597126334 * sigmoid(x))));
        memory.write(k, value);
        memory.write(
          kk.map((x, i) => x * rate[i]!),
          found.map((x) => -x),
        );
        const query = headOf(r, row, t, h, D);
        const o = memory.read(query);
        const mean = total(D, (i) => o[i]!) / D;
        const variance = total(D, (i) => (o[i]! - mean) ** 2) / D;
        const bonus = total(D, (i) => query[i]! * k[i]! * weight('r_k').at(h, i));
        return o.map((x, i) => {
          const normed = (x - mean) / Math.sqrt(variance + D * config.normEpsilon);
          const scaled = normed * weight('g_norm.weight').at(at(i)) + weight('g_norm.bias').at(at(i));
          return (scaled + bonus * value[i]!) * g.at(row, t, at(i));
        });
      });
  });
  return [linearOf(weight, 'o_proj', all), rawValue];
}

const within =
  (weight: Weight, prefix: string): Weight =>
  (name) =>
    weight(`${prefix}.${name}`);

function provenLayers(name: string, count: number): void {
  const build = (change: Partial<Rwkv7Config>): Mixer =>
    inModel(...range(count).map((layer) => rwkv7({ ...base, ...change, layer })));
  const few = { ...base, hiddenSize: 4, headDim: 4, normEpsilon: 0.5 };
  const small = count === 1 ? rwkv7(few) : afterValues(rwkv7({ ...few, layer: 1 }), 4);
  proveMixer(name, {
    mixer: build({}),
    hiddenSize: 8,
    definition(weight, x) {
      let [stream, first] = [x, undefined as NdArray | undefined];
      for (const layer of range(count)) {
        const [output, values] = layerOf({ ...base, layer }, within(weight, `${layer}`), stream, first);
        [stream, first] = [output, first ?? values];
      }
      return stream;
    },
    small: {
      mixer: small,
      hiddenSize: 4,
      // Normalised keys bend where they are short; decays that are hardly any have hardly any gradient.
      weights: {
        ...spreadWeights(small, 4, /[kr]_proj|k_k|x_x|w_lora.*weight/),
        'w_lora.lora.2.bias': [0.5, -0.5, 0, 1],
      },
    },
  });
}

provenLayers('a first layer', 1);
provenLayers('a first layer and another', 2);

describe('what it consists of', () => {
  test('a first layer has no map for the values of others', () => {
    const names = [...parametersOf(rwkv7(base), 8).keys()];
    expect(names.filter((name) => name.startsWith('v_lora'))).toEqual([]);
    expect(names).toContain('w_lora.lora.2.bias');
    expect(names).not.toContain('g_lora.lora.2.bias');
  });

  test('shares of the token before start between 0 and 1, and fall off over the channels', () => {
    const { shape, initialize } = parametersOf(rwkv7(base), 8).get('x_x')!;
    // Those of the decay.
    const shares = [...initialize(new Random(1), shape)].slice(8, 16);
    expect(shares[0]).toBe(1);
    expect(shares).toEqual([...shares].sort((a, b) => b - a));
    expect(shares.at(-1)).toBeGreaterThan(0);
  });
});

describe('refused', () => {
  test('heads that do not divide the hidden size', () => {
    expect(() => rwkv7({ ...base, headDim: 3 })).toThrow(ConfigError);
    expect(() => rwkv7({ ...base, headDim: 3 })).toThrow(/8 is no whole number of heads of 3/);
  });

  test('a later layer without a first', () => {
    const x = input('x', 'float32', ['batch', 'sequence', 8]);
    const lone = () =>
      rwkv7({ ...base, layer: 1 }).forward(new ParameterRegistry().root(), x, {
        position: scalar(0, 'int64'),
        carried: new Map(),
      });
    expect(lone).toThrow(ConfigError);
    expect(lone).toThrow(/those of the first, and there is none/);
  });
});
