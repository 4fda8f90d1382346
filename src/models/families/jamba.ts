/**
 * `jamba`: Mamba layers with norms on dt, B and C, and attention without positions in every attn_layer_period-th layer; each layer has an
 * MLP, or a mixture of experts whose weights are not renormalised.
 */
import { z } from 'zod';
import {
  attention,
  gatedMlp,
  LLAMA_MLP,
  mamba1,
  mixtureOfExperts,
  named,
  norm,
  residual,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  common,
  commonParts,
  defineFamily,
  derived,
  epsilon,
  expectExperts,
  headCount,
  headSize,
  innerWidth,
  layer,
  layerCount,
  llamaNames,
  orElse,
  outputDeviation,
  SWIGLU_EXPERTS,
  siluOnly,
  size,
} from './family.js';
import { attentionFrom } from './llama.js';

const offset = z.number().int().nonnegative();

const schema = z.looseObject({
  ...common,
  num_hidden_layers: layerCount,
  num_attention_heads: headCount,
  num_key_value_heads: headCount.nullish(),
  intermediate_size: size,
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  num_experts: headCount.default(16),
  num_experts_per_tok: headCount.default(2),
  expert_layer_period: layerCount.default(2),
  expert_layer_offset: offset.default(1),
  attn_layer_period: layerCount.default(8),
  attn_layer_offset: offset.default(4),
  mamba_d_state: headSize.default(16),
  mamba_d_conv: headSize.default(4),
  mamba_expand: z.number().positive().default(2),
  mamba_dt_rank: derived,
  mamba_conv_bias: z.boolean().default(true),
  mamba_proj_bias: z.boolean().default(false),
});

/** Jamba. */
export const jamba = defineFamily(['jamba'], schema, (config, json) => {
  const { hidden_size: hiddenSize, num_experts: numExperts } = config;
  if (numExperts > 1) {
    expectExperts(numExperts, config.num_experts_per_tok, config.num_hidden_layers, 'num_experts');
  }
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(2 * config.num_hidden_layers);
  const attending = attention(attentionFrom(config, deviation));
  const mamba = mamba1({
    hiddenSize,
    innerSize: innerWidth(config.mamba_expand, hiddenSize, 'mamba_expand'),
    stateSize: config.mamba_d_state,
    timeStepRank: orElse(config.mamba_dt_rank, Math.ceil(hiddenSize / 16)),
    convKernel: config.mamba_d_conv,
    convBias: config.mamba_conv_bias,
    projectionBias: config.mamba_proj_bias,
    norm: { ...normOptions, weights: true },
    outputDeviation: deviation,
  });
  const intermediateSize = config.intermediate_size;
  const feedForward = gatedMlp({
    hiddenSize,
    intermediateSize,
    names: LLAMA_MLP,
    outputDeviation: deviation,
  });
  const mixture = mixtureOfExperts({
    hiddenSize,
    intermediateSize,
    numExperts,
    expertsPerToken: config.num_experts_per_tok,
    activation: 'swiglu',
    routing: { scores: 'softmax', normalized: false },
    names: { router: 'router.weight', ...SWIGLU_EXPERTS },
    outputDeviation: deviation,
  });
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('final_layernorm'),
    layers: Array.from({ length: config.num_hidden_layers }, (_, i) => {
      const attends = i % config.attn_layer_period === config.attn_layer_offset;
      const sparse = numExperts > 1 && i % config.expert_layer_period === config.expert_layer_offset;
      return layer(
        `${attends ? '*' : 'm'}${sparse ? 'E' : '-'}`,
        residual([
          norm('input_layernorm', normOptions),
          attends ? named('self_attn', attending) : named('mamba', mamba),
        ]),
        residual([
          norm('pre_ff_layernorm', normOptions),
          named('feed_forward', sparse ? mixture : feedForward),
        ]),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
  });
});
