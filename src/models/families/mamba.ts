/**
 * `mamba` (Gu & Dao, 2023) and `falcon_mamba`: only blocks x + mamba(norm(x)). Falcon's has norms without weights on dt, B and C. State:
 * `ssm` [stateSize, innerSize] and `conv` [convKernel - 1, innerSize] in each layer.
 */
import { z } from 'zod';
import { type Mamba1Config, mamba1, named, norm, residual } from '../../nn/index.js';
import { defineModel } from '../model.js';
import {
  common,
  commonParts,
  defineFamily,
  derived,
  epsilon,
  headSize,
  innerWidth,
  layer,
  layerCount,
  MAMBA_NAMES,
  orElse,
  outputDeviation,
  siluOnly,
} from './family.js';

const keys = {
  ...common,
  num_hidden_layers: layerCount,
  state_size: headSize.default(16),
  expand: z.number().positive().default(2),
  /** The inner width of a mixer; expand times hidden_size by default. */
  intermediate_size: derived,
  conv_kernel: headSize.default(4),
  time_step_rank: derived,
  use_bias: z.boolean().default(false),
  use_conv_bias: z.boolean().default(true),
  hidden_act: siluOnly,
  layer_norm_epsilon: epsilon.default(1e-5),
  tie_word_embeddings: z.boolean().default(true),
};

function build(
  config: z.output<z.ZodObject<typeof keys>>,
  json: Readonly<Record<string, unknown>>,
  innerNorm?: Mamba1Config['norm'],
) {
  const { hidden_size: hiddenSize } = config;
  const normOptions = { epsilon: config.layer_norm_epsilon };
  const mixer = mamba1({
    hiddenSize,
    innerSize: orElse(config.intermediate_size, innerWidth(config.expand, hiddenSize)),
    stateSize: config.state_size,
    timeStepRank: orElse(config.time_step_rank, Math.ceil(hiddenSize / 16)),
    convKernel: config.conv_kernel,
    convBias: config.use_conv_bias,
    projectionBias: config.use_bias,
    norm: innerNorm,
    outputDeviation: outputDeviation(config.num_hidden_layers),
  });
  return defineModel({
    ...commonParts(config, json),
    names: MAMBA_NAMES,
    layers: Array.from({ length: config.num_hidden_layers }, () =>
      layer('m', residual([norm('norm', normOptions), named('mixer', mixer)])),
    ),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_word_embeddings,
  });
}

/** Mamba. */
export const mamba = defineFamily(['mamba'], z.looseObject(keys), (config, json) => build(config, json));

const falconSchema = z.looseObject({ ...keys, mixer_rms_eps: epsilon.default(1e-6) });

/** Falcon Mamba. */
export const falconMamba = defineFamily(['falcon_mamba'], falconSchema, (config, json) =>
  build(config, json, { epsilon: config.mixer_rms_eps, weights: false }),
);
