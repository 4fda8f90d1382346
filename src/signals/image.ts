/** Images as files have them: PNG and JPEG. */
import { readFile } from 'node:fs/promises';
import { inflateSync } from 'node:zlib';
import { convertIndexedToRgb, decode as decodePng } from 'fast-png';
import jpeg from 'jpeg-js';
import { DataError } from '../errors.js';

/** An image of 8 bits a channel. */
export interface Image {
  readonly height: number;
  readonly width: number;
  /** 1 for grey, 3 for red, green and blue. */
  readonly channels: number;
  /** [height, width, channels], flat; from 0 to 255. */
  readonly pixels: Uint8Array;
}

/** Of a size and in the colours that a model reads. */
export type ImageShape = Pick<Image, 'height' | 'width' | 'channels'>;

/** Names of files that are images. */
export const IMAGE_FILE = /\.(png|jpe?g)$/i;

const MOST_PIXELS = 1e8;

/** Reads an image file, as `decodeImage` does. Throws `DataError`, with the path, also for a file that cannot be read. */
export async function readImage(path: string): Promise<Image> {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new DataError(`${path} cannot be read: ${error.message}`, { cause: error });
  });
  return decodeImage(bytes, path);
}

/**
 * The image that the bytes of a PNG or JPEG file are, told by the first of them. What is transparent lies on white; 16 bits become 8. Throws
 * `DataError`, which calls the image `name`, for bytes that are neither, are broken, or have more than 100 megapixels.
 */
export function decodeImage(bytes: Uint8Array, name: string): Image {
  if (bytes.length === 0) throw new DataError(`${name} is empty`);
  const begins = (start: readonly number[]): boolean => start.every((byte, i) => bytes[i] === byte);
  const isPng = begins([0x89, 0x50, 0x4e, 0x47]);
  if (!isPng && !begins([0xff, 0xd8]))
    throw new DataError(`${name} is no image that is read: expected PNG or JPEG`);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    return isPng ? fromPng(buffer) : fromJpeg(buffer);
  } catch (error) {
    throw new DataError(`${name} is broken: ${(error as Error).message}`, { cause: error });
  }
}

function fromPng(bytes: Buffer): Image {
  if (bytes.length < 24) throw new Error('it ends within its header');
  const size = bytes.readUInt32BE(16) * bytes.readUInt32BE(20);
  if (size > MOST_PIXELS) throw new Error(`it says that it has ${Math.round(size / 1e6)} megapixels`);
  expectNoMore(bytes);
  const png = decodePng(bytes, { checkCrc: true });
  const { width, height, depth, transparency, palette } = png;
  const data = palette ? convertIndexedToRgb(png) : png.data;
  const channels = palette ? data.length / (width * height) : png.channels;
  const highest = palette ? 255 : 2 ** depth - 1;
  // Without a palette, samples of fewer than 8 bits stand packed in bytes, each row in bytes of its own.
  const packed = !palette && depth < 8;
  const rowBytes = Math.ceil((width * channels * depth) / 8);
  const sample = (at: number): number => {
    if (!packed) return data[at]!;
    const bit = (at % (width * channels)) * depth;
    const byte = data[Math.floor(at / (width * channels)) * rowBytes + (bit >> 3)]!;
    return (byte >> (8 - depth - (bit & 7))) & highest;
  };
  const colours = channels > 2 ? 3 : 1;
  // One colour may stand for what is transparent, where there is no channel for it.
  const clear =
    channels === colours && !palette && transparency?.length === colours ? transparency : undefined;
  const pixels = new Uint8Array(height * width * colours);
  for (let pixel = 0; pixel < height * width; pixel++) {
    const first = pixel * channels;
    const isClear = clear?.every((value, i) => value === sample(first + i)) ?? false;
    const alpha = isClear ? 0 : channels > colours ? sample(first + colours) / highest : 1;
    for (let i = 0; i < colours; i++) {
      pixels[pixel * colours + i] = Math.round(255 * ((sample(first + i) / highest) * alpha + 1 - alpha));
    }
  }
  return { height, width, channels: colours, pixels };
}

const CHANNELS_OF_COLOUR: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

/**
 * Throws for a PNG whose data inflate to more than its header says: the decoder would inflate all of it, which of a file of a megabyte may be
 * gigabytes.
 */
function expectNoMore(bytes: Buffer): void {
  const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
  const bits = (bytes[24] ?? 0) * (CHANNELS_OF_COLOUR[bytes[25] ?? -1] ?? 0);
  const parts: Buffer[] = [];
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    if (bytes.toString('latin1', at + 4, at + 8) === 'IDAT')
      parts.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  // Every row begins with a byte for its filter; interlaced, there are up to twice as many rows, each rounded up to a byte.
  const most = height * Math.ceil((width * bits) / 8) + 4 * height + 64;
  try {
    inflateSync(Buffer.concat(parts), { maxOutputLength: most });
  } catch (error) {
    // What is broken otherwise is told by the decoder.
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      throw new Error('it has more data than its header says', { cause: error });
  }
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
  // The decoder gives grey images in colours too.
  return data.every((value, i) => value === data[i - (i % 3)]) ? withChannels(colours, 1) : colours;
}

/** The same image in grey or in colours: grey is the luma of ITU-R BT.601. */
export function withChannels(image: Image, channels: number): Image {
  if (image.channels === channels) return image;
  const count = image.height * image.width;
  const { pixels: from } = image;
  const pixels =
    channels === 3
      ? Uint8Array.from({ length: 3 * count }, (_, i) => from[Math.floor(i / 3)]!)
      : Uint8Array.from({ length: count }, (_, i) =>
          Math.round(0.299 * from[3 * i]! + 0.587 * from[3 * i + 1]! + 0.114 * from[3 * i + 2]!),
        );
  return { ...image, channels, pixels };
}

/**
 * The same image in another size, its sides stretched each by its own factor: each pixel is a mean of those that lie under it,
 * weighted by a triangle, as Pillow's bilinear filter does.
 */
export function resized(image: Image, height: number, width: number): Image {
  if (image.height === height && image.width === width) return image;
  const { channels } = image;
  const across = filtered(Float32Array.from(image.pixels), image.height, image.width, channels, width);
  const down = filtered(across, 1, image.height, width * channels, height);
  return { height, width, channels, pixels: Uint8Array.from(down, (value) => Math.round(value)) };
}

/** [outer, from, inner] -> [outer, to, inner]. */
function filtered(x: Float32Array, outer: number, from: number, inner: number, to: number): Float32Array {
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

/** What a model reads of an image: 0 is black, 1 is white. */
export function pixelValues({ pixels }: Image): Float32Array {
  return Float32Array.from(pixels, (value) => value / 255);
}
