/**
 * `bamba`: Mamba-2 layers and a few attention layers, with rotary positions on half of each head; an MLP in every layer. Granite and
 * Falcon-H1 have the same keys `mamba_*`.
 */
import { z } from 'zod';
import {
  attention,
  gatedMlp,
  LLAMA_MLP,
  type Mamba2Config,
  mamba2,
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
  expectConfig,
  headCount,
  headSize,
  innerWidth,
  layer,
  layerCount,
  llamaNames,
  orElse,
  outputDeviation,
  ropeOf,
  siluOnly,
  size,
  timeStepLimit,
} from './family.js';
import { attentionFrom, attentionKeys } from './llama.js';

/** The keys of a config that describe Mamba-2 layers. */
export const mambaKeys = {
  mamba_n_heads: headCount.default(128),
  mamba_d_head: derived,
  mamba_n_groups: headCount.default(1),
  mamba_d_state: headSize.default(256),
  mamba_d_conv: headSize.default(4),
  mamba_expand: z.number().positive().default(2),
  mamba_conv_bias: z.boolean().default(true),
  mamba_proj_bias: z.boolean().default(false),
  time_step_limit: timeStepLimit,
};

interface MambaKeys extends z.output<z.ZodObject<typeof mambaKeys>> {
  hidden_size: number;
  rms_norm_eps: number;
}

/** The Mamba-2 mixer of the keys `mamba_*`. Its inner width may differ from expand * hidden. */
export function mambaFrom(config: MambaKeys, deviation: number, innerSize?: number): Mamba2Config {
  const { hidden_size: hiddenSize, mamba_n_heads: numHeads, mamba_n_groups: numGroups } = config;
  const inner = innerSize ?? innerWidth(config.mamba_expand, hiddenSize, 'mamba_expand');
  const headDim = orElse(config.mamba_d_head, inner / numHeads);
  expectConfig(
    headDim * numHeads === inner && Number.isInteger(headDim),
    `mamba_n_heads (${numHeads}) times mamba_d_head (${headDim}) must be the mixer's width (${inner})`,
  );
  expectConfig(
    numHeads % numGroups === 0,
    `mamba_n_heads (${numHeads}) must be a multiple of mamba_n_groups (${numGroups})`,
  );
  return {
    hiddenSize,
    numHeads,
    headDim,
    stateSize: config.mamba_d_state,
    numGroups,
    convKernel: config.mamba_d_conv,
    convBias: config.mamba_conv_bias,
    projectionBias: config.mamba_proj_bias,
    timeStepLimit: config.time_step_limit,
    normGroups: 1,
    normEpsilon: config.rms_norm_eps,
    outputDeviation: deviation,
  };
}

const schema = z.looseObject({
  ...common,
  ...attentionKeys,
  ...mambaKeys,
  num_hidden_layers: layerCount,
  intermediate_size: size,
  hidden_act: siluOnly,
  rms_norm_eps: epsilon.default(1e-5),
  attn_layer_indices: z.array(z.number().int().nonnegative()).nullish(),
  tie_word_embeddings: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
});

/** Bamba. */
export const bamba = defineFamily(['bamba'], schema, (config, json) => {
  const normOptions = { epsilon: config.rms_norm_eps };
  const deviation = outputDeviation(2 * config.num_hidden_layers);
  const plain = attentionFrom(config, deviation);
  const attending = attention({ ...plain, rope: ropeOf(config, plain.headDim, { partial: 0.5 }) });
  const mamba = mamba2(mambaFrom(config, deviation));
  const feedForward = gatedMlp({
    hiddenSize: config.hidden_size,
    intermediateSize: config.intermediate_size,
    bias: config.mlp_bias,
    names: LLAMA_MLP,
    outputDeviation: deviation,
  });
  return defineModel({
    ...commonParts(config, json),
    names: llamaNames('final_layernorm'),
    layers: Array.from({ length: config.num_hidden_layers }, (_, i) => {
      const attends = config.attn_layer_indices?.includes(i) ?? false;
      return layer(
        attends ? '*-' : 'M-',
        residual([
          norm('input_layernorm', normOptions),
          attends ? named('self_attn', attending) : named('mamba', mamba),
        ]),
        residual([norm('pre_ff_layernorm', normOptions), named('feed_forward', feedForward)]),
      );
    }),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
  });
});
