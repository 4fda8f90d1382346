/**
 * `bailing_hybrid` of version 3 (Ling-3.0): groups of layers with Kimi delta attention, whose decay is bounded by the safe
 * gate, and one of latent attention with rotary positions at the end of each; the heads of latent attention are gated. After the first
 * layers, which have MLPs, a mixture of experts with shared experts. Ling-2.6 and Ring have the same model_type but other layers;
 * `architectures` distinguishes them.
 *
 * transformers has no class for it. The definition is that of the model's own modeling_bailing_moe_v3.py, as implemented by vLLM and
 * llama.cpp; the test compares with a direct implementation in float64.
 */
import { z } from 'zod';
import {
  gatedMlp,
  kimiDeltaAttention,
  LLAMA_MLP,
  latentAttention,
  type Mixer,
  mixtureOfExperts,
  named,
  norm,
  residual,
  together,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  common,
  commonParts,
  defineFamily,
  eosTokens,
  epsilon,
  expectExperts,
  headCount,
  headSize,
  layer,
  layerCount,
  llamaNames,
  outputDeviation,
  ropeKeys,
  ropeOf,
  SWIGLU_EXPERTS,
  siluOnly,
  size,
} from './family.js';
import { groupedRouting, groupedRoutingKeys } from './grouped-routing.js';

/** Options of version 3 that no published model uses. */
const never = z.literal(false).default(false);
const noLimits = z
  .array(z.number().nullable())
  .nullish()
  .refine((limits) => limits?.every((limit) => !limit) ?? true, 'limits of activations are not read');

const schema = z.looseObject({
  ...common,
  ...ropeKeys,
  ...groupedRoutingKeys,
  eos_token_id: eosTokens(156_892),
  num_hidden_layers: layerCount,
  layer_group_size: layerCount.default(4),
  intermediate_size: size,
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  num_nextn_predict_layers: z.number().int().nonnegative().max(100).default(0),

  num_attention_heads: headCount,
  head_dim: headSize.default(128),
  short_conv_kernel_size: headSize.default(4),
  kda_safe_gate: z.boolean().default(true),
  kda_lower_bound: z.number().negative().default(-5),
  no_kda_lora: z.literal(true).default(true),

  q_lora_rank: size.nullish(),
  kv_lora_rank: size.default(512),
  qk_nope_head_dim: headSize.default(128),
  qk_rope_head_dim: headSize.default(64),
  v_head_dim: headSize.default(128),
  rope_interleave: z.boolean().default(true),
  use_mla_nope: z.boolean().default(false),
  gated_attention_proj_granularity_type: z.enum(['head_wise', 'element_wise']).nullish(),

  num_experts: headCount.nullish(),
  num_experts_per_tok: headCount.default(8),
  num_shared_experts: headCount.default(1),
  moe_intermediate_size: size.default(512),
  moe_shared_expert_intermediate_size: size.nullish(),
  first_k_dense_replace: z.number().int().nonnegative().default(1),
  moe_router_enable_expert_bias: z.boolean().default(true),
  score_function: z.literal('sigmoid').default('sigmoid'),
  expert_swiglu_limit_list: noLimits,
  share_expert_swiglu_limit_list: noLimits,

  use_bias: never,
  use_qkv_bias: never,
  up_proj_norm: never,
  value_norm: never,
  scale_router_input: never,
  use_nGPT: never,
});

type Config = z.output<typeof schema>;

