/** Augmentation: each epoch sees each image a little differently. */
import { ConfigError } from '../errors.js';
import type { Random } from '../nn/index.js';
import type { Image } from '../signals/index.js';

/** How images are varied in training; what is left out is not varied. */
export interface Augmentation {
  /** Whether half of the images are mirrored, left to right. */
  readonly mirror?: boolean;
  /** The most pixels by which an image is moved in each direction: whole ones, unless it is turned or scaled too. */
  readonly shift?: number;
  /** The most degrees by which it is turned, to either side. */
  readonly turn?: number;
  /** The largest share by which it becomes larger or smaller, below 1. */
  readonly scale?: number;
  /** The share of the images in which a rectangle is erased. */
  readonly erase?: number;
}

/** The names, in the order in which a run's identity has them. */
const NAMES: (keyof Augmentation)[] = ['mirror', 'shift', 'turn', 'scale', 'erase'];

/** An augmentation as the identity of a run has it, in whatever order its parts were given. */
export function augmentationIdentity(augmentation: Augmentation): string {
  return JSON.stringify(augmentation, NAMES);
}

/** Throws `ConfigError` for a number outside its range. */
export function checkAugmentation({ shift = 0, turn = 0, scale = 0, erase = 0 }: Augmentation): void {
  const expect = (name: string, value: number, most: number, range: string): void => {
    if (!(value >= 0 && value <= most))
      throw new ConfigError(`augmentation: ${name} is ${value}: expected ${range}`);
  };
  expect('shift', shift, 4096, 'pixels, 0 or more');
  expect('turn', turn, 180, 'degrees from 0 to 180');
  expect('scale', scale, 0.9, 'a share from 0 to 0.9');
  expect('erase', erase, 1, 'a share from 0 to 1');
}

/** A variation of an image, of the same size. */
export function augmented(image: Image, random: Random, augmentation: Augmentation): Image {
  const { mirror = false, shift = 0, turn = 0, scale = 0, erase = 0 } = augmentation;
  const within = (most: number): number => most * (2 * random.uniform() - 1);
  const isWhole = turn === 0 && scale === 0;
  const side = mirror && random.below(2) === 0 ? -1 : 1;
  const angle = within((turn * Math.PI) / 180);
  const size = 1 + within(scale);
  const [right, down] = [0, 1].map(() =>
    isWhole ? random.below(2 * Math.floor(shift) + 1) - Math.floor(shift) : within(shift),
  ) as [number, number];
  const [cosine, sine] = [Math.cos(angle) / size, Math.sin(angle) / size];
  const moved = isWhole
    ? shifted(image, right, down, side === -1)
    : resampled(image, { right, down, across: [side * cosine, side * sine], along: [-sine, cosine] });
  return random.uniform() < erase ? erased(moved, random) : moved;
}

/** An image that is moved by whole pixels, and before that mirrored or not; beyond the edge it goes on as at the edge. */
function shifted(image: Image, right: number, down: number, isMirrored: boolean): Image {
  if (right === 0 && down === 0 && !isMirrored) return image;
  const { height, width, channels, pixels } = image;
  const made = new Uint8Array(pixels.length);
  for (let row = 0, i = 0; row < height; row++) {
    const start = Math.max(0, Math.min(height - 1, row - down)) * width;
    for (let column = 0; column < width; column++) {
      const x = isMirrored ? width - 1 - column + right : column - right;
      const from = (start + Math.max(0, Math.min(width - 1, x))) * channels;
      for (let channel = 0; channel < channels; channel++, i++) made[i] = pixels[from + channel]!;
    }
  }
  return { ...image, pixels: made };
}

/**
 * The map from pixels of a moved image to those of the original, both as (column, row) from the middle: the pixel (x, y) comes from the column
 * `across` . (x - right, y - down) and the row `along` . (x - right, y - down).
 */
interface Motion {
  readonly right: number;
  readonly down: number;
  readonly across: readonly [number, number];
  readonly along: readonly [number, number];
}

/** Each pixel as the four around its place in the image, by distance; beyond the edge the image goes on as at the edge. */
function resampled(image: Image, { right, down, across, along }: Motion): Image {
  const { height, width, channels, pixels } = image;
  const [middleX, middleY] = [(width - 1) / 2, (height - 1) / 2];
  const [[xx, xy], [yx, yy]] = [across, along];
  const inside = (place: number, size: number): number => Math.max(0, Math.min(size - 1, place));
  const made = new Uint8Array(pixels.length);
  for (let row = 0, i = 0; row < height; row++) {
    const v = row - middleY - down;
    for (let column = 0; column < width; column++) {
      const u = column - middleX - right;
      const x = xx * u + xy * v + middleX;
      const y = yy * v + yx * u + middleY;
      const [left, top] = [Math.floor(x), Math.floor(y)];
      const [a, b] = [x - left, y - top];
      const [x0, x1] = [inside(left, width) * channels, inside(left + 1, width) * channels];
      const [y0, y1] = [inside(top, height) * width * channels, inside(top + 1, height) * width * channels];
      for (let channel = 0; channel < channels; channel++, i++) {
        const above = pixels[y0 + x0 + channel]! * (1 - a) + pixels[y0 + x1 + channel]! * a;
        const below = pixels[y1 + x0 + channel]! * (1 - a) + pixels[y1 + x1 + channel]! * a;
        made[i] = Math.round(above * (1 - b) + below * b);
      }
    }
  }
  return { ...image, pixels: made };
}

/** The share of an image that is erased, and how much longer one side of the rectangle is than the other at most. */
const ERASED = { least: 0.02, most: 0.4, ratio: 1 / 0.3 };

/** Random erasing (Zhong et al., 2017, arXiv 1708.04896): a rectangle is filled with random values. */
function erased(image: Image, random: Random): Image {
  const { height, width, channels } = image;
  const area = height * width * (ERASED.least + (ERASED.most - ERASED.least) * random.uniform());
  const ratio = ERASED.ratio ** (2 * random.uniform() - 1);
  const rows = Math.max(1, Math.min(height, Math.round(Math.sqrt(area * ratio))));
  const columns = Math.max(1, Math.min(width, Math.round(Math.sqrt(area / ratio))));
  const [top, left] = [random.below(height - rows + 1), random.below(width - columns + 1)];
  const pixels = image.pixels.slice();
  for (let row = top; row < top + rows; row++) {
    const start = (row * width + left) * channels;
    for (let i = start; i < start + columns * channels; i++) pixels[i] = random.below(256);
  }
  return { ...image, pixels };
}
