/**
 * `kimi_linear` (Kimi Team, 2025, arXiv 2510.26692): Kimi delta attention, with latent attention without positions in every
 * fourth layer or so; after the first layers, which have MLPs, a mixture of experts with shared experts. State of a delta layer: `recurrent`
 * [numHeads, headDim, headDim] and `conv` [convKernel - 1, channels]; of latent attention: `latent` [1, past, kv_lora_rank +
 * qk_rope_head_dim].
 */
import { z } from 'zod';
import {
  gatedMlp,
  kimiDeltaAttention,
  LLAMA_MLP,
  latentAttention,
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
  expectConfig,
  expectExperts,
  headCount,
  headSize,
  LINEAR_OR_FULL,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  llamaNames,
  NUMBERED_EXPERTS,
  outputDeviation,
  siluOnly,
  size,
} from './family.js';
import { groupedRouting, groupedRoutingKeys } from './grouped-routing.js';

/** Layer numbers, counted from 1. */
const ordinals = z.array(z.number().int().positive()).nullish();

const schema = z.looseObject({
  ...common,
  ...groupedRoutingKeys,
  eos_token_id: eosTokens(163_586),
  num_hidden_layers: layerCount,
  intermediate_size: size.default(9216),
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-5),
  tie_word_embeddings: z.boolean().default(false),
  layer_types: layerTypes,
  mlp_layer_types: layerTypes,
  first_k_dense_replace: z.number().int().nonnegative().default(1),
  moe_layer_freq: layerCount.default(1),

  num_attention_heads: headCount.default(32),
  num_key_value_heads: headCount.nullish(),
  q_lora_rank: size.nullish(),
  kv_lora_rank: size.default(512),
  qk_nope_head_dim: headSize.default(128),
  qk_rope_head_dim: headSize.or(z.literal(0)).default(64),
  v_head_dim: headSize.default(128),
  attention_bias: z.boolean().default(false),

  linear_head_dim: headSize.default(128),
  linear_num_heads: headCount.default(32),
  linear_conv_kernel_dim: headSize.default(4),
  linear_attn_config: z
    .looseObject({
      head_dim: headSize.nullish(),
      num_heads: headCount.nullish(),
      short_conv_kernel_size: headSize.nullish(),
      kda_layers: ordinals,
      full_attn_layers: ordinals,
    })
    .nullish(),

  num_experts: headCount.default(256),
  num_experts_per_tok: headCount.default(8),
  moe_intermediate_size: size.default(1024),
  num_shared_experts: headCount.default(1),
  routed_scaling_factor: z.number().positive().default(2.446),
  moe_router_activation_func: z.literal('sigmoid').default('sigmoid'),

  // Additions of Kimi K3 under the same model_type.
  mla_use_output_gate: z.literal(false).default(false),
  attn_res_block_size: z.literal(0).default(0),
});

type Config = z.output<typeof schema>;

/** Other names of keys, in the hub's configs and in those that transformers writes. */
const SYNONYMS: Readonly<Record<string, string>> = {
  model_max_length: 'max_position_embeddings',
  moe_renormalize: 'norm_topk_prob',
  num_expert_group: 'n_group',
  num_local_experts: 'num_experts',
  num_experts_per_token: 'num_experts_per_tok',
  n_shared_experts: 'num_shared_experts',
};

/** The epsilon of the norms in latent attention, which ignores the config. */
const LATENT_EPSILON = 1e-6;

