/**
 * `mamba2` (Dao & Gu, 2024): only blocks x + mamba2(norm(x)). One norm spans all groups. State: `ssm` [numHeads, stateSize, headDim] and
 * `conv` [convKernel - 1, channels] in each layer.
 */
import { z } from 'zod';
import { mamba2 as mamba2Mixer, named, norm, residual } from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  common,
  commonParts,
  defineFamily,
  epsilon,
  expectConfig,
  headCount,
  headSize,
  layer,
  layerCount,
  MAMBA_NAMES,
  outputDeviation,
  siluOnly,
  timeStepLimit,
} from './family.js';

const schema = z.looseObject({
  ...common,
  num_hidden_layers: layerCount,
  num_heads: headCount.default(128),
  head_dim: headSize.default(64),
  state_size: headSize.default(128),
  n_groups: headCount.default(8),
  expand: z.number().positive().default(2),
  conv_kernel: headSize.default(4),
  use_bias: z.boolean().default(false),
  use_conv_bias: z.boolean().default(true),
  hidden_act: siluOnly,
  layer_norm_epsilon: epsilon.default(1e-5),
  time_step_limit: timeStepLimit,
  tie_word_embeddings: z.boolean().default(false),
});

/** Mamba-2, without attention. */
export const mamba2 = defineFamily(['mamba2'], schema, (config, json) => {
  const { hidden_size: hiddenSize, num_heads: numHeads, head_dim: headDim, expand } = config;
  expectConfig(
    numHeads * headDim === hiddenSize * expand,
    `num_heads (${numHeads}) times head_dim (${headDim}) must be hidden_size (${hiddenSize}) times expand (${expand})`,
  );
  expectConfig(
    numHeads % config.n_groups === 0,
    `num_heads (${numHeads}) must be a multiple of n_groups (${config.n_groups})`,
  );
  const normOptions = { epsilon: config.layer_norm_epsilon };
  const mixer = mamba2Mixer({
    hiddenSize,
    numHeads,
    headDim,
    stateSize: config.state_size,
    numGroups: config.n_groups,
    convKernel: config.conv_kernel,
    convBias: config.use_conv_bias,
    projectionBias: config.use_bias,
    timeStepLimit: config.time_step_limit,
    normGroups: 1,
    normEpsilon: config.layer_norm_epsilon,
    outputDeviation: outputDeviation(config.num_hidden_layers),
  });
  return defineModel({
    ...commonParts(config, json),
    names: MAMBA_NAMES,
    layers: Array.from({ length: config.num_hidden_layers }, () =>
      layer('M', residual([norm('norm', normOptions), named('mixer', mixer)])),
    ),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
  });
});
