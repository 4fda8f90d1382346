/** RWKV-7, which transformers does not have: logits against a plain reading of fla's definition in float64, token by token. */
import { expect, test } from 'vitest';
import { sigmoid } from '../../nn/testing/definition.js';
import { modelFromConfig } from '../config-file.js';
import { parametersOf } from '../model.js';
import { added, dot, type PlainWeights, provePlainly, range, type Vector } from '../testing/plain-reading.js';

const config = {
  model_type: 'rwkv7',
  vocab_size: 40,
  hidden_size: 12,
  hidden_ratio: 3 as number | null,
  intermediate_size: null as number | null,
  num_hidden_layers: 3,
  head_dim: 4,
  value_dim: [12, 12, 12] as number | number[],
  decay_low_rank_dim: 3,
  gate_low_rank_dim: 5,
  a_low_rank_dim: 2,
  v_low_rank_dim: 3,
  hidden_act: 'sqrelu',
  norm_first: true,
  norm_bias: true,
  norm_eps: 1e-5,
  fuse_norm: false,
  attn: null,
  tie_word_embeddings: false,
};

type Config = typeof config;

/** Logits of a text, in the order of fla's layers/rwkv7.py and models/rwkv7/modeling_rwkv7.py. */
function plainly(config: Config, weights: PlainWeights, ids: readonly number[]): number[] {
  const { hidden_size: width, head_dim: size, norm_eps: epsilon } = config;
  const heads = width / size;
  const normed = (name: string, x: Vector): Vector => weights.layerNormed(name, x, epsilon);
  const low = (name: string, x: Vector, between: (x: number) => number): Vector => {
    const output = weights.linear(`${name}.lora.2`, weights.linear(`${name}.lora.0`, x).map(between));
    if (name.endsWith('g_lora')) return output;
    return output.map((value, i) => value + weights.at(`${name}.lora.2.bias`)[i]!);
  };
  const same = (x: number): number => x;

  const memories = range(config.num_hidden_layers).map(() => ({
    attn: range(width).map(() => 0),
    ffn: range(width).map(() => 0),
    S: undefined as Vector[][] | undefined,
  }));

  const timeMix = (i: number, x: Vector, first: Vector | undefined): [output: Vector, values: Vector] => {
    const name = `model.layers.${i}.attn`;
    const memory = memories[i]!;
    const mixed = (row: number): Vector => {
      const shares = weights.row(`${name}.x_x`, row, width);
      return x.map((now, c) => now + (memory.attn[c]! - now) * shares[c]!);
    };
    const [xr, xw, xk, xv, xa, xg] = range(6).map(mixed) as [Vector, Vector, Vector, Vector, Vector, Vector];
    memory.attn = x;
    const r = weights.linear(`${name}.r_proj`, xr);
    const w = low(`${name}.w_lora`, xw, Math.tanh).map((raw) => Math.exp(-0.6065306597126334 * sigmoid(raw)));
    const rawKey = weights.linear(`${name}.k_proj`, xk);
    const raw = weights.linear(`${name}.v_proj`, xv);
    const shares = first && low(`${name}.v_lora`, xv, same).map(sigmoid);
    const v = raw.map((value, c) => (first ? value + (first[c]! - value) * shares![c]! : value));
    const a = low(`${name}.a_lora`, xa, same).map(sigmoid);
    const g = low(`${name}.g_lora`, xg, sigmoid);
    const k = rawKey.map((key, c) => key * (1 + (a[c]! - 1) * weights.at(`${name}.k_a`)[c]!));
    const each = v.length / heads;
    memory.S ??= range(heads).map(() => range(size).map(() => range(each).map(() => 0)));
    const output = range(heads).flatMap((h) => {
      const at = (part: Vector): Vector => part.slice(h * size, (h + 1) * size);
      const long = at(rawKey).map((key, c) => key * weights.at(`${name}.k_k`)[h * size + c]!);
      const length = Math.sqrt(dot(long, long) + (config.fuse_norm ? 1e-6 : 0));
      const kk = long.map((key) => key / length);
      const values = v.slice(h * each, (h + 1) * each);
      const S = memory.S![h]!;
      const found = range(each).map((j) => kk.reduce((sum, key, c) => sum + S[c]![j]! * key, 0));
      for (const c of range(size)) {
        S[c] = S[c]!.map((s, j) => s * at(w)[c]! - kk[c]! * at(a)[c]! * found[j]! + at(k)[c]! * values[j]!);
      }
      const o = range(each).map((j) => at(r).reduce((sum, query, c) => sum + S[c]![j]! * query, 0));
      const bonus = range(size).reduce(
        (sum, c) => sum + at(r)[c]! * at(k)[c]! * weights.at(`${name}.r_k`)[h * size + c]!,
        0,
      );
      return weights
        .layerNormed(`${name}.g_norm`, o, size * epsilon, h * each)
        .map((value, j) => (value + bonus * values[j]!) * g[h * each + j]!);
    });
    return [weights.linear(`${name}.o_proj`, output), raw];
  };

  const channelMix = (i: number, x: Vector): Vector => {
    const name = `model.layers.${i}.ffn`;
    const memory = memories[i]!;
    const mixed = x.map((now, c) => now + (memory.ffn[c]! - now) * weights.at(`${name}.x_k`)[c]!);
    memory.ffn = x;
    const inner = weights.linear(`${name}.key`, mixed).map((value) => Math.max(value, 0) ** 2);
    return weights.linear(`${name}.value`, inner);
  };

  return ids.flatMap((id) => {
    let x = weights.row('model.embeddings.weight', id, width);
    let first: Vector | undefined;
    for (const i of range(config.num_hidden_layers)) {
      const name = `model.layers.${i}`;
      if (i === 0 && config.norm_first) x = normed(`${name}.pre_norm`, x);
      const [mixed, values] = timeMix(i, normed(`${name}.attn_norm`, x), first);
      first ??= values;
      x = added(x, mixed);
      x = added(x, channelMix(i, normed(`${name}.ffn_norm`, x)));
    }
    return weights.linear(
      config.tie_word_embeddings ? 'model.embeddings' : 'lm_head',
      normed('model.norm', x),
    );
  });
}

