/** Ling-3.0, which transformers does not have: logits against a plain reading of its definition in float64, token by token. */
import { expect, test } from 'vitest';
import { sigmoid, silu, softplus } from '../../nn/testing/definition.js';
import { modelFromConfig } from '../config-file.js';
import { added, dot, type PlainWeights, provePlainly, range, type Vector } from '../testing/plain-reading.js';

const config = {
  architectures: ['BailingMoeV3ForCausalLM'],
  model_type: 'bailing_hybrid',
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 6,
  layer_group_size: 4,
  num_attention_heads: 3,
  num_key_value_heads: 3,
  head_dim: 6,
  short_conv_kernel_size: 3,
  kda_safe_gate: true,
  kda_lower_bound: -5,
  q_lora_rank: 10,
  kv_lora_rank: 8,
  qk_nope_head_dim: 5,
  qk_rope_head_dim: 4,
  v_head_dim: 7,
  rope_theta: 600,
  partial_rotary_factor: 0.5,
  gated_attention_proj_granularity_type: 'head_wise',
  num_experts: 8,
  num_experts_per_tok: 3,
  n_group: 4,
  topk_group: 2,
  routed_scaling_factor: 2.5,
  num_shared_experts: 1,
  moe_intermediate_size: 9,
  moe_shared_expert_intermediate_size: 11,
  first_k_dense_replace: 1,
  rms_norm_eps: 1e-6,
};

type Config = typeof config;

