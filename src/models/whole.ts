/**
 * The layers of our own family for what is whole before it is read, such as images: the keys of a config that shape them, and the mixer of
 * each letter. As in recurrent.ts, a key that a config leaves out is not written either.
 */
import { z } from 'zod';
import { ConfigError } from '../errors.js';
import {
  convolutionalBlock,
  type Grid,
  halvedGrid,
  halving,
  inWindows,
  type Mixer,
  mambaVision,
  separableBlock,
} from '../nn/index.js';
import type { Build, LayerPlace } from './letter.js';
import { type LayerLetter, letterName, type PatternLayer, type WHOLE_BLOCKS } from './pattern.js';

/** The keys of a config that layers for whole images have. */
export const wholeKeys = {
  /** Width of separable attention's queries and keys, as a multiple of the hidden size; 2 by default. */
  separableExpansion: z.number().int().positive().max(64).optional(),
  /** Places of a side of the windows in which the mixers of images see each other; without it they see the whole image. */
  imageWindow: z.number().int().positive().max(4096).optional(),
};

interface WholeConfig extends z.output<z.ZodObject<typeof wholeKeys>> {
  readonly hiddenSize: number;
  readonly ssmStateSize: number;
}

/** As published (NVlabs/MambaVision, d_conv). */
const VISION_KERNEL = 3;

/** Letters of layers that norm what they read by themselves, each convolution with a batch norm. */
export const OWN_NORM: readonly LayerLetter[] = ['c', 's'];

/** The layers of a pattern that see an image at once, by their letters. */
export const WHOLE = {
  v: (config, place) => {
    const { hiddenSize, ssmStateSize: stateSize } = config;
    const { outputDeviation } = place;
    const mixer = mambaVision({ hiddenSize, stateSize, convKernel: VISION_KERNEL, outputDeviation });
    return windowed(mixer, config, place);
  },
  s: ({ hiddenSize, separableExpansion = 2 }, place) => {
    const { outputDeviation } = place;
    return separableBlock({
      ...{ hiddenSize, grid: gridOf('s', place), outputDeviation },
      expansion: separableExpansion,
    });
  },
  c: ({ hiddenSize }, place) => convolutionalBlock({ hiddenSize, grid: gridOf('c', place) }),
  '/': ({ hiddenSize }, place) => halving({ hiddenSize, grid: gridOf('/', place) }),
} satisfies Record<string, Build<WholeConfig>>;

/** The rows and columns that a layer sees. Throws `ConfigError` where there are none. */
function gridOf(letter: keyof typeof WHOLE_BLOCKS, { grid }: LayerPlace): Grid {
  if (grid) return grid;
  throw new ConfigError(
    `the layer '${letter}' (${letterName(letter)}) needs the rows and columns of an image, without a class token among them`,
  );
}

/** A mixer of an image's places, in windows where the config asks for them. */
export function windowed(
  mixer: Mixer,
  { imageWindow }: Pick<WholeConfig, 'imageWindow'>,
  { grid }: LayerPlace,
): Mixer {
  return imageWindow === undefined || !grid ? mixer : inWindows(mixer, grid, imageWindow);
}

/** A stage of a vision network: the keys of its config, and its grid of positions. */
export interface Stage<Config> {
  readonly config: Config;
  readonly grid: Grid | undefined;
}

/** Keys that grow with the hidden size: a stage of twice the width has twice as many heads. */
const WIDTHS = [
  'hiddenSize',
  'intermediateSize',
  'moeIntermediateSize',
  'mambaNumHeads',
  'numAttentionHeads',
  'numKeyValueHeads',
  'linearNumHeads',
] as const;

/** The stage of each layer: behind each `/` the width doubles, and rows and columns are halved. */
export function stagesOf<Config extends { readonly [Key in (typeof WIDTHS)[number]]?: number | undefined }>(
  layers: readonly PatternLayer[],
  config: Config,
  grid: Grid | undefined,
): Stage<Config>[] {
  let stage: Stage<Config> = { config, grid };
  return layers.map(({ letters }) => {
    const own = stage;
    if (letters.includes('/')) {
      const doubled = WIDTHS.flatMap((key) =>
        own.config[key] === undefined ? [] : [[key, 2 * own.config[key]]],
      );
      stage = {
        config: { ...own.config, ...Object.fromEntries(doubled) },
        grid: own.grid && halvedGrid(own.grid),
      };
    }
    return own;
  });
}
