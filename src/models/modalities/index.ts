/** Models of other things than text: each kind is a schema of its keys in a config's `input`, and a modality made of them. */
import { z } from 'zod';
import { images, imagesSchema } from './images.js';
import type { Modality } from './modality.js';
import { series, seriesSchema } from './series.js';
import { sounds, soundsSchema } from './sounds.js';

export { type ImagesConfig, patchesOf } from './images.js';
export { type ModelKind, wrongKind } from './kind.js';
export type { Entered, Entering, Modality, ModalityInput } from './modality.js';
export { MOST_SERIES_ROWS, type SeriesConfig } from './series.js';
export type { SoundsConfig } from './sounds.js';

/** The key `input` of a config. */
export const modalitySchema = z.discriminatedUnion('kind', [seriesSchema, imagesSchema, soundsSchema]);

/** What a model reads that is no text: the key `input` of a config, checked and with its defaults. */
export type ModalityConfig = z.output<typeof modalitySchema>;

/** Throws `ConfigError` where the keys contradict each other. */
export function modalityOf(config: ModalityConfig, hiddenSize: number): Modality {
  switch (config.kind) {
    case 'series':
      return series(config, hiddenSize);
    case 'images':
      return images(config, hiddenSize);
    case 'sounds':
      return sounds(config, hiddenSize);
  }
}
