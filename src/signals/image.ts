/** Reading PNG and JPEG images. */
import { readFile } from 'node:fs/promises';
import jpeg from 'jpeg-js';
import { DataError } from '../errors.js';
import { unreadable } from '../platform/unreadable.js';
import { jpegOrientation, upright } from './orientation.js';
import { decodePng, isPng, sizeOfPng } from './png.js';

/** An image with 8 bits per channel. */
export interface Image {
  readonly height: number;
  readonly width: number;
  /** 1 for grey, 3 for red, green and blue. */
  readonly channels: number;
  /** [height, width, channels], flat; from 0 to 255. */
  readonly pixels: Uint8Array;
}

/** The size and channels that a model reads. */
export type ImageShape = Pick<Image, 'height' | 'width' | 'channels'>;

/** File names of images. */
export const IMAGE_FILE = /\.(png|jpe?g)$/i;

/** The most pixels that are decoded; 100 megapixels take 300 MB. */
const MOST_PIXELS = 1e8;

/** Reads an image file, as `decodeImage` does. Throws `DataError`, with the path, also for a file that cannot be read. */
export async function readImage(path: string): Promise<Image> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  return decodeImage(bytes, path);
}

/**
 * Decodes a PNG or JPEG file, detected by its first bytes. Transparent pixels are composited onto white; 16 bits become 8;
 * photos are turned as their EXIF data say.
 * Throws `DataError`, which calls the image `name`, for bytes that are neither or are broken, and for more than 100 million pixels.
 */
export function decodeImage(bytes: Uint8Array, name: string): Image {
  imageSize(bytes, name);
  const buffer = bufferOf(bytes);
  return namingBroken(name, () =>
    isPng(buffer) ? decodePng(buffer) : upright(fromJpeg(buffer), jpegOrientation(buffer)),
  );
}

/**
 * Reads the size of a PNG or JPEG image from its header, in pixels, before it is turned. Throws `DataError`, which calls the image `name`, for bytes that
 * are neither or end within the header, and for more than `most` pixels.
 */
export function imageSize(
  bytes: Uint8Array,
  name: string,
  most = MOST_PIXELS,
): Pick<Image, 'height' | 'width'> {
  if (bytes.length === 0) throw new DataError(`${name} is empty`);
  const buffer = bufferOf(bytes);
  if (!isPng(buffer) && !(bytes[0] === 0xff && bytes[1] === 0xd8))
    throw new DataError(`${name} is not a supported image: expected PNG or JPEG`);
  const size = namingBroken(name, () => (isPng(buffer) ? sizeOfPng(buffer) : sizeOfJpeg(buffer)));
  const megapixels = (count: number): number => Math.round(count / 1e5) / 10;
  if (size.height * size.width > most)
    throw new DataError(
      `${name} has ${megapixels(size.height * size.width)} megapixels, and at most ${megapixels(most)} are read: send it smaller`,
    );
  return size;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function namingBroken<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new DataError(`${name} is broken: ${(error as Error).message}`, { cause: error });
  }
}

/** The size in the frame header (ITU-T T.81, B.2.2), which is one of the segments that come before the data. */
function sizeOfJpeg(bytes: Buffer): Pick<Image, 'height' | 'width'> {
  for (let at = 2; at + 9 <= bytes.length; ) {
    const marker = bytes[at + 1]!;
    // Any number of fill bytes may precede a marker; other bytes between segments are skipped too.
    if (bytes[at] !== 0xff || marker === 0xff) at++;
    else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      return { height: bytes.readUInt16BE(at + 5), width: bytes.readUInt16BE(at + 7) };
    else at += 2 + bytes.readUInt16BE(at + 2);
  }
  throw new Error('it ends within its header');
}

function fromJpeg(bytes: Buffer): Image {
  const { width, height, data } = jpeg.decode(bytes, {
    useTArray: true,
    formatAsRGBA: false,
    maxResolutionInMP: MOST_PIXELS / 1e6,
    maxMemoryUsageInMB: 2048,
    tolerantDecoding: false,
  });
  const colours: Image = { height, width, channels: 3, pixels: data };
  // The decoder returns grey images in RGB too.
  return data.every((value, i) => value === data[i - (i % 3)]) ? withChannels(colours, 1) : colours;
}

/** Converts to grey (the luma of ITU-R BT.601) or to RGB. */
export function withChannels(image: Image, channels: number): Image {
  if (image.channels === channels) return image;
  const count = image.height * image.width;
  const { pixels: from } = image;
  const pixels = new Uint8Array(channels * count);
  for (let i = 0; i < count; i++) {
    if (channels === 3) pixels.fill(from[i]!, 3 * i, 3 * i + 3);
    else pixels[i] = Math.round(0.299 * from[3 * i]! + 0.587 * from[3 * i + 1]! + 0.114 * from[3 * i + 2]!);
  }
  return { ...image, channels, pixels };
}

/**
 * Resizes an image; each side is scaled by its own factor. Each pixel is a mean of the pixels under it, weighted by a triangle filter,
 * as in Pillow's bilinear filter.
 */
export function resized(image: Image, height: number, width: number): Image {
  if (image.height === height && image.width === width) return image;
  const { channels } = image;
  const across = filtered(image.pixels, image.height, image.width, channels, width);
  const down = filtered(across, 1, image.height, width * channels, height);
  return { height, width, channels, pixels: Uint8Array.from(down, (value) => Math.round(value)) };
}

/** Resizes one axis: [outer, from, inner] -> [outer, to, inner]. */
function filtered(
  x: Uint8Array | Float32Array,
  outer: number,
  from: number,
  inner: number,
  to: number,
): Float32Array {
  const scale = from / to;
  const reach = Math.max(1, scale);
  const result = new Float32Array(outer * to * inner);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale - 0.5;
    const first = Math.max(0, Math.ceil(center - reach));
    const last = Math.min(from - 1, Math.floor(center + reach));
    const weights: number[] = [];
    for (let j = first; j <= last; j++) weights.push(Math.max(0, 1 - Math.abs(j - center) / reach));
    const total = weights.reduce((a, b) => a + b, 0);
    for (const [k, weight] of weights.entries()) {
      for (let o = 0; o < outer; o++) {
        const [read, write] = [(o * from + first + k) * inner, (o * to + i) * inner];
        for (let c = 0; c < inner; c++) result[write + c]! += (x[read + c]! * weight) / total;
      }
    }
  }
  return result;
}

/** The model's input for an image: 0 is black, 1 is white. */
export function pixelValues({ pixels }: Image): Float32Array {
  return Float32Array.from(pixels, (value) => value / 255);
}
