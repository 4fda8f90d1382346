/**
 * Images: patches of pixels, row by row, each a linear map of its values and a learned position (ViT: Dosovitskiy et al.,
 * 2020, arXiv 2010.11929), or what a convolutional stem makes of as many pixels. Classes are said by the mean over all of them, or by a
 * learned token that the layers see beside them. With a patch of 1 the pixels are read in a row.
 */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import {
  add,
  broadcastTo,
  concat,
  type Dim,
  multiply,
  reshape,
  slice,
  subtract,
  type Tensor,
  transpose,
} from '../../graph/index.js';
import {
  convolutionalStem,
  type Grid,
  INITIAL_DEVIATION,
  inARow,
  linear,
  normal,
  type Parameters,
} from '../../nn/index.js';
import { classesSchema, classLogits, expectClasses } from './classes.js';
import type { Entering, Modality } from './modality.js';

const positive = (most: number) => z.number().int().positive().max(most);

/** The key `input` of a model that classifies images. */
export const imagesSchema = z.strictObject({
  kind: z.literal('images'),
  /** In pixels. */
  height: positive(4096),
  width: positive(4096),
  /** 1 for grey, 3 for red, green and blue. */
  channels: z.union([z.literal(1), z.literal(3)]),
  /** Pixels of a patch's side. */
  patch: positive(4096),
  /** `patches` by default; see `convolutionalStem` for the other. */
  stem: z.enum(['patches', 'convolution']).optional(),
  /** What says the class: the mean over all places by default. */
  pool: z.enum(['mean', 'token']).optional(),
  classes: classesSchema,
});

/** The key `input` of a model of images. */
export type ImagesConfig = z.output<typeof imagesSchema>;
type PixelsConfig = Omit<ImagesConfig, 'classes'>;

/** Rows and columns of the patches. */
function gridOf({ height, width, patch }: PixelsConfig): Grid {
  return { height: Math.ceil(height / patch), width: Math.ceil(width / patch) };
}

/** How many patches an image has: the positions that the layers see. */
export function patchesOf(config: PixelsConfig): number {
  const { height, width } = gridOf(config);
  return height * width;
}

/** Images whose classes are told. Throws `ConfigError` where the keys contradict each other. */
export function images(config: ImagesConfig, hiddenSize: number): Modality {
  const { classes } = config;
  expectClasses(classes);
  const entering = pixels(config, hiddenSize);
  const patches = patchesOf(config);
  return {
    ...entering,
    about: `${entering.about} and tells ${classes.join(', ')}`,
    state: [],
    leave: (parameters, hidden) =>
      // Last, where also layers that look back alone have it see everything.
      classLogits(
        parameters,
        config.pool === 'token' ? slice(hidden, 1, patches, patches + 1) : hidden,
        classes,
      ),
  };
}

/** How images come in. Throws as `images` does. */
export function pixels(config: PixelsConfig, hiddenSize: number): Entering {
  const { height, width, channels, patch, stem = 'patches', pool = 'mean' } = config;
  if (stem === 'patches' && (height % patch !== 0 || width % patch !== 0)) {
    throw new ConfigError(
      `input: height (${height}) and width (${width}) must be multiples of patch (${patch})`,
    );
  }
  if (stem === 'convolution' && !Number.isInteger(Math.log2(patch))) {
    throw new ConfigError(
      `input: patch (${patch}) must be a power of two for a convolutional stem, which halves the image`,
    );
  }
  const patches = patchesOf(config);
  const grid = gridOf(config);
  const hasToken = pool === 'token';
  const cut = stem === 'patches' ? 'patches' : 'places';
  return {
    kind: 'images',
    about: `reads images of ${width} x ${height} pixels ${channels === 1 ? 'in grey' : 'in colour'} in ${patches} ${cut} of ${patch} x ${patch}`,
    // From 0, black, to 1.
    inputs: [{ name: 'pixels', dtype: 'float32', shape: [height, width, channels] }],
    grid: hasToken ? undefined : grid,
    enter(parameters, { pixels: given }) {
      const batch = given!.shape[0]!;
      const centered = multiply(subtract(given!, 0.5), 2);
      const stream = parameters.within('input', (p): Tensor => {
        const read =
          stem === 'convolution'
            ? inARow(p.within('stem', (own) => convolutionalStem(own, centered, hiddenSize, patch)))
            : placed(
                p,
                linear(p, inPatches(centered, grid, patch), hiddenSize, { bias: true, precise: true }),
              );
        if (!hasToken) return read;
        const token = p.get('token', [1, 1, hiddenSize], normal(INITIAL_DEVIATION));
        return concat([read, broadcastTo(token, [batch, 1, hiddenSize])], 1);
      });
      return { stream, state: {}, kept: {} };
    },
  };

  function placed(parameters: Parameters, stream: Tensor): Tensor {
    return add(stream, parameters.get('positions', [patches, hiddenSize], normal(INITIAL_DEVIATION)));
  }
}

/** Pixels [batch, height, width, channels] -> the values of each patch [batch, patches, patch * patch * channels]. */
function inPatches(pixels: Tensor, { height, width }: Grid, patch: number): Tensor {
  const [batch, , , channels] = pixels.shape as [Dim, number, number, number];
  const blocks = reshape(pixels, [batch, height, patch, width, patch, channels]);
  return reshape(transpose(blocks, [0, 1, 3, 2, 4, 5]), [batch, height * width, patch * patch * channels]);
}
