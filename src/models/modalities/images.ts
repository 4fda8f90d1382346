/**
 * Images: patches of pixels, row by row, each a linear map of its values and a learned position (ViT: Dosovitskiy et al.,
 * 2020, arXiv 2010.11929); classes are said by the mean over all patches. With a patch of 1 the pixels are read in a row.
 */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import { add, multiply, reshape, subtract, type Tensor, transpose } from '../../graph/index.js';
import { INITIAL_DEVIATION, linear, normal } from '../../nn/index.js';
import { classesSchema, classLogits, expectClasses } from './classes.js';
import type { Modality } from './modality.js';

const positive = (most: number) => z.number().int().positive().max(most);

export const imagesSchema = z.strictObject({
  kind: z.literal('images'),
  /** In pixels. */
  height: positive(4096),
  width: positive(4096),
  /** 1 for grey, 3 for red, green and blue. */
  channels: z.union([z.literal(1), z.literal(3)]),
  /** Pixels of a patch's side. */
  patch: positive(4096),
  classes: classesSchema,
});

export type ImagesConfig = z.output<typeof imagesSchema>;

/** How many patches an image has: the positions that the layers see. */
export function patchesOf({ height, width, patch }: ImagesConfig): number {
  return (height / patch) * (width / patch);
}

/** Throws `ConfigError` where the keys contradict each other. */
export function images(config: ImagesConfig, hiddenSize: number): Modality {
  const { height, width, channels, patch, classes } = config;
  expectClasses(classes);
  if (height % patch !== 0 || width % patch !== 0) {
    throw new ConfigError(
      `input: height (${height}) and width (${width}) must be multiples of patch (${patch})`,
    );
  }
  const patches = patchesOf(config);
  const [rows, columns] = [height / patch, width / patch];
  return {
    kind: 'images',
    about: `reads images of ${width} x ${height} pixels ${channels === 1 ? 'in grey' : 'in colour'} in ${patches} patches of ${patch} x ${patch} and tells ${classes.join(', ')}`,
    // From 0, black, to 1.
    inputs: [{ name: 'pixels', dtype: 'float32', shape: [height, width, channels] }],
    state: [],
    enter(parameters, { pixels }) {
      const batch = pixels!.shape[0]!;
      const blocks = reshape(pixels!, [batch, rows, patch, columns, patch, channels]);
      const inARow = reshape(transpose(blocks, [0, 1, 3, 2, 4, 5]), [
        batch,
        patches,
        patch * patch * channels,
      ]);
      const centered = multiply(subtract(inARow, 0.5), 2);
      const stream = parameters.within('input', (p): Tensor => {
        const places = p.get('positions', [patches, hiddenSize], normal(INITIAL_DEVIATION));
        return add(linear(p, centered, hiddenSize, { bias: true, precise: true }), places);
      });
      return { stream, state: {}, kept: {} };
    },
    leave: (parameters, hidden) => classLogits(parameters, hidden, classes),
  };
}
