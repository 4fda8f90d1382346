/**
 * The attention layers of our own family: the keys of a config that shape them beyond those of all attention, and the mixer of each
 * letter. As in recurrent.ts, a key that a config leaves out is not written either.
 */
import { z } from 'zod';
import {
  type AttentionConfig,
  attention,
  crossAttention,
  fullAttention,
  latentAttention,
  querySelection,
  type RopeConfig,
  ropeFrequencies,
  SCORE_FORMS,
  selectiveAttention,
  slidingWindowAttention,
} from '../nn/index.js';
import type { Build, LayerPlace } from './letter.js';
import { type SourceConfig, sourcePositions } from './source.js';
import { windowed } from './whole.js';

const size = z
  .number()
  .int()
  .positive()
  .max(2 ** 16);

/** Scores of selective attention, and sizes of latent attention, by DeepSeek's names; 64 by default, and 32 of the key that rotates. */
export const attentiveKeys = {
  /** `linear` by default; see selective-score.ts. */
  attentionScore: z.enum(SCORE_FORMS).optional(),
  /** Scores count in the window, too; they learn more reliably where places are scarce. */
  attentionScoresWindow: z.boolean().optional(),
  /** The share of tokens that query-selecting attention shall select, 0.15 by default, and how much a miss adds to the loss, 0.01. */
  attentionCapacity: z.number().min(0).max(1).optional(),
  attentionCapacityWeight: z.number().nonnegative().optional(),
  kvLoraRank: size.optional(),
  /** Of the latent that queries are made from; without it they are made from the hidden state. */
  qLoraRank: size.optional(),
  qkNopeHeadDim: size.optional(),
  /** May be 0; rotates where there is a `ropeTheta`. */
  qkRopeHeadDim: size
    .or(z.literal(0))
    .refine((dim) => dim % 2 === 0, 'must be even: its halves rotate')
    .optional(),
  vHeadDim: size.optional(),
};

/** What the letters below read of a config. */
interface AttentiveConfig extends z.output<z.ZodObject<typeof attentiveKeys>> {
  readonly hiddenSize: number;
  readonly normEpsilon: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly attentionBias?: boolean | undefined;
  readonly attentionWindow: number;
  readonly attentionSelected: number;
  readonly ropeTheta: number | null;
  readonly imageWindow?: number | undefined;
  readonly source?: SourceConfig | undefined;
}

/** The layers of a pattern that attend, by their letters. */
export const ATTENTIVE = {
  '*': (config, place) => attention(plainAttention(config, place)),
  '<*>': (config, place) => windowed(fullAttention(plainAttention(config, place)), config, place),
  W: (config, place) =>
    slidingWindowAttention({ ...plainAttention(config, place), window: config.attentionWindow }),
  S: (config, place) =>
    selectiveAttention({
      ...plainAttention(config, place),
      window: config.attentionWindow,
      selected: config.attentionSelected,
      ...(config.attentionScore && { score: config.attentionScore }),
      scoresWindow: config.attentionScoresWindow,
    }),
  Q: (config, place) =>
    querySelection({
      ...plainAttention(config, place),
      window: config.attentionWindow,
      capacity: config.attentionCapacity ?? 0.15,
      capacityWeight: config.attentionCapacityWeight ?? 0.01,
    }),
  X: ({ hiddenSize, numAttentionHeads, numKeyValueHeads, headDim, source }, { outputDeviation }) =>
    crossAttention({
      hiddenSize,
      numHeads: numAttentionHeads,
      numKeyValueHeads,
      headDim,
      positions: sourcePositions(source!),
      outputDeviation,
    }),
  A: (config, { outputDeviation }) => {
    const { qkRopeHeadDim = 32 } = config;
    return latentAttention({
      hiddenSize: config.hiddenSize,
      numHeads: config.numAttentionHeads,
      latentSize: config.kvLoraRank ?? 64,
      keyDim: config.qkNopeHeadDim ?? 64,
      rotaryDim: qkRopeHeadDim,
      valueDim: config.vHeadDim ?? 64,
      queryLatentSize: config.qLoraRank,
      rope: ropeOf(config.ropeTheta, qkRopeHeadDim),
      normEpsilon: config.normEpsilon,
      outputDeviation,
    });
  },
} satisfies Record<string, Build<AttentiveConfig>>;

/** What all attention with keys and values of its own has. */
function plainAttention(config: AttentiveConfig, { outputDeviation }: LayerPlace): AttentionConfig {
  const { hiddenSize, numAttentionHeads, numKeyValueHeads, headDim, ropeTheta, attentionBias } = config;
  return {
    hiddenSize,
    numHeads: numAttentionHeads,
    numKeyValueHeads,
    headDim,
    rope: ropeOf(ropeTheta, headDim),
    ...(attentionBias && { inputBias: true, outputBias: true }),
    outputDeviation,
  };
}

/** The rotation of so many numbers, where positions are asked for. */
function ropeOf(ropeTheta: number | null, size: number): RopeConfig | undefined {
  return ropeTheta === null ? undefined : { frequencies: ropeFrequencies(ropeTheta, size) };
}
