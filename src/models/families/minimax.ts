/**
 * `minimax` (MiniMax-Text-01): lightning attention, with softmax attention in every other layer or as in `layer_types`, and a mixture of
 * experts in every layer. Residual connections start after the norm and are weighted: alpha * norm(x) + beta * mixer(norm(x)). State of a
 * lightning layer: `recurrent` [numHeads, headDim, headDim].
 */
import { z } from 'zod';
import {
  attention,
  lightningAttention,
  lightningSlopes,
  mixtureOfExperts,
  named,
  norm,
  residual,
  slidingWindowAttention,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  common,
  commonParts,
  defineFamily,
  eosTokens,
  epsilon,
  expectExperts,
  factor,
  headCount,
  LINEAR_OR_FULL,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  length,
  llamaNames,
  NUMBERED_EXPERTS,
  outputDeviation,
  ropeOf,
  siluOnly,
  size,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

const share = factor.default(1);

const schema = z.looseObject({
  ...common,
  ...attentionKeys,
  eos_token_id: eosTokens(2),
  num_attention_heads: headCount.default(32),
  num_key_value_heads: headCount.nullable().default(8),
  num_hidden_layers: layerCount,
  intermediate_size: size.default(14_336),
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-5),
  sliding_window: length.nullish(),
  num_local_experts: headCount.default(8),
  num_experts_per_tok: headCount.default(2),
  layer_types: layerTypes,
  full_attn_alpha_factor: share,
  full_attn_beta_factor: share,
  linear_attn_alpha_factor: share,
  linear_attn_beta_factor: share,
  mlp_alpha_factor: share,
  mlp_beta_factor: share,
  tie_word_embeddings: z.boolean().default(false),
});

/** The epsilon of the norm of a lightning layer's heads, which ignores the config. */
const LIGHTNING_EPSILON = 1e-6;

/** MiniMax-Text-01. */
export const minimax = defineFamily(['minimax'], schema, (config, json) => {
  const { hidden_size: hiddenSize, num_local_experts: numExperts, num_hidden_layers: count } = config;
  expectExperts(numExperts, config.num_experts_per_tok, count, 'num_local_experts');
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(2 * count);
  const plain = attentionFrom({ ...config, attention_bias: false }, deviation);
  // Whole heads are rotated; partial_rotary_factor is ignored.
  const rope = ropeOf({ ...config, partial_rotary_factor: null }, plain.headDim, { theta: 1_000_000 });
  const softmax = { ...plain, rope };
  const window = config.sliding_window ?? undefined;
  const lightning = (index: number) =>
    lightningAttention({
      hiddenSize,
      headDim: plain.headDim,
      slopes: lightningSlopes(plain.numHeads, index, count),
      normEpsilon: LIGHTNING_EPSILON,
      outputDeviation: deviation,
    });
  const mixture = mixtureOfExperts({
    hiddenSize,
    intermediateSize: config.intermediate_size,
    numExperts,
    expertsPerToken: config.num_experts_per_tok,
    activation: 'swiglu',
    routing: { scores: 'softmax', normalized: true },
    names: { router: 'gate.weight', ...NUMBERED_EXPERTS },
    outputDeviation: deviation,
  });
  const kinds = layerKinds(config.layer_types, count, LINEAR_OR_FULL, (i) =>
    i % 2 === 0 ? 'full' : 'linear',
  );
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('norm'),
    layers: kinds.map((kind, i) => {
      const full = window === undefined ? attention(softmax) : slidingWindowAttention({ ...softmax, window });
      const [letter, mixer, alpha, beta] =
        kind === 'full'
          ? [
              window === undefined ? '*' : 'W',
              full,
              config.full_attn_alpha_factor,
              config.full_attn_beta_factor,
            ]
          : ['L', lightning(i), config.linear_attn_alpha_factor, config.linear_attn_beta_factor];
      return layer(
        `${letter}E`,
        norm('input_layernorm', normOptions),
        residual([named('self_attn', mixer)], beta, alpha),
        norm('post_attention_layernorm', normOptions),
        residual([named('block_sparse_moe', mixture)], config.mlp_beta_factor, config.mlp_alpha_factor),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    stored: {
      // Buffers that transformers computes from the config but saves nevertheless.
      ignored: [/\.self_attn\.(?:slope_rate|query_decay|key_decay|diagonal_decay)$/],
      aliases: (name) => [name.replace('.block_sparse_moe.', '.mlp.')],
      loaded: (name) => name.replace('.block_sparse_moe.', '.mlp.'),
    },
  });
});
