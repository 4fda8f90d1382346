/**
 * `falcon_h1`: Mamba-2 and attention in parallel in every layer, then an MLP; multipliers (muP) nearly everywhere. Compared to Bamba: both
 * mixers are in one layer, and the gated norm is optional and may precede the gate.
 */
import { z } from 'zod';
import { multiply } from '../../graph/index.js';
import {
  attention,
  chain,
  gatedMlp,
  LLAMA_MLP,
  mamba2,
  named,
  norm,
  residual,
  scale,
  together,
} from '../../nn/index.js';
import { defineModel } from '../model.js';
import { mambaFrom, mambaKeys } from './bamba.js';
import {
  common,
  commonParts,
  defineFamily,
  epsilon,
  expectConfig,
  factor,
  layer,
  layerCount,
  llamaNames,
  outputDeviation,
  ropeOf,
  siluOnly,
  size,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

const multiplier = factor.nullish().transform((value) => value ?? 1);

const schema = z.looseObject({
  ...common,
  ...attentionKeys,
  ...mambaKeys,
  num_hidden_layers: layerCount,
  intermediate_size: size,
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-5),
  mamba_d_ssm: size.nullish(),
  mamba_rms_norm: z.boolean().nullish(),
  mamba_norm_before_gate: z.boolean().nullish(),
  projectors_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().default(false),
  tie_word_embeddings: z.boolean().default(false),
  embedding_multiplier: multiplier,
  lm_head_multiplier: multiplier,
  key_multiplier: multiplier,
  attention_in_multiplier: multiplier,
  attention_out_multiplier: multiplier,
  ssm_in_multiplier: multiplier,
  ssm_out_multiplier: multiplier,
  ssm_multipliers: z.tuple([factor, factor, factor, factor, factor]).nullish(),
  mlp_multipliers: z.tuple([factor, factor]).nullish(),
});

/** Falcon-H1. */
export const falconH1 = defineFamily(['falcon_h1'], schema, (config, json) => {
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(3 * config.num_hidden_layers);
  const plain = attentionFrom(config, deviation);
  const attending = attention({
    ...plain,
    rope: ropeOf(config, plain.headDim),
    keyFactor: config.key_multiplier,
  });
  const normed = config.mamba_norm_before_gate === false ? 'after gate' : 'before gate';
  const groups = config.mamba_n_groups;
  const base = mambaFrom(config, deviation, config.mamba_d_ssm ?? undefined);
  expectConfig(
    (base.numHeads * base.headDim) % groups === 0,
    `the mixer's width must be a multiple of mamba_n_groups (${groups})`,
  );
  const mamba = mamba2({
    ...base,
    outputBias: config.projectors_bias ?? false,
    norm: config.mamba_rms_norm ? normed : 'none',
    normGroups: groups,
    inputFactor: config.ssm_in_multiplier,
    ...(config.ssm_multipliers && { projectionFactors: config.ssm_multipliers }),
  });
  const [gateFactor, downFactor] = config.mlp_multipliers ?? [1, 1];
  const feedForward = gatedMlp({
    hiddenSize: config.hidden_size,
    intermediateSize: config.intermediate_size,
    bias: config.mlp_bias,
    names: LLAMA_MLP,
    gateFactor,
    outputDeviation: deviation,
  });
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('final_layernorm'),
    layers: Array.from({ length: config.num_hidden_layers }, () =>
      layer(
        '[M*]-',
        residual([
          norm('input_layernorm', normOptions),
          together(
            chain(named('mamba', mamba), scale(config.ssm_out_multiplier)),
            chain(
              scale(config.attention_in_multiplier),
              named('self_attn', attending),
              scale(config.attention_out_multiplier),
            ),
          ),
        ]),
        residual([
          norm('pre_ff_layernorm', normOptions),
          named('feed_forward', feedForward),
          scale(downFactor),
        ]),
      ),
    ),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
    embeddingFactor: config.embedding_multiplier,
    finishLogits: (logits) =>
      config.lm_head_multiplier === 1 ? logits : multiply(logits, config.lm_head_multiplier),
  });
});
