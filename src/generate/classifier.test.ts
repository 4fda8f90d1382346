/** What a classifier takes: an image in memory, the bytes of its file, or its path. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encode } from 'fast-png';
import { expect, test } from 'vitest';
import { DataError, DeviceError } from '../errors.js';
import { hybridModel, presetOf } from '../models/index.js';
import { tinyWeights } from '../models/testing/tiny.js';
import type { Image } from '../signals/index.js';
import { Classifier } from './classifier.js';
import { device } from './testing/tiny.js';

const config = {
  kind: 'images',
  height: 8,
  width: 8,
  channels: 1,
  patch: 2,
  classes: ['even', 'odd'],
} as const;
const model = hybridModel(presetOf('hybrid', 'nano', { ...config, classes: [...config.classes] }));
const classifier = await Classifier.compile(model, tinyWeights(model), device);
const image: Image = {
  ...{ height: 8, width: 8, channels: 1 },
  pixels: Uint8Array.from({ length: 64 }, (_, i) => (37 * i) % 256),
};
const png = encode({ width: 8, height: 8, channels: 1, depth: 8, data: image.pixels });

test('an image, the bytes of its file and its path are classified alike', async () => {
  const expected = await classifier.classify(image);
  expect(expected.classes).toHaveLength(2);
  expect(await classifier.classify(png)).toEqual(expected);
  expect(await classifier.classify(Buffer.from(png))).toEqual(expected);
  const folder = await mkdtemp(join(tmpdir(), 'heddle-classifier-'));
  await writeFile(join(folder, 'image.png'), png);
  expect(await classifier.classify(join(folder, 'image.png'))).toEqual(expected);
  await rm(folder, { recursive: true });
});

test('what is no image is refused, and so are pixels that do not fill their size', async () => {
  const sound = { rate: 1000, samples: new Float32Array(8) };
  for (const other of [sound, null as never, 5 as never])
    await expect(classifier.classify(other)).rejects.toThrow(
      /^the model reads images: expected one, the bytes/,
    );
  const few = { ...image, pixels: new Uint8Array(3) };
  await expect(classifier.classify(few)).rejects.toThrow(
    new DataError('the image has 3 values: expected 64, of 8 x 8 pixels in 1 channel'),
  );
  await expect(classifier.classify(png.subarray(0, 40))).rejects.toThrow(DataError);
  await expect(classifier.classify(new Uint8Array(3))).rejects.toThrow(/expected PNG or JPEG/);
});

test('a classifier that was disposed of says so', async () => {
  const other = await Classifier.compile(model, tinyWeights(model), device);
  await other.dispose();
  await expect(other.classify(image)).rejects.toThrow(
    new DeviceError('the model was disposed of: load it again'),
  );
});
