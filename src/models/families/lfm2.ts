/**
 * `lfm2`: gated short convolutions and a few attention layers with norms on query and key heads; an MLP in every layer. `lfm2_moe` has a
 * mixture of experts with sigmoid routing instead of the MLP after the first `num_dense_layers`. State of a convolution: its last
 * conv_L_cache - 1 inputs.
 */
import { z } from 'zod';
import {
  attention,
  type GatedMlpNames,
  gatedMlp,
  type Mixer,
  mixtureOfExperts,
  named,
  norm,
  residual,
  shortConvolution,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  common,
  commonParts,
  computedSize,
  defineFamily,
  epsilon,
  expectExperts,
  headCount,
  headSize,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  llamaNames,
  NUMBERED_EXPERTS,
  outputDeviation,
  ropeOf,
  size,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

const keys = {
  ...common,
  ...attentionKeys,
  num_attention_heads: headCount.default(32),
  num_key_value_heads: headCount.nullable().default(8),
  num_hidden_layers: layerCount,
  norm_eps: epsilon.default(1e-5),
  conv_L_cache: headSize.default(3),
  conv_bias: z.boolean().default(false),
  layer_types: layerTypes,
  /** Another name of rope_theta. */
  theta: z.number().gt(1).nullish(),
  full_attn_idxs: z.array(z.number().int().nonnegative()).nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  tie_embedding: z.boolean().nullish(),
};

type Keys = z.output<z.ZodObject<typeof keys>>;

interface FeedForward {
  letter: '-' | 'E';
  mixer: Mixer;
}

function build(
  config: Keys,
  json: Readonly<Record<string, unknown>>,
  feedForwardOf: (index: number, deviation: number) => FeedForward,
) {
  const normOptions = { epsilon: config.norm_eps };
  const deviation = outputDeviation(2 * config.num_hidden_layers);
  const plain = attentionFrom({ ...config, attention_bias: false }, deviation);
  const attending = attention({
    ...plain,
    rope: ropeOf(config, plain.headDim, { theta: config.theta ?? 1_000_000 }),
    headNorm: { ...normOptions, names: { query: 'q_layernorm', key: 'k_layernorm' } },
    outputName: 'out_proj',
  });
  const convolution = shortConvolution({
    hiddenSize: config.hidden_size,
    convKernel: config.conv_L_cache,
    bias: config.conv_bias,
    outputDeviation: deviation,
  });
  const kinds = layerKinds(
    config.layer_types,
    config.num_hidden_layers,
    { conv: 'conv', full_attention: 'attention' },
    (i) => ((config.full_attn_idxs?.includes(i) ?? true) ? 'attention' : 'conv'),
  );
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('embedding_norm'),
    layers: kinds.map((kind, i) => {
      const feedForward = feedForwardOf(i, deviation);
      return layer(
        `${kind === 'conv' ? 'C' : '*'}${feedForward.letter}`,
        residual([
          norm('operator_norm', normOptions),
          kind === 'conv' ? named('conv', convolution) : named('self_attn', attending),
        ]),
        residual([norm('ffn_norm', normOptions), named('feed_forward', feedForward.mixer)]),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_embedding ?? config.tie_word_embeddings ?? true,
  });
}

const MLP: GatedMlpNames = { gate: 'w1', value: 'w3', output: 'w2' };

function mlpOf(hiddenSize: number, intermediateSize: number, deviation: number): FeedForward {
  const sizes = { hiddenSize, intermediateSize, outputDeviation: deviation };
  return { letter: '-', mixer: gatedMlp({ ...sizes, names: MLP }) };
}

const denseSchema = z.looseObject({
  ...keys,
  intermediate_size: size.nullish(),
  block_ff_dim: size.nullish(),
  block_auto_adjust_ff_dim: z.boolean().default(true),
  block_ffn_dim_multiplier: z.number().positive().nullable().default(1),
  block_multiple_of: size.default(256),
});

/** LFM2 with an MLP in every layer. */
export const lfm2 = defineFamily(['lfm2'], denseSchema, (config, json) =>
  build(config, json, (_, deviation) => mlpOf(config.hidden_size, intermediateSizeOf(config), deviation)),
);

/** The width of MLPs: by default two thirds of the stated one, rounded up to a multiple. */
function intermediateSizeOf(config: z.output<typeof denseSchema>): number {
  const said = config.block_ff_dim ?? config.intermediate_size ?? 12_288;
  if (!config.block_auto_adjust_ff_dim) return said;
  const { block_ffn_dim_multiplier: multiplier, block_multiple_of: multiple } = config;
  const narrowed = Math.trunc((2 * said) / 3);
  // Without a multiplier the width is not rounded.
  if (multiplier === null) return narrowed;
  return computedSize(
    multiple * Math.ceil(Math.trunc(multiplier * narrowed) / multiple),
    `intermediate_size (${said}), block_ffn_dim_multiplier (${multiplier}) and block_multiple_of (${multiple})`,
  );
}

const sparseSchema = z.looseObject({
  ...keys,
  intermediate_size: size.default(7168),
  moe_intermediate_size: size.default(1792),
  num_dense_layers: z.number().int().nonnegative().default(2),
  num_experts: headCount.default(32),
  num_experts_per_tok: headCount.default(4),
  use_expert_bias: z.boolean().default(true),
  norm_topk_prob: z.boolean().default(true),
  routed_scaling_factor: z.number().default(1),
});

/** LFM2 with mixtures of experts. */
export const lfm2Moe = defineFamily(['lfm2_moe'], sparseSchema, (config, json) => {
  expectExperts(config.num_experts, config.num_experts_per_tok, config.num_hidden_layers, 'num_experts');
  return build(config, json, (i, deviation) => {
    const { hidden_size: hiddenSize, intermediate_size: intermediateSize } = config;
    if (i < config.num_dense_layers) return mlpOf(hiddenSize, intermediateSize, deviation);
    const mixer = mixtureOfExperts({
      hiddenSize,
      intermediateSize: config.moe_intermediate_size,
      numExperts: config.num_experts,
      expertsPerToken: config.num_experts_per_tok,
      activation: 'swiglu',
      routing: {
        scores: 'sigmoid',
        normalized: config.norm_topk_prob,
        epsilon: 1e-6,
        factor: config.routed_scaling_factor,
        ...(config.use_expert_bias && { choiceBias: 'expert_bias' }),
      },
      names: { router: 'gate.weight', ...NUMBERED_EXPERTS },
      outputDeviation: deviation,
    });
    return { letter: 'E', mixer };
  });
});
