/** `heddle train <folder of images by class>`. */
import { DataError } from '../errors.js';
import { type ImagesConfig, patchesOf } from '../models/index.js';
import { type Image, type ImageShape, readImage, resized, withChannels } from '../signals/index.js';
import { imageData } from '../train/index.js';
import type { ClassKind } from './train-classes.js';

/** The options of image models; `patch` is the side of a patch in pixels. */
export interface ImageFlags {
  /** The size in pixels that all images are resized to. */
  imageSize?: Pick<ImageShape, 'height' | 'width'>;
  patch?: number;
}

/** Reads a folder of images, and derives the model's input. */
export function imagesByClass({
  imageSize: size,
  patch,
  design,
}: ImageFlags & { design: string }): ClassKind<Image> {
  let first: { path: string; height: number; width: number } | undefined;
  let odd: string | undefined;
  return {
    one: 'image',
    many: 'images',
    positions: 'patches',
    without: ['sequence'],
    async read(path) {
      const given = await readImage(path);
      const example = size ? resized(given, size.height, size.width) : given;
      const { height, width } = example;
      first ??= { path, height, width };
      if (height !== first.height || width !== first.width) {
        odd ??= `${path} has ${width} x ${height} pixels and ${first.path} ${first.width} x ${first.height}: have all stretched to one size with --image-size, as in --image-size 32x32`;
      }
      return { example };
    },
    together(given, classes) {
      if (odd !== undefined) throw new DataError(odd);
      const channels = Math.max(...given.map(({ example }) => example.channels)) as ImagesConfig['channels'];
      const { height, width } = given[0]!.example;
      return {
        examples: given.map(({ example, label }) => ({ example: withChannels(example, channels), label })),
        input: {
          kind: 'images',
          height,
          width,
          channels,
          patch: patch ?? patchFor({ height, width }, design),
          classes,
        },
        about: `${width} x ${height} pixels ${channels === 1 ? 'in grey' : 'in colour'}`,
      };
    },
    sequence: ({ json }) => patchesOf((json as { input: ImagesConfig }).input),
    data: imageData,
  };
}

/** The number of positions of an image, if the patch divides its size. */
const MOST_PATCHES = 64;
/** The preferred initial grid side of a network with stages. */
const STAGED_SIDE = 14;

/** The smallest patch with few positions; for a network with stages, which downsample, a small stem. */
export function patchFor({ height, width }: Pick<ImageShape, 'height' | 'width'>, design: string): number {
  if (design === 'mambavision' || design === 'vminet')
    return [4, 2, 1].find((side) => Math.min(height, width) / side >= STAGED_SIDE) ?? 1;
  const sides = Array.from({ length: Math.min(height, width) }, (_, i) => i + 1).filter(
    (side) => height % side === 0 && width % side === 0,
  );
  return sides.find((side) => (height / side) * (width / side) <= MOST_PATCHES) ?? sides.at(-1)!;
}
