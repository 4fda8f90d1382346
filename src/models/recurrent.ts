/**
 * The recurrent layers of our own family: the keys of a config that shape them beyond those of Mamba-2, and the mixer of each letter.
 * A key that a config leaves out is not written either, so that a model stays the same when new kinds of layers are added.
 */
import { z } from 'zod';
import {
  DISCRETIZATIONS,
  deltaProduct,
  gatedDeltaNet,
  gatedDeltaNet2,
  type KimiDeltaConfig,
  kimiDeltaAttention,
  lightningAttention,
  lightningSlopes,
  mamba1,
  mamba2,
  mamba3,
  recurrentBlock,
  rwkv7,
  type StateMatrix,
  shortConvolution,
  timeInvariant,
} from '../nn/index.js';
import type { Build, LayerPlace } from './letter.js';

const size = z
  .number()
  .int()
  .positive()
  .max(2 ** 16);

/** The keys of a config that recurrent layers have. */
export const recurrentKeys = {
  /** Heads of delta nets and lightning attention; as many as fill the hidden size by default. */
  linearNumHeads: size.optional(),
  /** Widths of a head's queries and keys (64 by default, or the hidden size where that is less), and of its values (as of keys by default). */
  linearKeyHeadDim: size.optional(),
  linearValueHeadDim: size.optional(),
  /** Delta rules with beta up to 2, which can change the sign of what stands under a key: a delta product's by default. */
  negativeEigenvalues: z.boolean().optional(),
  /** Steps of the delta rule that a delta product takes at each token; 2 by default. */
  deltaSteps: size.max(16).optional(),
  /** The part of a key that turns in Mamba-3, a half by default; and its inputs a token, where that are several. */
  mamba3RopeFraction: z.literal([0.5, 1]).optional(),
  mamba3MimoRank: size.max(64).optional(),
  /** The state matrix of time-invariant layers, S4D-Lin's diagonal by default, whose state has ssmStateSize numbers. */
  ltiMatrix: z.enum(['s4d-lin', 's4d-inv', 's4d-real', 'block-tridiagonal', 'full']).optional(),
  /** Rows of a block of a block-tridiagonal matrix; 4 by default. */
  ltiBlockSize: size.optional(),
  ltiDiscretization: z.enum(DISCRETIZATIONS).optional(),
  /** The least log decay of a token under the safe gate of KDA and GDN-2, such as -5; without it they have their first gate. */
  kdaLowerBound: z.number().negative().optional(),
};

type RecurrentKeys = z.output<z.ZodObject<typeof recurrentKeys>>;

/** What the letters below read of a config. */
interface RecurrentConfig extends RecurrentKeys {
  readonly hiddenSize: number;
  readonly normEpsilon: number;
  readonly convKernel: number;
  readonly useConvBias: boolean;
  readonly nGroups: number;
  readonly mambaNumHeads: number;
  readonly mambaHeadDim: number;
  readonly ssmStateSize: number;
  readonly timeStepLimit: readonly [low: number, high: number | null];
}

