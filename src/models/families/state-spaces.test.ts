/** Mamba-3 in the format of state-spaces/mamba: logits against a plain reading of its modules in float64, token by token. */
import { expect, test } from 'vitest';
import { sigmoid, silu, softplus } from '../../nn/testing/definition.js';
import { modelFromConfig } from '../config-file.js';
import { parametersOf } from '../model.js';
import { added, dot, type PlainWeights, provePlainly, range, type Vector } from '../testing/plain-reading.js';

const config = {
  d_model: 12,
  n_layer: 3,
  vocab_size: 37,
  pad_vocab_size_multiple: 8,
  d_intermediate: 100,
  ssm_cfg: {
    layer: 'Mamba3',
    d_state: 8,
    expand: 2,
    headdim: 6,
    ngroups: 2,
    rope_fraction: 0.5,
    A_floor: 1e-4,
    is_outproj_norm: false,
    is_mimo: false,
    mimo_rank: 4,
    chunk_size: 64,
  },
  attn_layer_idx: [],
  attn_cfg: {},
  rms_norm: true,
  residual_in_fp32: true,
  fused_add_norm: true,
  tie_embeddings: true,
};

type Config = typeof config;

/** Logits of a text, in the order of modules/mamba3.py, modules/block.py and models/mixer_seq_simple.py. */
function plainly(config: Config, weights: PlainWeights, ids: readonly number[]): number[] {
  const { d_model: width, ssm_cfg: own } = config;
  const { d_state: N, headdim: P, ngroups: G } = own;
  const inner = own.expand * width;
  const H = inner / P;
  const R = own.is_mimo ? own.mimo_rank : 1;
  const angles = Math.floor((N * own.rope_fraction) / 2);
  const normed = (name: string, x: Vector): Vector =>
    config.rms_norm ? weights.rmsNormed(name, x, 1e-5) : weights.layerNormed(name, x, 1e-5);

  const memories = range(config.n_layer * H).map(() => ({
    S: range(N).map(() => range(P).map(() => 0)),
    phases: range(angles).map(() => 0),
    keys: range(R).map(() => range(N).map(() => 0)),
    values: range(R).map(() => range(P).map(() => 0)),
  }));

  const mixed = (name: string, u: Vector, layer: number): Vector => {
    const all = weights.linear(`${name}.in_proj`, u);
    const parts = [inner, inner, R * G * N, R * G * N, H, H, H, angles].map((size) => all.splice(0, size));
    const [z, x, B, C, dtRaw, ARaw, trap, angle] = parts as [
      Vector,
      Vector,
      Vector,
      Vector,
      Vector,
      Vector,
      Vector,
      Vector,
    ];
    const factor = (which: string, h: number, r: number, p: number): number =>
      own.is_mimo ? weights.at(`${name}.mimo_${which}`)[(h * R + r) * P + p]! : 1;
    const output = range(H).flatMap((h) => {
      const memory = memories[layer * H + h]!;
      const dt = softplus(dtRaw[h]! + weights.at(`${name}.dt_bias`)[h]!);
      const A = -(ARaw[h]! >= 0 ? 1 + ARaw[h]! : 1 / (1 - ARaw[h]!));
      const decay = Math.exp(Math.min(A, -own.A_floor) * dt);
      const share = sigmoid(trap[h]!);
      memory.phases = memory.phases.map((phase, a) => phase + Math.tanh(angle[a]!) * dt * Math.PI);
      const turned = (raw: Vector, which: 'B' | 'C', r: number): Vector => {
        const group = Math.floor((h * G) / H);
        const part = raw.slice((r * G + group) * N, (r * G + group + 1) * N);
        const bias = weights.at(`${name}.${which}_bias`);
        const v = weights
          .rmsNormed(`${name}.${which}_norm`, part, 1e-5)
          .map((value, n) => value + bias[(h * R + r) * N + n]!);
        for (const [a, phase] of memory.phases.entries()) {
          const [i, j] = own.is_mimo ? [a, a + N / 2] : [2 * a, 2 * a + 1];
          const [first, second] = [v[i]!, v[j]!];
          v[i] = first * Math.cos(phase) - second * Math.sin(phase);
          v[j] = first * Math.sin(phase) + second * Math.cos(phase);
        }
        return v;
      };
      const keys = range(R).map((r) => turned(B, 'B', r));
      const values = range(R).map((r) => range(P).map((p) => x[h * P + p]! * factor('x', h, r, p)));
      for (const n of range(N)) {
        memory.S[n] = memory.S[n]!.map((state, p) =>
          range(R).reduce(
            (sum, r) =>
              sum +
              (1 - share) * dt * decay * memory.keys[r]![n]! * memory.values[r]![p]! +
              share * dt * keys[r]![n]! * values[r]![p]!,
            decay * state,
          ),
        );
      }
      [memory.keys, memory.values] = [keys, values];
      const byRank = range(R).map((r) => {
        const query = turned(C, 'C', r);
        const read = range(P).map(
          (p) =>
            query.reduce((sum, q, n) => sum + q * memory.S[n]![p]!, 0) +
            weights.at(`${name}.D`)[h]! * values[r]![p]!,
        );
        const scale = 1 / Math.sqrt(dot(read, read) / P + 1e-5);
        const y = own.is_outproj_norm
          ? read.map((value, p) => value * scale * weights.at(`${name}.norm.weight`)[h * P + p]!)
          : read;
        return y.map((value, p) => value * silu(z[h * P + p]! * factor('z', h, r, p)) * factor('o', h, r, p));
      });
      return byRank.reduce(added);
    });
    return weights.linear(`${name}.out_proj`, output);
  };

  const mlp = (name: string, x: Vector): Vector => {
    const both = weights.linear(`${name}.fc1`, x);
    const half = both.length / 2;
    return weights.linear(
      `${name}.fc2`,
      range(half).map((i) => both[i]! * silu(both[half + i]!)),
    );
  };

  return ids.flatMap((id) => {
    let x = weights.row('backbone.embedding.weight', id, width);
    for (const i of range(config.n_layer)) {
      const name = `backbone.layers.${i}`;
      x = added(x, mixed(`${name}.mixer`, normed(`${name}.norm`, x), i));
      if (config.d_intermediate > 0) x = added(x, mlp(`${name}.mlp`, normed(`${name}.norm2`, x)));
    }
    const hidden = normed('backbone.norm_f', x);
    return weights.linear(config.tie_embeddings ? 'backbone.embedding' : 'lm_head', hidden);
  });
}