const family = defineFamily(['bailing_hybrid'], schema, (config, json) => {
  const { hidden_size: hiddenSize, num_hidden_layers: count, layer_group_size: group } = config;
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(2 * count);
  const delta = kimiDeltaAttention({
    hiddenSize,
    numHeads: config.num_attention_heads,
    keyHeadDim: config.head_dim,
    valueHeadDim: config.head_dim,
    convKernel: config.short_conv_kernel_size,
    decay: {},
    outputGate: { per: 'channel' },
    lowerBound: config.kda_safe_gate ? config.kda_lower_bound : undefined,
    negativeEigenvalues: false,
    decayShape: [1, 1, config.num_attention_heads, 1],
    normEpsilon: config.rms_norm_eps,
    outputDeviation: deviation,
  });
  const full = latentOf(config, deviation);
  const dense = mlpOf(config, config.intermediate_size, deviation);
  const sparse = config.num_experts == null ? undefined : mixtureOf(config, config.num_experts, deviation);
  const isFull = (i: number): boolean => (i + 1) % group === 0 || i >= Math.floor(count / group) * group;
  const predictors = Array.from({ length: config.num_nextn_predict_layers }, (_, i) => count + i);
  return defineModel({
    ...commonParts(config, json),
    names: { ...llamaNames('norm'), embeddings: 'model.word_embeddings' },
    layers: Array.from({ length: count }, (_, i) => {
      const feedForward = i < config.first_k_dense_replace ? dense : (sparse ?? dense);
      return layer(
        `${isFull(i) ? 'A' : 'K'}${feedForward === dense ? '-' : 'E'}`,
        residual([norm('input_layernorm', normOptions), named('attention', isFull(i) ? full : delta)]),
        residual([norm('post_attention_layernorm', normOptions), named('mlp', feedForward)]),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    stored: {
      aliases: (name) => [name.replace('.attention.', '.self_attn.')],
      // Layers for multi-token prediction follow the model's own.
      ignored: [
        /^model\.mtp/,
        ...(predictors.length > 0 ? [new RegExp(`^model\\.layers\\.(?:${predictors.join('|')})\\.`)] : []),
      ],
    },
  });
});

/** Ling-3.0. Earlier versions have the same `model_type`, so `architectures` must name this version's class. */
export const bailingV3: typeof family = { ...family, architecture: 'BailingMoeV3ForCausalLM' };

function latentOf(config: Config, deviation: number): Mixer {
  const rotaryDim = config.qk_rope_head_dim;
  // Configs state half of the size; the whole rotary part is rotated.
  const whole = {
    ...config,
    partial_rotary_factor: 1,
    rope_parameters: { ...config.rope_parameters, partial_rotary_factor: 1 },
  };
  const gates = { head_wise: 'head', element_wise: 'channel' } as const;
  const granularity = config.gated_attention_proj_granularity_type;
  return latentAttention({
    hiddenSize: config.hidden_size,
    numHeads: config.num_attention_heads,
    latentSize: config.kv_lora_rank,
    keyDim: config.qk_nope_head_dim,
    rotaryDim,
    valueDim: config.v_head_dim,
    queryLatentSize: config.q_lora_rank ?? undefined,
    rope: config.use_mla_nope ? undefined : ropeOf(whole, rotaryDim, { theta: 6_000_000 }),
    ropeInterleaved: config.rope_interleave,
    outputGate: granularity == null ? undefined : gates[granularity],
    outputName: 'dense',
    normEpsilon: config.rms_norm_eps,
    outputDeviation: deviation,
  });
}

function mlpOf({ hidden_size: hiddenSize }: Config, intermediateSize: number, deviation: number): Mixer {
  return gatedMlp({ hiddenSize, intermediateSize, names: LLAMA_MLP, outputDeviation: deviation });
}

function mixtureOf(config: Config, numExperts: number, deviation: number): Mixer {
  const { num_experts_per_tok: perToken, moe_intermediate_size: intermediateSize } = config;
  expectExperts(numExperts, perToken, config.num_hidden_layers, 'num_experts');
  const routing = groupedRouting(config, ['num_experts', numExperts], perToken);
  const routed = mixtureOfExperts({
    hiddenSize: config.hidden_size,
    intermediateSize,
    numExperts,
    expertsPerToken: perToken,
    activation: 'swiglu',
    routing: {
      ...routing,
      choiceBias: config.moe_router_enable_expert_bias ? 'gate.expert_bias' : undefined,
    },
    names: SWIGLU_EXPERTS,
    outputDeviation: deviation,
  });
  const width = (config.moe_shared_expert_intermediate_size ?? intermediateSize) * config.num_shared_experts;
  return together(routed, named('shared_experts', mlpOf(config, width, deviation)));
}
