/** Models of other data than text: each kind has a schema for the config's `input`, and builds a modality from it. */
import { z } from 'zod';
import { images, imagesSchema } from './images.js';
import type { Modality } from './modality.js';
import { series, seriesSchema } from './series.js';
import { sounds, soundsSchema } from './sounds.js';

export {
  type Calendar,
  type CalendarField,
  calendarEntries,
  calendarFields,
  calendarSize,
  longestCycle,
  type TimeStep,
  timeOfRow,
  timeText,
} from './calendar.js';
export { type ImagesConfig, patchesOf } from './images.js';
export { type ModelKind, wrongKind } from './kind.js';
export {
  type Entered,
  type Entering,
  type Modality,
  type ModalityInput,
  TOKENS,
  type Unit,
} from './modality.js';
export {
  calendarFeeds,
  calendarInputs,
  type DatedConfig,
  LEAST_DEVIATION,
  MOST_SERIES_ROWS,
  type SeriesConfig,
} from './series.js';
export type { SoundsConfig } from './sounds.js';

/** The key `input` of a config. */
export const modalitySchema = z.discriminatedUnion('kind', [seriesSchema, imagesSchema, soundsSchema]);

/** The key `input` of a config, validated and with defaults. */
export type ModalityConfig = z.output<typeof modalitySchema>;

/** Throws `ConfigError` for inconsistent keys. */
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
