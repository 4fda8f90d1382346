/**
 * `olmo_hybrid`: gated delta nets with possibly negative eigenvalues, and attention in every fourth layer. Delta-net layers have norms before
 * their branches, attention layers after them; queries and keys are normalized over all heads together.
 */
import { z } from 'zod';
import { attention, gatedDeltaNet, gatedMlp, LLAMA_MLP, named, norm, residual } from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  activation,
  common,
  commonParts,
  computedSize,
  defineFamily,
  epsilon,
  expectSharedHeads,
  headCount,
  headSize,
  LINEAR_OR_FULL,
  layer,
  layerCount,
  layerKinds,
  layerTypes,
  llamaNames,
  outputDeviation,
  ropeOf,
  size,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

const schema = z.looseObject({
  ...common,
  ...attentionKeys,
  num_hidden_layers: layerCount,
  intermediate_size: size,
  hidden_act: activation.prefault('silu'),
  rms_norm_eps: epsilon.default(1e-6),
  layer_types: layerTypes,
  linear_num_key_heads: headCount.nullish(),
  linear_num_value_heads: headCount.nullish(),
  linear_key_head_dim: headSize.nullish(),
  linear_value_head_dim: headSize.nullish(),
  linear_conv_kernel_dim: headSize.default(4),
  linear_allow_neg_eigval: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(false),
});

/** The epsilon of the delta net's own norm, which ignores the config. */
const INNER_EPSILON = 1e-5;

/** OLMo Hybrid. */
export const olmoHybrid = defineFamily(['olmo_hybrid'], schema, (config, json) => {
  const { hidden_size: hiddenSize, num_hidden_layers: count, num_attention_heads: numHeads } = config;
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(2 * count);
  const plain = attentionFrom(config, deviation);
  const { rope_theta: theta = config.rope_theta } = config.rope_parameters ?? {};
  const attending = attention({
    ...plain,
    headNorm: { ...normOptions, names: { query: 'q_norm', key: 'k_norm' }, whole: true },
    // A theta of null means that the model was trained, or extended, without positions.
    rope: theta === null ? undefined : ropeOf(config, plain.headDim),
  });
  const numKeyHeads = config.linear_num_key_heads ?? numHeads;
  const numValueHeads = config.linear_num_value_heads ?? numHeads;
  expectSharedHeads(numValueHeads, numKeyHeads);
  const keyHeadDim =
    config.linear_key_head_dim ??
    computedSize(
      Math.trunc((0.75 * hiddenSize) / numKeyHeads),
      `hidden_size (${hiddenSize}) and linear_num_key_heads (${numKeyHeads})`,
    );
  const deltaNet = gatedDeltaNet({
    hiddenSize,
    numKeyHeads,
    numValueHeads,
    keyHeadDim,
    valueHeadDim: config.linear_value_head_dim ?? 2 * keyHeadDim,
    convKernel: config.linear_conv_kernel_dim,
    layout: 'separate',
    negativeEigenvalues: config.linear_allow_neg_eigval,
    normEpsilon: INNER_EPSILON,
    outputDeviation: deviation,
  });
  const feedForward = named(
    'mlp',
    gatedMlp({
      hiddenSize,
      intermediateSize: config.intermediate_size,
      activation: config.hidden_act,
      names: LLAMA_MLP,
      outputDeviation: deviation,
    }),
  );
  const kinds = layerKinds(config.layer_types, count, LINEAR_OR_FULL, (i) =>
    i % 4 === 3 || (count < 4 && i === count - 1) ? 'full' : 'linear',
  );
  const normed = (name: string) => norm(name, normOptions);
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('norm'),
    layers: kinds.map((kind) =>
      kind === 'full'
        ? layer(
            '*-',
            residual([named('self_attn', attending), normed('post_attention_layernorm')]),
            residual([feedForward, normed('post_feedforward_layernorm')]),
          )
        : layer(
            'G-',
            residual([normed('input_layernorm'), named('linear_attn', deltaNet)]),
            residual([normed('post_attention_layernorm'), feedForward]),
          ),
    ),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    stored: {
      aliases: (name) => [
        name
          .replace('input_layernorm', 'attention_layer_norm')
          .replace('post_attention_layernorm', 'feedforward_layer_norm'),
      ],
      ignored: [/^mtp\./],
    },
  });
});
