/**
 * Converts the metadata of a GGUF file to a `config.json` with Hugging Face's keys, by architecture. Multipliers that llama.cpp folds into the
 * weights, such as Falcon-H1's, become 1.
 */
import { quote } from '../../checkpoint/index.js';
import { ConfigError } from '../../errors.js';
import type { Gguf } from '../../gguf.js';
import { ropeFrom } from '../families/rope-scaling.js';
import { readGgufTensor } from './read.js';
import { GgufValues } from './values.js';

type Json = Record<string, unknown>;

/** The config keys of an architecture, in addition to the common ones. */
const ARCHITECTURES: Readonly<Record<string, (values: GgufValues) => Json>> = {
  llama: (v) => {
    if (v.number('expert_count', 0) > 0) throw v.refused('a llama with experts (Mixtral)');
    return {
      model_type: 'llama',
      ...attention(v),
      ...llamaMlp(v),
      attention_bias: v.has('blk.0.attn_q.bias'),
      mlp_bias: v.has('blk.0.ffn_gate.bias'),
    };
  },
  qwen3: (v) => ({ model_type: 'qwen3', ...attention(v), ...llamaMlp(v) }),
  granitehybrid: (v) => ({
    model_type: 'granitemoehybrid',
    ...attention(v),
    ...mamba2(v, 'mamba_'),
    layer_types: v.layers.map((i) => (v.kvHeads(i) > 0 ? 'attention' : 'mamba')),
    rms_norm_eps: v.epsilon,
    position_embedding_type: v.boolean('rope.scaling.finetuned', true) ? 'rope' : 'nope',
    embedding_multiplier: v.number('embedding_scale', 1),
    residual_multiplier: v.number('residual_scale', 1),
    attention_multiplier: v.number('attention.scale', 1 / Math.sqrt(v.headDim)),
    logits_scaling: v.number('logit_scale', 1),
    num_local_experts: v.number('expert_count', 0),
    num_experts_per_tok: v.number('expert_used_count', 0),
    intermediate_size: v.number('feed_forward_length'),
    shared_intermediate_size:
      v.number('expert_shared_feed_forward_length', 0) || v.number('feed_forward_length'),
  }),
  jamba: (v) => {
    const attends = v.layers.filter((i) => v.kvHeads(i) > 0);
    const sparse = v.layers.filter((i) => v.has(`blk.${i}.ffn_gate_inp.weight`));
    const period = (those: number[]): number => (those.length > 1 ? those[1]! - those[0]! : v.layers.length);
    return {
      model_type: 'jamba',
      ...attention(v),
      ...llamaMlp(v),
      attn_layer_period: period(attends),
      attn_layer_offset: attends[0] ?? v.layers.length,
      expert_layer_period: period(sparse),
      expert_layer_offset: sparse[0] ?? v.layers.length,
      num_experts: v.number('expert_count', 1),
      num_experts_per_tok: v.number('expert_used_count', 1),
      mamba_d_state: v.number('ssm.state_size'),
      mamba_d_conv: v.number('ssm.conv_kernel'),
      mamba_expand: v.number('ssm.inner_size') / v.number('embedding_length'),
      mamba_dt_rank: v.number('ssm.time_step_rank'),
      mamba_conv_bias: v.hasSome('ssm_conv1d.bias'),
      mamba_proj_bias: v.hasSome('ssm_in.bias'),
    };
  },
  mamba: (v) => ({
    model_type: v.boolean('ssm.dt_b_c_rms', false) ? 'falcon_mamba' : 'mamba',
    state_size: v.number('ssm.state_size'),
    intermediate_size: v.number('ssm.inner_size'),
    expand: v.number('ssm.inner_size') / v.number('embedding_length'),
    conv_kernel: v.number('ssm.conv_kernel'),
    time_step_rank: v.number('ssm.time_step_rank'),
    layer_norm_epsilon: v.epsilon,
    use_conv_bias: v.hasSome('ssm_conv1d.bias'),
    use_bias: v.hasSome('ssm_in.bias'),
  }),
  mamba2: (v) => ({
    model_type: 'mamba2',
    ...mamba2(v, ''),
    layer_norm_epsilon: v.epsilon,
  }),
  nemotron_h: nemotronH,
  nemotron_h_moe: nemotronH,
  'falcon-h1': (v) => ({
    model_type: 'falcon_h1',
    ...attention(v),
    ...llamaMlp(v),
    ...mamba2(v, 'mamba_'),
    mamba_d_ssm: v.number('ssm.inner_size'),
    mamba_rms_norm: v.hasSome('ssm_norm.weight'),
    projectors_bias: v.hasSome('ssm_out.bias'),
    attention_bias: v.hasSome('attn_q.bias'),
    mlp_bias: v.hasSome('ffn_gate.bias'),
    mamba_norm_before_gate: false,
    ...Object.fromEntries(
      ['embedding', 'lm_head', 'key', 'attention_in', 'attention_out', 'ssm_in', 'ssm_out'].map((name) => [
        `${name}_multiplier`,
        1,
      ]),
    ),
    ssm_multipliers: [1, 1, 1, 1, 1],
    mlp_multipliers: [1, 1],
  }),
  lfm2,
  lfm2moe: (v) => ({
    ...lfm2(v),
    model_type: 'lfm2_moe',
    intermediate_size: v.number('feed_forward_length'),
    moe_intermediate_size: v.number('expert_feed_forward_length'),
    num_dense_layers: v.number('leading_dense_block_count', 0),
    num_experts: v.number('expert_count'),
    num_experts_per_tok: v.number('expert_used_count'),
    use_expert_bias: v.hasSome('exp_probs_b.bias'),
  }),
  qwen3next: (v) => ({ ...gatedDelta(v), ...qwenMixture(v), model_type: 'qwen3_next', norm_topk_prob: true }),
  qwen35: (v) => ({
    ...gatedDelta(v),
    model_type: 'qwen3_5_text',
    intermediate_size: v.number('feed_forward_length'),
  }),
  qwen35moe: (v) => ({ ...gatedDelta(v), ...qwenMixture(v), model_type: 'qwen3_5_moe_text' }),
  'kimi-linear': (v) => {
    const [keyLength, rotary] = [v.number('attention.key_length_mla'), v.number('rope.dimension_count')];
    return {
      model_type: 'kimi_linear',
      intermediate_size: v.number('feed_forward_length'),
      rms_norm_eps: v.epsilon,
      num_attention_heads: v.number('attention.head_count'),
      num_key_value_heads: v.number('attention.head_count'),
      q_lora_rank: v.number('attention.q_lora_rank', 0) || null,
      kv_lora_rank: v.number('attention.kv_lora_rank'),
      qk_nope_head_dim: keyLength - rotary,
      qk_rope_head_dim: rotary,
      v_head_dim: v.number('attention.value_length_mla'),
      linear_attn_config: {
        head_dim: v.number('kda.head_dim'),
        num_heads: v.number('attention.head_count'),
        short_conv_kernel_size: v.number('ssm.conv_kernel'),
      },
      layer_types: v.layers.map((i) => (v.kvHeads(i) > 0 ? 'full_attention' : 'linear_attention')),
      first_k_dense_replace: v.number('leading_dense_block_count', 1),
      num_experts: v.number('expert_count'),
      num_experts_per_tok: v.number('expert_used_count'),
      moe_intermediate_size: v.number('expert_feed_forward_length'),
      num_shared_experts: v.number('expert_shared_count', 1),
      routed_scaling_factor: v.number('expert_weights_scale', 1),
      n_group: v.number('expert_group_count', 1),
      topk_group: v.number('expert_group_used_count', 1),
      norm_topk_prob: v.boolean('expert_weights_norm', true),
    };
  },
};

