/** Decodes the pixels of PNG files. */
import { inflateSync } from 'node:zlib';
import { convertIndexedToRgb, decode } from 'fast-png';
import type { Image } from './image.js';

/** Whether the bytes start with the PNG signature. */
export function isPng(bytes: Buffer): boolean {
  return [0x89, 0x50, 0x4e, 0x47].every((byte, i) => bytes[i] === byte);
}

/** The size in the header. Throws an `Error` if the file ends within it. */
export function sizeOfPng(bytes: Buffer): Pick<Image, 'height' | 'width'> {
  if (bytes.length < 24) throw new Error('it ends within its header');
  return { height: bytes.readUInt32BE(20), width: bytes.readUInt32BE(16) };
}

/** Decodes an image. Transparent pixels are composited onto white; 16 bits become 8. Throws an `Error` for a broken file. */
export function decodePng(bytes: Buffer): Image {
  const chunks = chunksOf(bytes).filter(({ type }) => PIXELS.has(type));
  expectNoMore(bytes, chunks);
  const png = decode(Buffer.concat([bytes.subarray(0, 8), ...chunks.map(({ all }) => all)]), {
    checkCrc: true,
  });
  const { width, height, depth, transparency, palette } = png;
  const data = palette ? convertIndexedToRgb(png) : png.data;
  const channels = palette ? data.length / (width * height) : png.channels;
  const highest = palette ? 255 : 2 ** depth - 1;
  // Without a palette, samples of fewer than 8 bits are packed, and each row begins at a new byte.
  const packed = !palette && depth < 8;
  const rowBytes = Math.ceil((width * channels * depth) / 8);
  const sample = (at: number): number => {
    if (!packed) return data[at]!;
    const bit = (at % (width * channels)) * depth;
    const byte = data[Math.floor(at / (width * channels)) * rowBytes + (bit >> 3)]!;
    return (byte >> (8 - depth - (bit & 7))) & highest;
  };
  const colours = channels > 2 ? 3 : 1;
  // An image without an alpha channel may have one transparent colour.
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

/** One chunk of a file: `all` includes its length, type and checksum. */
interface Chunk {
  readonly type: string;
  readonly all: Buffer;
  readonly data: Buffer;
}

/**
 * The chunks that define the pixels. All others are removed before decoding: the decoder would inflate a colour profile or a
 * text without a limit, and a file of a megabyte may inflate to gigabytes.
 */
const PIXELS: ReadonlySet<string> = new Set(['IHDR', 'PLTE', 'tRNS', 'IDAT', 'IEND']);

function chunksOf(bytes: Buffer): Chunk[] {
  const chunks: Chunk[] = [];
  for (let at = 8; at + 8 <= bytes.length; ) {
    const end = at + 12 + bytes.readUInt32BE(at);
    const type = bytes.toString('latin1', at + 4, at + 8);
    chunks.push({ type, all: bytes.subarray(at, end), data: bytes.subarray(at + 8, end - 4) });
    at = end;
  }
  return chunks;
}

/** Samples per pixel for each colour type of the header: grey, colours, palette, grey with alpha, colours with alpha. */
const SAMPLES: Readonly<Record<number, number>> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

/** Throws for a file whose pixels inflate to more bytes than its header says, since the decoder has no limit either. */
function expectNoMore(bytes: Buffer, chunks: readonly Chunk[]): void {
  const { height, width } = sizeOfPng(bytes);
  const bits = (bytes[24] ?? 0) * (SAMPLES[bytes[25] ?? -1] ?? 0);
  const pixels = chunks.filter(({ type }) => type === 'IDAT').map(({ data }) => data);
  // Each row starts with a filter byte; an interlaced image has up to twice as many rows, each rounded up to a byte.
  const most = height * Math.ceil((width * bits) / 8) + 4 * height + 64;
  try {
    inflateSync(Buffer.concat(pixels), { maxOutputLength: most });
  } catch (error) {
    // The decoder reports other errors.
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      throw new Error('it has more data than its header says', { cause: error });
  }
}
