/**
 * What a model of text reads before it writes: another text, an image, or a sound, as the key `source` of a config says. Its layers, the
 * encoder, look both ways. Where the pattern of the text has the letter X, its layers attend over what the encoder made; elsewhere
 * that stands before the text, in one sequence with it.
 */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import { imagesSchema, patchesOf, pixels } from './modalities/images.js';
import type { Entering } from './modalities/modality.js';
import { samples, soundsSchema } from './modalities/sounds.js';
import { texts, textsSchema } from './modalities/texts.js';

/** Layers of the encoder, as a pattern; none by default. */
const pattern = z.string().optional();

/** The key `source` of a config. */
export const sourceSchema = z.discriminatedUnion('kind', [
  textsSchema.extend({ pattern }),
  imagesSchema.omit({ classes: true, pool: true }).extend({ pattern }),
  /** `length` is how many positions are heard: a shorter sound is followed by silence. */
  soundsSchema.omit({ classes: true }).extend({
    pattern,
    length: z
      .number()
      .int()
      .positive()
      .max(2 ** 16),
  }),
]);

/** The key `source` of a config: what a model of text reads before it writes. */
export type SourceConfig = z.output<typeof sourceSchema>;

/** How many positions a source has. */
export function sourcePositions(config: SourceConfig): number {
  return config.kind === 'images' ? patchesOf(config) : config.length;
}

/** How a source comes in. Throws `ConfigError` where its keys contradict each other. */
export function sourceModality(
  config: SourceConfig,
  text: { hiddenSize: number; vocabSize: number; embeddings: string; padding: number | undefined },
): Entering {
  const { hiddenSize, padding } = text;
  if (padding === undefined)
    throw new ConfigError(
      'source: a text that is written from a source ends with a token: give eos_token_id',
    );
  switch (config.kind) {
    case 'texts':
      return texts(config, { ...text, padding });
    case 'images':
      return pixels(config, hiddenSize);
    case 'sounds':
      return fixed(samples(config, hiddenSize), config.length);
  }
}

/** The input of a stream, with a fixed number of positions. */
function fixed(modality: Entering, length: number): Entering {
  return {
    ...modality,
    inputs: modality.inputs.map((each) => ({
      ...each,
      shape: each.shape.map((dim) => (dim === 'sequence' ? length : dim)),
    })),
  };
}