/** The config.json of a GGUF file. Throws `ConfigError` for an unsupported architecture and for missing keys. */
export async function ggufConfig(gguf: Gguf): Promise<Json> {
  const architecture = gguf.metadata['general.architecture'];
  const own = Object.hasOwn(ARCHITECTURES, String(architecture)) && ARCHITECTURES[String(architecture)];
  if (!own) {
    const known = Object.keys(ARCHITECTURES).join(', ');
    throw new ConfigError(
      `${gguf.path} has the general.architecture ${quote(architecture ?? 'missing')}; those that are read: ${known}`,
    );
  }
  const values = new GgufValues(gguf, String(architecture));
  const embedding = gguf.tensors.get('token_embd.weight');
  if (!embedding) throw new ConfigError(`${gguf.path} has no token_embd.weight: it is no language model`);
  const eos = gguf.metadata['tokenizer.ggml.eos_token_id'];
  const config = {
    vocab_size: embedding.shape[0],
    hidden_size: values.number('embedding_length'),
    num_hidden_layers: values.layers.length,
    max_position_embeddings: values.number('context_length', 0) || null,
    tie_word_embeddings: !gguf.tensors.has('output.weight'),
    ...(typeof eos === 'number' && { eos_token_id: eos }),
    ...own(values),
  };
  const factors = gguf.tensors.get('rope_freqs.weight');
  return factors ? { ...config, rope_parameters: await llama3Rope(gguf, values, config) } : config;
}

