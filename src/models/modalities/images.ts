/**
 * Images: a sequence of patches in row-major order, each embedded by a linear map and a learned position (ViT: Dosovitskiy et al., 2020, arXiv
 * 2010.11929), or by a convolutional stem. Classes come from the mean over all positions, or from a learned class token. With patches of 1 the
 * sequence is that of the pixels.
 */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import {
  add,
  broadcastTo,
  concat,
  multiply,
  slice,
  spaceToDepth,
  subtract,
  type Tensor,
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
  /** The side of a patch in pixels. */
  patch: positive(4096),
  /** `patches` by default; for the other see `convolutionalStem`. */
  stem: z.enum(['patches', 'convolution']).optional(),
  /** How positions are pooled: their mean by default. */
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

/** The number of patches, which are the positions of the layers. */
export function patchesOf(config: PixelsConfig): number {
  const { height, width } = gridOf(config);
  return height * width;
}

/** The modality of image classification. Throws `ConfigError` for inconsistent keys. */
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
      // The class token is last, so that causal layers let it see everything.
      classLogits(
        parameters,
        config.pool === 'token' ? slice(hidden, 1, patches, patches + 1) : hidden,
        classes,
      ),
  };
}

/** The input layer of images. Throws as `images` does. */
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
    unit: { name: 'patches', perPosition: 1 },
    // Values from 0 (black) to 1.
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
                linear(p, inARow(spaceToDepth(centered, patch)), hiddenSize, { bias: true, precise: true }),
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