const withCore = (change: Partial<Config['ssm_cfg']>, rest: Partial<Config> = {}): Config => ({
  ...config,
  ...rest,
  ssm_cfg: { ...config.ssm_cfg, ...change },
});

provePlainly(
  {
    'Mamba-3 with MLPs': [config, '(N-)x3'],
    'Mamba-3 with a norm before its gate, layer norms, and a head of its own': [
      withCore(
        { is_outproj_norm: true, rope_fraction: 1, ngroups: 1, A_floor: 0.9 },
        { d_intermediate: 0, rms_norm: false, tie_embeddings: false },
      ),
      '(N)x3',
    ],
    'Mamba-3 with several inputs': [
      withCore({ is_mimo: true, mimo_rank: 3 }, { d_intermediate: 0 }),
      '(N)x3',
    ],
    'Mamba-3 with several inputs and a norm': [
      withCore(
        { is_mimo: true, mimo_rank: 2, is_outproj_norm: true, ngroups: 1, headdim: 4 },
        { n_layer: 2 },
      ),
      '(N-)x2',
    ],
  },
  plainly,
);

test('sizes are rounded as the library rounds them', () => {
  const model = modelFromConfig(config, 'config.json');
  const shapes = new Map(parametersOf(model).map(({ name, shape }) => [name, shape]));
  expect(model.vocabSize).toBe(40);
  expect(shapes.get('backbone.layers.0.mlp.fc1.weight')).toEqual([256, 12]);
  expect(shapes.get('backbone.layers.0.mixer.B_bias')).toEqual([4, 1, 8]);
});

test('its Mamba-2 and Mamba are read by the same keys', () => {
  const pattern = (change: Record<string, unknown>): string =>
    modelFromConfig({ ...config, d_intermediate: 0, ...change }, 'config.json').pattern;
  expect(pattern({ ssm_cfg: { layer: 'Mamba2', d_state: 8, headdim: 6 } })).toBe('(M)x3');
  expect(pattern({ ssm_cfg: { layer: 'Mamba1', expand: 1.5 } })).toBe('(m)x3');
  expect(pattern({ ssm_cfg: {} })).toBe('(m)x3');
  expect(pattern({ ssm_cfg: null })).toBe('(m)x3');
});

test('what is not read is refused by its key', () => {
  for (const [key, value] of Object.entries({
    attn_layer_idx: [1],
    headdim: { ...config.ssm_cfg, headdim: 7 },
    ngroups: { ...config.ssm_cfg, ngroups: 3 },
    rope_fraction: { ...config.ssm_cfg, rope_fraction: 0.3 },
    layer: { layer: 'Mamba4' },
    norm_before_gate: { layer: 'Mamba2', headdim: 6, norm_before_gate: true },
    d_model: 0,
  })) {
    const where = key in config ? key : 'ssm_cfg';
    expect(() => modelFromConfig({ ...config, [where]: value }, 'there/config.json'), key).toThrow(
      new RegExp(`there/config\\.json.*${key}`),
    );
  }
});