function attention(v: GgufValues): Json {
  return {
    num_attention_heads: v.number('attention.head_count'),
    num_key_value_heads: Math.max(1, ...v.layers.map((i) => v.kvHeads(i))),
    head_dim: v.headDim,
    rope_parameters: rope(v),
  };
}

function rope(v: GgufValues): Json {
  const theta = v.number('rope.freq_base', 10_000);
  const partial = v.number('rope.dimension_count', v.headDim) / v.headDim;
  const base = { rope_theta: theta, partial_rotary_factor: Math.min(1, partial) };
  const type = v.text('rope.scaling.type', 'none');
  const factor = v.number('rope.scaling.factor', 1);
  const original = v.number('rope.scaling.original_context_length', 0) || null;
  if (type === 'none') return { ...base, rope_type: 'default' };
  if (type === 'linear') return { ...base, rope_type: 'linear', factor };
  if (type !== 'yarn') throw v.refused(`rope.scaling.type ${quote(type)}`);
  return {
    ...base,
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: original,
    beta_fast: v.number('rope.scaling.yarn_beta_fast', 32),
    beta_slow: v.number('rope.scaling.yarn_beta_slow', 1),
  };
}

function llamaMlp(v: GgufValues): Json {
  return { intermediate_size: v.number('feed_forward_length'), rms_norm_eps: v.epsilon };
}

function mamba2(v: GgufValues, prefix: '' | 'mamba_'): Json {
  const inner = v.number('ssm.inner_size');
  const heads = v.number('ssm.time_step_rank');
  const expand = inner / v.number('embedding_length');
  const biases = { conv: v.hasSome('ssm_conv1d.bias'), projection: v.hasSome('ssm_in.bias') };
  const groups = v.number('ssm.group_count', 1);
  const state = v.number('ssm.state_size');
  const kernel = v.number('ssm.conv_kernel');
  return prefix === ''
    ? {
        num_heads: heads,
        head_dim: inner / heads,
        state_size: state,
        n_groups: groups,
        expand,
        conv_kernel: kernel,
        use_conv_bias: biases.conv,
        use_bias: biases.projection,
      }
    : {
        mamba_n_heads: heads,
        mamba_d_head: inner / heads,
        mamba_d_state: state,
        mamba_n_groups: groups,
        mamba_expand: expand,
        mamba_d_conv: kernel,
        mamba_conv_bias: biases.conv,
        mamba_proj_bias: biases.projection,
      };
}