const family = defineFamily(['kimi_linear'], schema, (config, json) => {
  const { hidden_size: hiddenSize, num_attention_heads: numHeads, num_hidden_layers: count } = config;
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(2 * count);
  expectConfig(
    (config.num_key_value_heads ?? numHeads) === numHeads,
    `num_key_value_heads (${config.num_key_value_heads}) must be num_attention_heads (${numHeads}): every head has keys of its own`,
  );
  const { linear_attn_config: linear } = config;
  const headDim = linear?.head_dim ?? config.linear_head_dim;
  const delta = kimiDeltaAttention({
    hiddenSize,
    numHeads: linear?.num_heads ?? config.linear_num_heads,
    keyHeadDim: headDim,
    valueHeadDim: headDim,
    convKernel: linear?.short_conv_kernel_size ?? config.linear_conv_kernel_dim,
    decay: { rank: headDim },
    outputGate: { rank: headDim, per: 'channel' },
    negativeEigenvalues: false,
    decayShape: [1, 1, linear?.num_heads ?? config.linear_num_heads, 1],
    normEpsilon: config.rms_norm_eps,
    outputDeviation: deviation,
  });
  const full = latentAttention({
    hiddenSize,
    numHeads,
    latentSize: config.kv_lora_rank,
    keyDim: config.qk_nope_head_dim,
    rotaryDim: config.qk_rope_head_dim,
    valueDim: config.v_head_dim,
    queryLatentSize: config.q_lora_rank ?? undefined,
    bias: config.attention_bias,
    normEpsilon: LATENT_EPSILON,
    outputDeviation: deviation,
  });
  const feedForwards = layerKinds(
    config.mlp_layer_types,
    count,
    { dense: 'dense', sparse: 'sparse' },
    (i) => (i >= config.first_k_dense_replace && i % config.moe_layer_freq === 0 ? 'sparse' : 'dense'),
    'mlp_layer_types',
  );
  const mlp = mlpOf(config, config.intermediate_size, deviation);
  const mixture = feedForwards.includes('sparse') ? mixtureOf(config, deviation) : undefined;
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('norm'),
    layers: kindsOf(config).map((kind, i) => {
      const sparse = feedForwards[i] === 'sparse';
      return layer(
        `${kind === 'full' ? 'A' : 'K'}${sparse ? 'E' : '-'}`,
        residual([norm('input_layernorm', normOptions), named('self_attn', kind === 'full' ? full : delta)]),
        residual([
          norm('post_attention_layernorm', normOptions),
          sparse ? named('block_sparse_moe', mixture!) : named('mlp', mlp),
        ]),
      );
    }),
    finalNorm: normOptions,
    // transformers keeps a separate head even if the config ties it; other programs then store only the embeddings.
    tieWordEmbeddings: false,
    stored: {
      // transformers saves MLPs under the name of mixtures, and loads both under the name of MLPs.
      aliases: (name) =>
        config.tie_word_embeddings && name === 'lm_head.weight'
          ? ['model.embed_tokens.weight']
          : [name.replace('.mlp.', '.block_sparse_moe.'), name.replace('.block_sparse_moe.', '.mlp.')],
      ignored: [/^mtp\./],
      loaded: (name) =>
        name
          .replace('.block_sparse_moe.', '.mlp.')
          .replace(/\.self_attn\.(f_[ab]_proj|dt_bias|A_log)/, '.self_attn.forget_gate.$1'),
    },
  });
});

/** Kimi Linear. */
export const kimiLinear: typeof family = {
  ...family,
  read(json, path) {
    const own = Object.entries(json).map(([key, value]): [string, unknown] => [SYNONYMS[key] ?? key, value]);
    return { ...family.read(Object.fromEntries(own), path), json };
  },
};

function kindsOf({ layer_types: types, num_hidden_layers: count, linear_attn_config: linear }: Config) {
  const { kda_layers: delta, full_attn_layers: full } = linear ?? {};
  return layerKinds(types, count, LINEAR_OR_FULL, (i) => {
    if (!delta || !full) return i > 0 && i % 4 === 0 ? 'full' : 'linear';
    if (full.includes(i + 1)) return 'full';
    expectConfig(
      delta.includes(i + 1),
      `linear_attn_config names layer ${i + 1} neither in kda_layers nor in full_attn_layers`,
    );
    return 'linear';
  });
}

function mlpOf({ hidden_size: hiddenSize }: Config, intermediateSize: number, deviation: number) {
  return gatedMlp({ hiddenSize, intermediateSize, names: LLAMA_MLP, outputDeviation: deviation });
}

function mixtureOf(config: Config, deviation: number) {
  const { num_experts: numExperts, num_experts_per_tok: perToken } = config;
  expectExperts(numExperts, perToken, config.num_hidden_layers, 'num_experts');
  const routed = mixtureOfExperts({
    hiddenSize: config.hidden_size,
    intermediateSize: config.moe_intermediate_size,
    numExperts,
    expertsPerToken: perToken,
    activation: 'swiglu',
    routing: groupedRouting(config, ['num_experts', numExperts], perToken),
    names: { router: 'gate.weight', ...NUMBERED_EXPERTS },
    outputDeviation: deviation,
  });
  const width = config.moe_intermediate_size * config.num_shared_experts;
  return together(routed, named('shared_experts', mlpOf(config, width, deviation)));
}
