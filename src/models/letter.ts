/** The types of the tables that build the mixers of pattern letters. */
import type { Grid, Mixer } from '../nn/index.js';

/** The index of a layer among all layers and among those of its letter, and the initialization of its output. */
export interface LayerPlace {
  readonly index: number;
  readonly count: number;
  readonly ofLetter: { readonly index: number; readonly count: number };
  readonly outputDeviation: number;
  /** The grid of positions, for images. */
  readonly grid?: Grid | undefined;
}

/** Builds the mixer of a letter. Throws `ConfigError` for inconsistent sizes. */
export type Build<Config> = (config: Config, place: LayerPlace) => Mixer;