/** Logits of a text: vectors of numbers in float64, one token after the other. */
function plainly(config: Config, weights: PlainWeights, ids: readonly number[]): number[] {
  const { num_attention_heads: heads, head_dim: size, rms_norm_eps: epsilon } = config;
  const at = (name: string): ArrayLike<number> => weights.at(name);
  const linear = (name: string, x: Vector): Vector => weights.linear(name, x);
  const normed = (name: string, x: Vector): Vector => weights.rmsNormed(name, x, epsilon);
  const unit = (x: Vector): Vector => x.map((value) => value / Math.sqrt(dot(x, x) + 1e-6));
  const mlp = (name: string, x: Vector): Vector => {
    const value = linear(`${name}.up_proj`, x);
    return linear(
      `${name}.down_proj`,
      linear(`${name}.gate_proj`, x).map((gate, i) => silu(gate) * value[i]!),
    );
  };

  const memories = range(config.num_hidden_layers).map(() => ({
    inputs: [] as Vector[],
    S: range(heads).map(() => range(size).map(() => new Array<number>(size).fill(0))),
    latents: [] as Vector[],
  }));

  const delta = (name: string, x: Vector, memory: (typeof memories)[0]): Vector => {
    memory.inputs.push(['q', 'k', 'v'].flatMap((part) => linear(`${name}.${part}_proj`, x)));
    const kernel = config.short_conv_kernel_size;
    const taps = at(`${name}.conv1d.weight`);
    const mixed = memory.inputs[0]!.map((_, c) => {
      const seen = range(kernel).map((k) => memory.inputs[memory.inputs.length - kernel + k]?.[c] ?? 0);
      return silu(dot(seen, taps, c * kernel));
    });
    const part = (i: number, h: number): Vector => mixed.slice((i * heads + h) * size).slice(0, size);
    const f = linear(`${name}.f_proj`, x);
    const z = linear(`${name}.g_proj`, x);
    const beta = linear(`${name}.b_proj`, x).map(sigmoid);
    const output = range(heads).flatMap((h) => {
      const q = unit(part(0, h)).map((value) => value / Math.sqrt(size));
      const [k, v] = [unit(part(1, h)), part(2, h)];
      const S = memory.S[h]!;
      const rate = Math.exp(at(`${name}.A_log`)[h]!);
      for (const i of range(size)) {
        const raw = f[h * size + i]! + at(`${name}.dt_bias`)[h * size + i]!;
        const g = config.kda_safe_gate ? config.kda_lower_bound * sigmoid(rate * raw) : -rate * softplus(raw);
        S[i] = S[i]!.map((value) => value * Math.exp(g));
      }
      const held = range(size).map((j) => range(size).reduce((sum, i) => sum + S[i]![j]! * k[i]!, 0));
      for (const i of range(size)) S[i] = S[i]!.map((s, j) => s + k[i]! * beta[h]! * (v[j]! - held[j]!));
      const o = range(size).map((j) => range(size).reduce((sum, i) => sum + S[i]![j]! * q[i]!, 0));
      return normed(`${name}.o_norm`, o).map((value, j) => value * sigmoid(z[h * size + j]!));
    });
    return linear(`${name}.o_proj`, output);
  };

  const turned = (x: Vector, position: number): Vector =>
    x.map((value, i) => {
      const angle = position * config.rope_theta ** (-(i - (i % 2)) / x.length);
      return i % 2 === 0
        ? value * Math.cos(angle) - x[i + 1]! * Math.sin(angle)
        : value * Math.cos(angle) + x[i - 1]! * Math.sin(angle);
    });

  const latent = (name: string, x: Vector, memory: (typeof memories)[0], t: number): Vector => {
    const [plain, rotary, width] = [config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim];
    const query = linear(`${name}.q_b_proj`, normed(`${name}.q_a_layernorm`, linear(`${name}.q_a_proj`, x)));
    const both = linear(`${name}.kv_a_proj_with_mqa`, x);
    const c = normed(`${name}.kv_a_layernorm`, both.slice(0, config.kv_lora_rank));
    memory.latents.push([...linear(`${name}.kv_b_proj`, c), ...turned(both.slice(config.kv_lora_rank), t)]);
    const open = linear(`${name}.g_proj`, x).map(sigmoid);
    const output = range(heads).flatMap((h) => {
      const q = query.slice(h * (plain + rotary), (h + 1) * (plain + rotary));
      const rotated = [...q.slice(0, plain), ...turned(q.slice(plain), t)];
      const logits = memory.latents.map((kept) => {
        const from = h * (plain + width);
        const key = [...kept.slice(from, from + plain), ...kept.slice(heads * (plain + width))];
        return dot(rotated, key) / Math.sqrt(plain + rotary);
      });
      const shares = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
      const sum = shares.reduce((a, b) => a + b);
      return range(width).map(
        (j) =>
          open[h]! *
          shares.reduce(
            (mean, s, i) => mean + (s / sum) * memory.latents[i]![h * (plain + width) + plain + j]!,
            0,
          ),
      );
    });
    return linear(`${name}.dense`, output);
  };

  const mixture = (name: string, x: Vector): Vector => {
    const { num_experts: count, n_group: groups, moe_intermediate_size: inner } = config;
    const scores = linear(`${name}.gate`, x).map(sigmoid);
    const biased = scores.map((score, e) => score + at(`${name}.gate.expert_bias`)[e]!);
    const best = (values: Vector, most: number): number[] =>
      range(values.length)
        .sort((a, b) => values[b]! - values[a]!)
        .slice(0, most);
    const each = count / groups;
    const sums = range(groups).map((g) => {
      const own = biased.slice(g * each, (g + 1) * each);
      return best(own, 2).reduce((sum, e) => sum + own[e]!, 0);
    });
    const open = best(sums, config.topk_group);
    const allowed = biased.map((value, e) => (open.includes(Math.floor(e / each)) ? value : -1e9));
    const chosen = best(allowed, config.num_experts_per_tok);
    const total = chosen.reduce((sum, e) => sum + scores[e]!, 0);
    const hidden = x.length;
    const routed = chosen.map((e) => {
      const raised = range(2 * inner).map((row) =>
        dot(x, at(`${name}.experts.gate_up_proj`), (e * 2 * inner + row) * hidden),
      );
      const active = range(inner).map((i) => silu(raised[i]!) * raised[inner + i]!);
      const weight = (config.routed_scaling_factor * scores[e]!) / total;
      return range(hidden).map(
        (row) => weight * dot(active, at(`${name}.experts.down_proj`), (e * hidden + row) * inner),
      );
    });
    return [...routed, mlp(`${name}.shared_experts`, x)].reduce(added);
  };

  return ids.flatMap((id, t) => {
    let x = range(config.hidden_size).map(
      (i) => at('model.word_embeddings.weight')[id * config.hidden_size + i]!,
    );
    for (const [i, memory] of memories.entries()) {
      const name = `model.layers.${i}`;
      const y = normed(`${name}.input_layernorm`, x);
      const isFull = (i + 1) % 4 === 0 || i >= 4;
      x = added(
        x,
        isFull ? latent(`${name}.attention`, y, memory, t) : delta(`${name}.attention`, y, memory),
      );
      const z = normed(`${name}.post_attention_layernorm`, x);
      x = added(x, i < config.first_k_dense_replace ? mlp(`${name}.mlp`, z) : mixture(`${name}.mlp`, z));
    }
    return linear('lm_head', normed('model.norm', x));
  });
}

provePlainly(
  {
    'Ling-3.0 with the safe gate': [config, 'K-KEKEAEAEAE'],
    'Ling-3.0 without it': [{ ...config, kda_safe_gate: false, routed_scaling_factor: 1 }, 'K-KEKEAEAEAE'],
  },
  plainly,
);

test('other models of the same model_type are told apart by their architectures', () => {
  for (const architectures of [['BailingMoeV2_5ForCausalLM'], [], undefined]) {
    expect(() => modelFromConfig({ ...config, architectures }, 'there/config.json')).toThrow(
      /there\/config\.json.*the architectures .*BailingMoeV3ForCausalLM/,
    );
  }
});

test('what version 3 may have besides is refused by its key', () => {
  for (const [key, value] of Object.entries({
    use_bias: true,
    expert_swiglu_limit_list: [0, 7],
    score_function: 'softmax',
    no_kda_lora: false,
    num_experts: 7,
  })) {
    expect(() => modelFromConfig({ ...config, [key]: value }, 'config.json')).toThrow(key);
  }
});
