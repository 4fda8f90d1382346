/**
 * Models in the format of state-spaces/mamba, whose configs have no `model_type`: Mamba-3 (Lahoti et al., 2026, arXiv 2603.15569), Mamba-2
 * and Mamba. Blocks x + mixer(norm(x)), each followed by an MLP if there is a `d_intermediate`. State of a Mamba-3 layer: `ssm` [heads,
 * d_state, headdim], `angle` [heads, angles], and `key`, `value` and `weight` of the last token.
 *
 * transformers has no Mamba-3. The test compares with a direct implementation of modules/mamba3.py in float64.
 */
import { z } from 'zod';
import {
  gatedMlp,
  type Mixer,
  mamba1,
  mamba2,
  mamba3,
  type NormOptions,
  named,
  norm,
  residual,
} from '../../nn/index.js';
import { defineModel, type Model } from '../model.js';
import {
  defineFamily,
  expectConfig,
  headCount,
  headSize,
  innerWidth,
  layer,
  layerCount,
  MAMBA_NAMES,
  outputDeviation,
  size,
  timeStepLimit,
} from './family.js';

const never = z.literal(false).default(false);
const expand = z.number().positive().default(2);

/** The keys of each kind of layer. Keys for kernels and initialization are ignored. */
const layers = z.discriminatedUnion('layer', [
  z.looseObject({
    layer: z.literal('Mamba1'),
    d_state: headSize.default(16),
    d_conv: headSize.default(4),
    expand,
    dt_rank: size.or(z.literal('auto')).default('auto'),
    conv_bias: z.boolean().default(true),
    bias: z.boolean().default(false),
  }),
  z.looseObject({
    layer: z.literal('Mamba2'),
    d_state: headSize.default(128),
    d_conv: headSize.default(4),
    expand,
    headdim: headSize.default(64),
    ngroups: headCount.default(1),
    d_ssm: z.null().optional(),
    dt_limit: timeStepLimit,
    conv_bias: z.boolean().default(true),
    bias: z.boolean().default(false),
    D_has_hdim: never,
    rmsnorm: z.literal(true).default(true),
    norm_before_gate: never,
  }),
  z.looseObject({
    layer: z.literal('Mamba3'),
    d_state: headSize.default(128),
    expand,
    headdim: headSize.default(64),
    ngroups: headCount.default(1),
    rope_fraction: z.literal([0.5, 1]).default(0.5),
    A_floor: z.number().positive().default(1e-4),
    is_outproj_norm: z.boolean().default(false),
    is_mimo: z.boolean().default(false),
    mimo_rank: headCount.max(64).default(4),
  }),
]);

const schema = z.looseObject({
  d_model: size.default(2560),
  n_layer: layerCount.default(64),
  vocab_size: z
    .number()
    .int()
    .positive()
    .max(2 ** 24)
    .default(50277),
  pad_vocab_size_multiple: size.default(8),
  /** The width of MLPs; 0 for none. */
  d_intermediate: size.or(z.literal(0)).default(0),
  ssm_cfg: z.preprocess((value) => ({ layer: 'Mamba1', ...(typeof value === 'object' && value) }), layers),
  attn_layer_idx: z.array(z.unknown()).max(0, 'layers of attention in this format are not read').nullish(),
  rms_norm: z.boolean().default(true),
  residual_in_fp32: z.boolean().nullish(),
  tie_embeddings: z.boolean().default(true),
});

type Layers = z.output<typeof layers>;

const NORM_EPSILON = 1e-5;
const LETTERS = { Mamba1: 'm', Mamba2: 'M', Mamba3: 'N' } as const;
const MLP_MULTIPLE = 128;

const family = defineFamily(['state-spaces/mamba'], schema, (config, json): Model => {
  const { d_model: hiddenSize, n_layer: count, d_intermediate: intermediate, ssm_cfg: own } = config;
  const deviation = outputDeviation(count * (intermediate > 0 ? 2 : 1));
  const normOptions: NormOptions = config.rms_norm
    ? { epsilon: NORM_EPSILON }
    : { epsilon: NORM_EPSILON, centered: true };
  const mixer = mixerOf(own, hiddenSize, deviation);
  const multiple = (value: number, of: number): number => Math.ceil(value / of) * of;
  const mlp = gatedMlp({
    hiddenSize,
    intermediateSize: multiple(intermediate, MLP_MULTIPLE),
    names: { input: 'fc1', output: 'fc2', valueFirst: true },
    outputDeviation: deviation,
  });
  const block = residual([norm('norm', normOptions), named('mixer', mixer)]);
  return defineModel({
    modelType: 'state-spaces/mamba',
    json,
    vocabSize: multiple(config.vocab_size, config.pad_vocab_size_multiple),
    hiddenSize,
    eosTokenIds: [],
    names: { ...MAMBA_NAMES, embeddings: 'backbone.embedding' },
    layers: Array.from({ length: count }, () =>
      intermediate > 0
        ? layer(`${LETTERS[own.layer]}-`, block, residual([norm('norm2', normOptions), named('mlp', mlp)]))
        : layer(LETTERS[own.layer], block),
    ),
    finalNorm: normOptions,
    tieWordEmbeddings: config.tie_embeddings,
  });
});

/** Its configs are identified by their keys. */
export const stateSpaces: typeof family = {
  ...family,
  recognizes: (json) => 'd_model' in json && 'n_layer' in json,
};

function mixerOf(config: Layers, hiddenSize: number, deviation: number): Mixer {
  const inner = innerWidth(config.expand, hiddenSize);
  if (config.layer === 'Mamba1') {
    return mamba1({
      hiddenSize,
      innerSize: inner,
      stateSize: config.d_state,
      timeStepRank: config.dt_rank === 'auto' ? Math.ceil(hiddenSize / 16) : config.dt_rank,
      convKernel: config.d_conv,
      convBias: config.conv_bias,
      projectionBias: config.bias,
      outputDeviation: deviation,
    });
  }
  const heads = { numHeads: headsOf(config, inner), headDim: config.headdim, numGroups: config.ngroups };
  if (config.layer === 'Mamba2') {
    return mamba2({
      hiddenSize,
      ...heads,
      stateSize: config.d_state,
      convKernel: config.d_conv,
      convBias: config.conv_bias,
      projectionBias: config.bias,
      timeStepLimit: config.dt_limit,
      normGroups: config.ngroups,
      normEpsilon: NORM_EPSILON,
      outputDeviation: deviation,
    });
  }
  return mamba3({
    hiddenSize,
    ...heads,
    stateSize: config.d_state,
    ropeFraction: config.rope_fraction,
    mimoRank: config.is_mimo ? config.mimo_rank : undefined,
    leastDecay: config.A_floor,
    outputNorm: config.is_outproj_norm,
    outputDeviation: deviation,
  });
}

function headsOf({ headdim, ngroups }: { headdim: number; ngroups: number }, inner: number): number {
  const heads = inner / headdim;
  expectConfig(
    Number.isInteger(heads) && heads % ngroups === 0,
    `headdim (${headdim}) must divide expand times d_model (${inner}) into a multiple of ngroups (${ngroups}) heads`,
  );
  return heads;
}