/** The recurrent layers of a pattern, by their letters. */
export const RECURRENT = {
  M: (config, { outputDeviation }) =>
    mamba2({
      hiddenSize: config.hiddenSize,
      numHeads: config.mambaNumHeads,
      headDim: config.mambaHeadDim,
      stateSize: config.ssmStateSize,
      numGroups: config.nGroups,
      convKernel: config.convKernel,
      convBias: config.useConvBias,
      projectionBias: false,
      timeStepLimit: [config.timeStepLimit[0], config.timeStepLimit[1] ?? Number.POSITIVE_INFINITY],
      normGroups: 1,
      normEpsilon: config.normEpsilon,
      outputDeviation,
    }),
  m: (config, { outputDeviation }) =>
    mamba1({
      hiddenSize: config.hiddenSize,
      innerSize: config.mambaNumHeads * config.mambaHeadDim,
      stateSize: config.ssmStateSize,
      timeStepRank: Math.ceil(config.hiddenSize / 16),
      convKernel: config.convKernel,
      convBias: config.useConvBias,
      projectionBias: false,
      outputDeviation,
    }),
  G: (config, { outputDeviation }) => {
    const { numHeads, ...heads } = headsOf(config);
    return gatedDeltaNet({
      hiddenSize: config.hiddenSize,
      numKeyHeads: numHeads,
      numValueHeads: numHeads,
      ...heads,
      convKernel: config.convKernel,
      layout: 'joined',
      negativeEigenvalues: config.negativeEigenvalues ?? false,
      normEpsilon: config.normEpsilon,
      outputDeviation,
    });
  },
  K: (config, place) => kimiDeltaAttention(channelDeltaConfig(config, place)),
  g: (config, place) => gatedDeltaNet2(channelDeltaConfig(config, place)),
  D: (config, { outputDeviation }) =>
    deltaProduct({
      hiddenSize: config.hiddenSize,
      ...headsOf(config),
      steps: config.deltaSteps ?? 2,
      convKernel: config.convKernel,
      negativeEigenvalues: config.negativeEigenvalues ?? true,
      normEpsilon: config.normEpsilon,
      outputDeviation,
    }),
  V: (config, { ofLetter, outputDeviation }) => {
    const { keyHeadDim: headDim } = headsOf(config);
    const rank = (factor: number): number => {
      const wanted = factor * Math.sqrt(config.hiddenSize) * Math.max(1, headDim / 64);
      return Math.max(32, 32 * Math.round(wanted / 32));
    };
    return rwkv7({
      hiddenSize: config.hiddenSize,
      headDim,
      decayRank: rank(2.5),
      gateRank: rank(5),
      rateRank: rank(2.5),
      valueRank: rank(1.7),
      layer: ofLetter.index,
      numLayers: ofLetter.count,
      normEpsilon: config.normEpsilon,
      outputDeviation,
    });
  },
  L: (config, { index, count, outputDeviation }) => {
    const { numHeads, keyHeadDim } = headsOf(config);
    return lightningAttention({
      hiddenSize: config.hiddenSize,
      headDim: keyHeadDim,
      slopes: lightningSlopes(numHeads, index, count),
      normEpsilon: config.normEpsilon,
      outputDeviation,
    });
  },
  R: ({ hiddenSize, convKernel, ...config }, { outputDeviation }) => {
    const { numHeads } = headsOf({ hiddenSize, convKernel, ...config });
    return recurrentBlock({
      hiddenSize,
      lruWidth: hiddenSize,
      numBlocks: numHeads,
      convKernel,
      outputDeviation,
    });
  },
  N: (config, { outputDeviation }) =>
    mamba3({
      hiddenSize: config.hiddenSize,
      numHeads: config.mambaNumHeads,
      headDim: config.mambaHeadDim,
      stateSize: config.ssmStateSize,
      numGroups: config.nGroups,
      ropeFraction: config.mamba3RopeFraction ?? 0.5,
      mimoRank: config.mamba3MimoRank,
      outputDeviation,
    }),
  I: (config, { outputDeviation }) =>
    timeInvariant({
      hiddenSize: config.hiddenSize,
      matrix: stateMatrixOf(config),
      stateSize: config.ssmStateSize,
      discretization: config.ltiDiscretization ?? 'zero-order hold',
      outputDeviation,
    }),
  C: ({ hiddenSize, convKernel, useConvBias }, { outputDeviation }) =>
    shortConvolution({ hiddenSize, convKernel, bias: useConvBias, outputDeviation }),
} satisfies Record<string, Build<RecurrentConfig>>;

function channelDeltaConfig(config: RecurrentConfig, { outputDeviation }: LayerPlace): KimiDeltaConfig {
  const heads = headsOf(config);
  return {
    hiddenSize: config.hiddenSize,
    ...heads,
    convKernel: config.convKernel,
    decay: { rank: heads.valueHeadDim },
    outputGate: { per: 'channel', rank: heads.valueHeadDim },
    lowerBound: config.kdaLowerBound,
    negativeEigenvalues: config.negativeEigenvalues ?? false,
    normEpsilon: config.normEpsilon,
    outputDeviation,
  };
}

function stateMatrixOf({ ltiMatrix = 's4d-lin', ltiBlockSize = 4 }: RecurrentConfig): StateMatrix {
  switch (ltiMatrix) {
    case 'full':
      return { kind: 'full' };
    case 'block-tridiagonal':
      return { kind: 'block-tridiagonal', blockSize: ltiBlockSize };
    default:
      return { kind: 'diagonal', initial: ltiMatrix.slice(4) as 'lin' | 'inv' | 'real' };
  }
}

function headsOf({
  hiddenSize,
  linearKeyHeadDim: keyHeadDim = Math.min(64, hiddenSize),
  linearValueHeadDim: valueHeadDim = keyHeadDim,
  linearNumHeads: numHeads = Math.max(1, Math.floor(hiddenSize / keyHeadDim)),
}: RecurrentConfig): { numHeads: number; keyHeadDim: number; valueHeadDim: number } {
  return { numHeads, keyHeadDim, valueHeadDim };
}
