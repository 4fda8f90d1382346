/** `heddle train <folder>`, where subfolders hold images by class: to a model that tells the classes apart. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { heddleCall } from '../command-line.js';
import { ConfigError, DataError } from '../errors.js';
import {
  CHECKPOINT,
  countParameters,
  hybridModel,
  type ImagesConfig,
  parametersOf,
  patchesOf,
  presetOf,
  readModel,
} from '../models/index.js';
import { Random } from '../nn/index.js';
import { type ClassFolder, type ImageShape, readImage, resized, withChannels } from '../signals/index.js';
import { expectNoRun, imageData, type LabelledImage, TRAINING_DEFAULTS } from '../train/index.js';
import { followRun, say } from './follow-run.js';
import { formatCount } from './format.js';
import { type RunFlags, settingsOf } from './run-flags.js';

export interface ImageFlags {
  /** In pixels: all images are stretched to it. */
  imageSize?: Pick<ImageShape, 'height' | 'width'>;
  patch?: number;
  validation: number;
}

export async function trainImages(
  path: string,
  folder: ClassFolder,
  flags: RunFlags & ImageFlags,
  command: Command,
): Promise<void> {
  for (const key of [
    'from',
    'lora',
    'tokenizer',
    'vocab',
    'config',
    'channel',
    'horizon',
    'sequence',
  ] as const) {
    if (command.getOptionValueSource(key) === 'cli')
      throw new ConfigError(
        `--${key} does not go with images, and ${path} holds images by class: leave it out`,
      );
  }
  if (!flags.resume) expectNoRun(flags.out);
  const { classes } = folder;
  const resumed = flags.resume ? await readModel(join(flags.out, CHECKPOINT)) : undefined;
  const { images, leftOut } = await readAll(folder, flags.imageSize);
  for (const each of [...folder.leftOut, ...leftOut]) say(`left out    ${each}`);
  const shape = images[0]!.image;
  const model =
    resumed ??
    hybridModel(
      presetOf(flags.design, command.getOptionValueSource('size') === 'cli' ? flags.size : 'nano', {
        kind: 'images',
        height: shape.height,
        width: shape.width,
        channels: shape.channels as ImagesConfig['channels'],
        patch: flags.patch ?? patchFor(shape),
        classes: [...classes],
      }),
    );
  const { input } = model.json as { input: ImagesConfig };
  if (input.kind !== 'images' || input.classes.join('\n') !== classes.join('\n')) {
    throw new ConfigError(
      `${flags.out} is of a run that tells other classes than ${path} has (${classes.join(', ')}): train into another folder`,
    );
  }
  const { training, validation } = split(images, classes, flags);
  const sequence = patchesOf(input);
  const settings = settingsOf(flags, sequence, flags.learningRate ?? TRAINING_DEFAULTS.learningRate);
  say(
    `images      ${images.length} of ${classes.length} classes (${listed(classes)}), ${shape.width} x ${shape.height} pixels ${shape.channels === 1 ? 'in grey' : 'in colour'}; ${validation.length} are held out`,
  );
  say(
    `model       ${model.pattern}, ${formatCount(countParameters(parametersOf(model)))} parameters; ${sequence} patches of ${input.patch} x ${input.patch} pixels`,
  );
  const perStep = settings.batch * settings.accumulate;
  say(
    `run         ${settings.steps} steps of ${perStep} images (${((settings.steps * perStep) / training.length).toFixed(1)} epochs), seed ${settings.seed}, on ${flags.device}`,
  );
  await followRun(
    { model, data: imageData(training, validation), settings, folder: flags.out, resume: flags.resume },
    flags,
    {
      quality: ({ loss, measures }) =>
        `validation loss ${loss.toFixed(4)} nats/image, accuracy ${percent(measures)}`,
      result: ({ measures }) => `validation accuracy ${percent(measures)}`,
      made: 'model',
      next: heddleCall('classify', flags.out, folder.files[0]!.path),
      unit: 'patches',
    },
  );
}

function percent(measures: Record<string, number> | undefined): string {
  return `${(100 * (measures?.accuracy ?? 0)).toFixed(1)} %`;
}

function listed(names: readonly string[]): string {
  return names.length <= 10
    ? names.join(', ')
    : `${names.slice(0, 10).join(', ')} and ${names.length - 10} more`;
}

/** Positions that an image has, where its size can be cut so. */
const MOST_PATCHES = 64;

/** The smallest patch that leaves few positions. */
function patchFor({ height, width }: ImageShape): number {
  const sides = Array.from({ length: Math.min(height, width) }, (_, i) => i + 1).filter(
    (side) => height % side === 0 && width % side === 0,
  );
  return sides.find((side) => (height / side) * (width / side) <= MOST_PATCHES) ?? sides.at(-1)!;
}

/** All images of a folder in one size and the same colours; broken files are left out. */
async function readAll(
  { files, classes }: ClassFolder,
  size: ImageFlags['imageSize'],
): Promise<{ images: LabelledImage[]; leftOut: string[] }> {
  const images: LabelledImage[] = [];
  const leftOut: string[] = [];
  let first: { path: string; height: number; width: number } | undefined;
  for (const { path, label } of files) {
    const read = await readImage(path).catch((error: unknown) => {
      if (!(error instanceof DataError)) throw error;
      leftOut.push(error.message);
    });
    if (!read) continue;
    const image = size ? resized(read, size.height, size.width) : read;
    first ??= { path, height: image.height, width: image.width };
    if (image.height !== first.height || image.width !== first.width) {
      throw new DataError(
        `${path} has ${image.width} x ${image.height} pixels and ${first.path} ${first.width} x ${first.height}: have all stretched to one size with --image-size, as in --image-size 32x32`,
      );
    }
    images.push({ image, label });
  }
  for (const [label, name] of classes.entries()) {
    if (images.some((each) => each.label === label)) continue;
    throw new DataError(
      `of the class ${name} no image can be read: ${leftOut.find((text) => text.includes(name)) ?? 'it has none'}`,
    );
  }
  const channels = Math.max(...images.map(({ image }) => image.channels));
  return {
    images: images.map(({ image, label }) => ({ image: withChannels(image, channels), label })),
    leftOut,
  };
}

/** Of each class the same share is held out, by the seed: at least one where it has several. */
function split(
  images: readonly LabelledImage[],
  classes: readonly string[],
  { validation: fraction, seed }: Pick<RunFlags & ImageFlags, 'validation' | 'seed'>,
): Record<'training' | 'validation', LabelledImage[]> {
  if (!(fraction > 0 && fraction < 1))
    throw new ConfigError(`--validation is ${fraction}: expected a share between 0 and 1`);
  const random = new Random(seed);
  const training: LabelledImage[] = [];
  const validation: LabelledImage[] = [];
  for (const label of classes.keys()) {
    const own = images.filter((each) => each.label === label);
    const held = Math.min(own.length - 1, Math.max(1, Math.round(own.length * fraction)));
    for (const [i, place] of random.permutation(own.length).entries())
      (i < held ? validation : training).push(own[place]!);
  }
  if (validation.length === 0)
    throw new DataError('every class has one image alone: nothing can be held out');
  return { training, validation };
}
