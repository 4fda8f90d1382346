/**
 * The attention layers of our own family beyond the plain ones: the keys of a config that shape them, and the mixer of each
 * letter. As in recurrent.ts, a key that a config leaves out is not written either.
 */
import { z } from 'zod';
import { latentAttention, type Mixer, type RopeConfig, ropeFrequencies, SCORE_FORMS } from '../nn/index.js';
import type { LayerPlace } from './recurrent.js';

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
  readonly ropeTheta: number | null;
}

type Build = (config: AttentiveConfig, place: LayerPlace) => Mixer;

const MIXERS = {
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
      rope: ropeOf(config, qkRopeHeadDim),
      normEpsilon: config.normEpsilon,
      outputDeviation,
    });
  },
} satisfies Record<string, Build>;

export type AttentiveLetter = keyof typeof MIXERS;

/** The mixer of an attentive letter. Throws `ConfigError` where sizes do not fit. */
export function attentiveMixer(letter: AttentiveLetter, config: AttentiveConfig, place: LayerPlace): Mixer {
  return MIXERS[letter](config, place);
}

export function isAttentive(letter: string): letter is AttentiveLetter {
  return letter in MIXERS;
}

/** The rotation of so many numbers, where positions are asked for. */
export function ropeOf({ ropeTheta }: { ropeTheta: number | null }, size: number): RopeConfig | undefined {
  return ropeTheta === null ? undefined : { frequencies: ropeFrequencies(ropeTheta, size) };
}
