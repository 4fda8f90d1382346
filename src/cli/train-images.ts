/** `heddle train <folder of images by class>`. */
import { InvalidArgumentError } from 'commander';
import { DataError } from '../errors.js';
import { type ImagesConfig, patchesOf, patchFor } from '../models/index.js';
import { type Image, type ImageShape, readImage, resized, withChannels } from '../signals/index.js';
import { type Augmentation, imageData } from '../train/index.js';
import type { ClassKind } from './train-classes.js';

/** The options of image models; `patch` is the side of a patch in pixels, `augment` how images are varied in training. */
export interface ImageFlags {
  /** The size in pixels that all images are resized to. */
  imageSize?: Pick<ImageShape, 'height' | 'width'>;
  patch?: number;
  augment?: Augmentation;
}

/** `mirror,shift=2,turn=10,scale=0.1,erase=0.25`: each of them may be left out. Throws `InvalidArgumentError` for anything else. */
export function augmentationFrom(text: string): Augmentation {
  const parts = text.split(',').map((part) => {
    const [name, value] = part.split(/=(.*)/s) as [string, string?];
    const isNumber = value !== undefined && value.trim() !== '' && Number.isFinite(Number(value));
    const isKnown = name === 'mirror' ? value === undefined : AMOUNTS.includes(name) && isNumber;
    if (!isKnown)
      throw new InvalidArgumentError(
        "expected what is varied and how much, as in 'mirror,shift=2,turn=10,scale=0.1,erase=0.25'.",
      );
    return [name, name === 'mirror' ? true : Number(value)];
  });
  return Object.fromEntries(parts);
}

const AMOUNTS = ['shift', 'turn', 'scale', 'erase'];

/** Reads a folder of images, and derives the model's input. */
export function imagesByClass({
  imageSize: size,
  patch,
  augment,
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
    data: (training, validation) => imageData(training, validation, augment && { augment }),
  };
}