provePlainly(
  {
    'RWKV-7': [config, '(V-)x3'],
    'RWKV-7 with wide values, fused norms, a tied head': [
      {
        ...config,
        value_dim: 24,
        fuse_norm: true,
        intermediate_size: 20,
        norm_eps: 1e-3,
        tie_word_embeddings: true,
      },
      '(V-)x3',
    ],
    'RWKV-7 without the first norm and biases': [
      { ...config, norm_first: false, norm_bias: false, num_hidden_layers: 2, value_dim: 12, head_dim: 6 },
      '(V-)x2',
    ],
  },
  plainly,
);

test('its parameters are those of the hub, the shares of the token before in one piece or in six', () => {
  const specs = new Map(
    parametersOf(modelFromConfig(config, 'config.json')).map((spec) => [spec.name, spec]),
  );
  expect([...specs.keys()].filter((name) => name.startsWith('model.layers.0.'))).toEqual([
    'model.layers.0.pre_norm.weight',
    'model.layers.0.pre_norm.bias',
    'model.layers.0.attn_norm.weight',
    'model.layers.0.attn_norm.bias',
    'model.layers.0.attn.x_x',
    'model.layers.0.attn.r_proj.weight',
    'model.layers.0.attn.k_proj.weight',
    'model.layers.0.attn.v_proj.weight',
    'model.layers.0.attn.w_lora.lora.0.weight',
    'model.layers.0.attn.w_lora.lora.2.weight',
    'model.layers.0.attn.w_lora.lora.2.bias',
    'model.layers.0.attn.a_lora.lora.0.weight',
    'model.layers.0.attn.a_lora.lora.2.weight',
    'model.layers.0.attn.a_lora.lora.2.bias',
    'model.layers.0.attn.k_k',
    'model.layers.0.attn.k_a',
    'model.layers.0.attn.g_norm.weight',
    'model.layers.0.attn.g_norm.bias',
    'model.layers.0.attn.r_k',
    'model.layers.0.attn.g_lora.lora.0.weight',
    'model.layers.0.attn.g_lora.lora.2.weight',
    'model.layers.0.attn.o_proj.weight',
    'model.layers.0.ffn_norm.weight',
    'model.layers.0.ffn_norm.bias',
    'model.layers.0.ffn.x_k',
    'model.layers.0.ffn.key.weight',
    'model.layers.0.ffn.value.weight',
  ]);
  expect(specs.get('model.layers.1.attn.x_x')!.parts!.map(({ name }) => name)).toEqual(
    ['r', 'w', 'k', 'v', 'a', 'g'].map((use) => `model.layers.1.attn.x_${use}`),
  );
  expect(specs.get('model.layers.0.ffn.key.weight')!.shape).toEqual([64, 12]);
  expect(specs.get('model.layers.1.attn.v_lora.lora.0.weight')!.shape).toEqual([3, 12]);
});

test.each([
  [null, [64, 160, 64, 64]],
  [undefined, [64, 128, 64, 16]],
] as const)('ranks that a config has as %s are as in fla', (given, expected) => {
  const { decay_low_rank_dim, gate_low_rank_dim, a_low_rank_dim, v_low_rank_dim, ...rest } = config;
  const ranks = {
    decay_low_rank_dim: given,
    gate_low_rank_dim: given,
    a_low_rank_dim: given,
    v_low_rank_dim: given,
  };
  const large = { ...rest, ...(given === null && ranks), hidden_size: 1024, head_dim: 64, value_dim: null };
  const shapes = new Map(parametersOf(modelFromConfig(large, 'c')).map(({ name, shape }) => [name, shape]));
  const rank = (name: string): number => shapes.get(`model.layers.1.attn.${name}_lora.lora.0.weight`)![0]!;
  expect([rank('w'), rank('g'), rank('a'), rank('v')]).toEqual(expected);
});

test('what is not RWKV-7 as it is published is refused by its key', () => {
  for (const [key, value] of Object.entries({
    attn: { layers: [1], num_heads: 3 },
    value_dim: [12, 24, 12],
    head_dim: 5,
    hidden_act: 'mish',
    num_hidden_layers: 0,
  })) {
    expect(() => modelFromConfig({ ...config, [key]: value }, 'there/config.json'), key).toThrow(
      new RegExp(`there/config\\.json.*${key}`),
    );
  }
});
