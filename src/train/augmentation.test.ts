/** Augmentation: what each option does to an image, and what it leaves as it is. */
import { expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { Random } from '../nn/index.js';
import type { Image } from '../signals/index.js';
import { type Augmentation, augmentationIdentity, augmented, checkAugmentation } from './augmentation.js';

/** A bright rectangle on black, 20 rows of 28 pixels in red, green and blue. */
function rectangle(): Image {
  const pixels = new Uint8Array(20 * 28 * 3);
  for (let y = 6; y < 12; y++)
    for (let x = 9; x < 14; x++) pixels.set([200, 100 + x, 50 + y], 3 * (y * 28 + x));
  return { height: 20, width: 28, channels: 3, pixels };
}

const image = rectangle();

function variations(augmentation: Augmentation, count = 40): Image[] {
  const random = new Random(3);
  return Array.from({ length: count }, () => augmented(image, random, augmentation));
}

const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);
const distinct = (images: readonly Image[]): number =>
  new Set(images.map(({ pixels }) => pixels.join())).size;

/** The pixel of an image, or black. */
function at({ height, width, pixels }: Image, y: number, x: number): number[] {
  const isInside = y >= 0 && x >= 0 && y < height && x < width;
  return isInside ? [...pixels.subarray(3 * (y * width + x), 3 * (y * width + x + 1))] : [0, 0, 0];
}

/** Whether `other` has at (y, x) what the image has at `source(y, x)`. */
function isMapped(other: Image, source: (y: number, x: number) => [number, number]): boolean {
  for (let y = 0; y < 20; y++)
    for (let x = 0; x < 28; x++)
      if (at(other, y, x).join() !== at(image, ...source(y, x)).join()) return false;
  return true;
}

test('without options an image is the same, and the same random numbers give the same variation', () => {
  expect(augmented(image, new Random(1), {})).toEqual(image);
  const all = { mirror: true, shift: 2, turn: 10, scale: 0.1, erase: 1 };
  expect(augmented(image, new Random(5), all)).toEqual(augmented(image, new Random(5), all));
  expect(augmented(image, new Random(5), all)).not.toEqual(augmented(image, new Random(6), all));
  expect(image).toEqual(rectangle());
});

test('mirrored are about half of the images, left to right', () => {
  const mirrored = variations({ mirror: true }).filter((each) => isMapped(each, (y, x) => [y, 27 - x]));
  const same = variations({ mirror: true }).filter((each) => isMapped(each, (y, x) => [y, x]));
  expect(mirrored.length + same.length).toBe(40);
  expect(mirrored.length).toBeGreaterThan(10);
  expect(same.length).toBeGreaterThan(10);
});

test('shifts are of whole pixels, in all directions and no further', () => {
  const seen = new Set<string>();
  for (const each of variations({ shift: 2 }, 300)) {
    const steps = [-2, -1, 0, 1, 2];
    const fitting = steps.flatMap((down) =>
      steps
        .filter((right) => isMapped(each, (y, x) => [y - down, x - right]))
        .map((right) => `${down} ${right}`),
    );
    expect(fitting).toHaveLength(1);
    seen.add(fitting[0]!);
  }
  expect(seen.size).toBe(25);
});

test('what is turned or scaled keeps its light, and is another one each time', () => {
  for (const augmentation of [{ turn: 20 }, { turn: 10, shift: 2 }]) {
    const all = variations(augmentation);
    for (const { pixels } of all) expect(sum(pixels) / sum(image.pixels)).toBeCloseTo(1, 1);
    expect(distinct(all)).toBe(40);
  }
  const sizes = variations({ scale: 0.3 }).map(({ pixels }) => sum(pixels) / sum(image.pixels));
  for (const size of sizes) {
    expect(size).toBeGreaterThan(0.7 ** 2 - 0.1);
    expect(size).toBeLessThan(1.3 ** 2 + 0.1);
  }
  expect(Math.max(...sizes) - Math.min(...sizes)).toBeGreaterThan(0.6);
});

test('beyond its edge an image goes on as at the edge', () => {
  const grey = { height: 3, width: 3, channels: 1, pixels: new Uint8Array(9).fill(90) };
  const random = new Random(1);
  for (let i = 0; i < 20; i++)
    expect(augmented(grey, random, { shift: 2, turn: 30, scale: 0.5 })).toEqual(grey);
});

test('one rectangle is erased in the given share of the images', () => {
  const changed = variations({ erase: 0.5 }, 200).filter((each) => distinct([each, image]) === 2);
  expect(changed.length).toBeGreaterThan(60);
  expect(changed.length).toBeLessThan(140);
  for (const each of changed) {
    const places = Array.from({ length: 20 * 28 }, (_, i) => [Math.floor(i / 28), i % 28] as const).filter(
      ([y, x]) => at(each, y, x).join() !== at(image, y, x).join(),
    );
    const [rows, columns] = [0, 1].map((axis) => places.map((place) => place[axis]!));
    const sides = [rows!, columns!].map((all) => Math.max(...all) - Math.min(...all) + 1);
    // A random pixel is as it was with a chance of 2^-24.
    expect(places.length).toBe(sides[0]! * sides[1]!);
    expect(places.length / (20 * 28)).toBeLessThan(0.45);
  }
});

test.each([{ shift: -1 }, { turn: 181 }, { scale: 1 }, { erase: 1.5 }, { erase: Number.NaN }])(
  '%j is refused',
  (augmentation) => {
    expect(() => checkAugmentation(augmentation)).toThrow(ConfigError);
  },
);

test('two augmentations are the same in whatever order their parts were given', () => {
  const [one, other] = [
    { mirror: true, shift: 2, erase: 0 },
    { erase: 0, shift: 2, mirror: true },
  ];
  expect(augmentationIdentity(one)).toBe(augmentationIdentity(other));
  expect(augmentationIdentity(one)).not.toBe(augmentationIdentity({ ...one, shift: 3 }));
});
