/**
 * The attention layers of our own family: their config keys beyond those of all attention layers, and the mixer of each letter. As in
 * recurrent.ts, a key that a config omits is also omitted when the config is written.
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

/** The scores of selective attention, and the sizes of latent attention by DeepSeek's names; 64 by default, 32 for the rotary key. */
export const attentiveKeys = {
  /** `linear` by default; see selective-score.ts. */
  attentionScore: z.enum(SCORE_FORMS).optional(),
  /** Whether scores also apply within the window; that trains more reliably if few tokens are kept. */
  attentionScoresWindow: z.boolean().optional(),
  /** The target share of tokens for query-selecting attention (default 0.15), and the weight of its auxiliary loss (default 0.01). */
  attentionCapacity: z.number().min(0).max(1).optional(),
  attentionCapacityWeight: z.number().nonnegative().optional(),
  kvLoraRank: size.optional(),
  /** The rank of the queries' latent; without it queries are projected from the hidden state. */
  qLoraRank: size.optional(),
  qkNopeHeadDim: size.optional(),
  /** May be 0. These dimensions are rotated if there is a `ropeTheta`. */
  qkRopeHeadDim: size
    .or(z.literal(0))
    .refine((dim) => dim % 2 === 0, 'must be even: its halves rotate')
    .optional(),
  vHeadDim: size.optional(),
};

/** The parts of a config that the letters below use. */
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

/** The attention layers of a pattern, by letter. */
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

/** The options of all attention with its own keys and values. */
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

/** Rotary positions of this many dimensions, if the config has them. */
function ropeOf(ropeTheta: number | null, size: number): RopeConfig | undefined {
  return ropeTheta === null ? undefined : { frequencies: ropeFrequencies(ropeTheta, size) };
}
