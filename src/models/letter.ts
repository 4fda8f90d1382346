/** How the mixer of a pattern's letter is made: each file of letters has a table of these. */
import type { Grid, Mixer } from '../nn/index.js';

/** Where a layer stands among all layers and among those of its letter, and how its output starts out. */
export interface LayerPlace {
  readonly index: number;
  readonly count: number;
  readonly ofLetter: { readonly index: number; readonly count: number };
  readonly outputDeviation: number;
  /** Of the positions, where they are the places of an image. */
  readonly grid?: Grid | undefined;
}

/** Makes the mixer of a letter. Throws `ConfigError` where sizes do not fit. */
export type Build<Config> = (config: Config, place: LayerPlace) => Mixer;