function nemotronH(v: GgufValues): Json {
  const kind = (i: number): string => {
    if (v.kvHeads(i) > 0) return 'attention';
    if (v.has(`blk.${i}.ffn_gate_inp.weight`)) return 'moe';
    return v.has(`blk.${i}.ffn_up.weight`) ? 'mlp' : 'mamba';
  };
  const inner = v.number('ssm.inner_size');
  const heads = v.number('ssm.time_step_rank');
  const mlp = v.layers.find((i) => kind(i) === 'mlp');
  const sparse = v.number('expert_count', 0) > 0;
  return {
    model_type: 'nemotron_h',
    ...attention(v),
    layers_block_type: v.layers.map(kind),
    layer_norm_epsilon: v.epsilon,
    intermediate_size: mlp === undefined ? 1 : v.rows(`blk.${mlp}.ffn_up.weight`),
    mlp_bias: v.hasSome('ffn_up.bias'),
    mamba_num_heads: heads,
    mamba_head_dim: inner / heads,
    ssm_state_size: v.number('ssm.state_size'),
    n_groups: v.number('ssm.group_count', 1),
    conv_kernel: v.number('ssm.conv_kernel'),
    use_conv_bias: v.hasSome('ssm_conv1d.bias'),
    use_bias: v.hasSome('ssm_in.bias'),
    ...(sparse && {
      n_routed_experts: v.number('expert_count'),
      num_experts_per_tok: v.number('expert_used_count'),
      moe_intermediate_size: v.number('expert_feed_forward_length'),
      moe_shared_expert_intermediate_size: v.number('expert_shared_feed_forward_length'),
      moe_latent_size: v.number('moe_latent_size', 0) || null,
      routed_scaling_factor: v.number('expert_weights_scale', 1),
      norm_topk_prob: v.boolean('expert_weights_norm', true),
      n_group: v.number('expert_group_count', 1),
      topk_group: v.number('expert_group_used_count', 1),
    }),
  };
}

function lfm2(v: GgufValues): Json {
  return {
    model_type: 'lfm2',
    ...attention(v),
    block_auto_adjust_ff_dim: false,
    intermediate_size: v.number('feed_forward_length'),
    norm_eps: v.epsilon,
    conv_L_cache: v.number('shortconv.l_cache'),
    conv_bias: v.hasSome('shortconv.conv.bias'),
    layer_types: v.layers.map((i) => (v.kvHeads(i) > 0 ? 'full_attention' : 'conv')),
  };
}

function gatedDelta(v: GgufValues): Json {
  const valueHeads = v.number('ssm.time_step_rank');
  return {
    ...attention(v),
    rms_norm_eps: v.epsilon,
    linear_conv_kernel_dim: v.number('ssm.conv_kernel'),
    linear_key_head_dim: v.number('ssm.state_size'),
    linear_num_key_heads: v.number('ssm.group_count'),
    linear_num_value_heads: valueHeads,
    linear_value_head_dim: v.number('ssm.inner_size') / valueHeads,
    layer_types: v.layers.map((i) => (v.has(`blk.${i}.ssm_a`) ? 'linear_attention' : 'full_attention')),
    attention_bias: v.hasSome('attn_k.bias'),
  };
}

function qwenMixture(v: GgufValues): Json {
  return {
    num_experts: v.number('expert_count'),
    num_experts_per_tok: v.number('expert_used_count'),
    moe_intermediate_size: v.number('expert_feed_forward_length'),
    shared_expert_intermediate_size:
      v.number('expert_shared_feed_forward_length', 0) || v.number('expert_feed_forward_length'),
  };
}

/** The context length before rotary scaling, as in published models. */
const TRAINED = [8192, 4096, 2048, 16_384, 32_768];

/**
 * The parameters of Llama 3's rotary scaling. llama.cpp stores only the resulting divisor of each frequency, from which they are recovered.
 * Throws `ConfigError` for divisors of another kind.
 */
async function llama3Rope(gguf: Gguf, v: GgufValues, config: Json): Promise<Json> {
  const divisors = await readGgufTensor(gguf, 'rope_freqs.weight');
  const base = { ...(config.rope_parameters as Json), rope_type: 'default' };
  const plain = ropeFrom(
    base as Readonly<Record<string, unknown>>,
    2 * divisors.length,
    undefined,
  ).frequencies;
  const given = v.number('rope.scaling.original_context_length', 0);
  for (const original of given > 0 ? [given] : TRAINED) {
    const parameters = {
      ...base,
      rope_type: 'llama3',
      factor: Math.max(...divisors),
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: original,
    };
    const { frequencies } = ropeFrom(parameters, 2 * divisors.length, undefined);
    const fits = divisors.every((divisor, i) => Math.abs(plain[i]! / divisor / frequencies[i]! - 1) < 1e-4);
    if (fits) return parameters;
  }
  throw v.refused('rotary positions in rope_freqs.weight that are not of Llama 3');
}
