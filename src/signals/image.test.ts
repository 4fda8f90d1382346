/** PNG and JPEG images of every kind decode to the same pixels; a broken file is an error with its name. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { encode } from 'fast-png';
import jpeg from 'jpeg-js';
import { afterAll, describe, expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { type Image, imageSize, readImage, resized, withChannels } from './image.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-image-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

function read(bytes: Uint8Array, name = 'x.png'): Promise<Image> {
  writeFileSync(join(here, name), bytes);
  return readImage(join(here, name));
}

/** A PNG of these chunks, for kinds that the encoder does not write. */
function png(
  header: { width: number; height: number; depth: number; colour: number },
  rows: number[],
  extra: [string, number[]][] = [],
): Buffer {
  const ihdr = Buffer.alloc(13);
  ihdr.writeUInt32BE(header.width, 0);
  ihdr.writeUInt32BE(header.height, 4);
  ihdr.set([header.depth, header.colour, 0, 0, 0], 8);
  const chunks: [string, Uint8Array][] = [
    ['IHDR', ihdr],
    ...extra.map(([name, bytes]): [string, Uint8Array] => [name, Uint8Array.from(bytes)]),
    ['IDAT', deflateSync(Uint8Array.from(rows))],
    ['IEND', new Uint8Array()],
  ];
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    ...chunks.map(([name, data]) => {
      const body = Buffer.concat([Buffer.from(name, 'latin1'), data]);
      const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
      length.writeUInt32BE(data.length);
      sum.writeUInt32BE(crc32(body));
      return Buffer.concat([length, body, sum]);
    }),
  ]);
}

/** The CRC-32 of the PNG specification, annex D. */
function crc32(bytes: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let i = 0; i < 8; i++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return (sum ^ 0xffffffff) >>> 0;
}

describe('PNG', () => {
  test('grey, colours, 16 bits', async () => {
    const grey = Uint8Array.from([0, 100, 200, 255, 7, 9]);
    expect(await read(encode({ width: 3, height: 2, data: grey, channels: 1, depth: 8 }))).toEqual({
      width: 3,
      height: 2,
      channels: 1,
      pixels: grey,
    });
    const colours = Uint8Array.from([1, 2, 3, 250, 251, 252]);
    const read3 = await read(encode({ width: 2, height: 1, data: colours, channels: 3, depth: 8 }));
    expect(read3).toMatchObject({ width: 2, height: 1, channels: 3, pixels: colours });
    const deep = Uint16Array.from([0, 257 * 128, 65535]);
    const read16 = await read(encode({ width: 3, height: 1, data: deep, channels: 1, depth: 16 }));
    expect([...read16.pixels]).toEqual([0, 128, 255]);
  });

  test('transparent pixels are composited onto white, for an alpha channel and for a transparent colour', async () => {
    const alpha = Uint8Array.from([10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 51]);
    const { channels, pixels } = await read(
      encode({ width: 3, height: 1, data: alpha, channels: 4, depth: 8 }),
    );
    expect([channels, ...pixels]).toEqual([3, 10, 20, 30, 255, 255, 255, 204, 204, 204]);
    const two = await read(
      encode({ width: 2, height: 1, data: Uint8Array.from([40, 255, 40, 0]), channels: 2, depth: 8 }),
    );
    expect([two.channels, ...two.pixels]).toEqual([1, 40, 255]);
    const colour = png({ width: 3, height: 1, depth: 8, colour: 0 }, [0, 5, 6, 7], [['tRNS', [0, 6]]]);
    expect([...(await read(colour)).pixels]).toEqual([5, 255, 7]);
  });

  test('samples of 1, 2 and 4 bits, whose rows end within a byte; palettes', async () => {
    const bits = png({ width: 3, height: 2, depth: 1, colour: 0 }, [0, 0b10100000, 0, 0b01000000]);
    expect([...(await read(bits)).pixels]).toEqual([255, 0, 255, 0, 255, 0]);
    const pairs = png({ width: 3, height: 1, depth: 2, colour: 0 }, [0, 0b00011000]);
    expect([...(await read(pairs)).pixels]).toEqual([0, 85, 170]);
    const nibbles = png({ width: 3, height: 1, depth: 4, colour: 0 }, [0, 0x0f, 0x10]);
    expect([...(await read(nibbles)).pixels]).toEqual([0, 255, 17]);
    const palette: [string, number[]] = ['PLTE', [1, 2, 3, 4, 5, 6, 7, 8, 9]];
    const indexed = png(
      { width: 3, height: 2, depth: 2, colour: 3 },
      [0, 0b00011000, 0, 0b10010000],
      [palette],
    );
    const read3 = await read(indexed);
    expect([read3.channels, ...read3.pixels]).toEqual([
      3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7, 8, 9, 4, 5, 6, 1, 2, 3,
    ]);
    const seeThrough = png({ width: 2, height: 1, depth: 8, colour: 3 }, [0, 0, 1], [palette, ['tRNS', [0]]]);
    expect([...(await read(seeThrough)).pixels]).toEqual([255, 255, 255, 4, 5, 6]);
  });
});

test('a colour profile and texts are not inflated, and their errors are ignored', async () => {
  const bomb = deflateSync(Buffer.alloc(2 ** 20));
  const extra: [string, number[]][] = [
    ['iCCP', [0x70, 0, 0, ...bomb]],
    ['zTXt', [0x74, 0, 0, ...bomb]],
    ['iTXt', [0x74, 0, 1, 0, 0, 0, ...bomb]],
  ];
  const { pixels } = await read(png({ width: 3, height: 1, depth: 8, colour: 0 }, [0, 5, 6, 7], extra));
  expect([...pixels]).toEqual([5, 6, 7]);
  const flawed = png({ width: 1, height: 1, depth: 8, colour: 0 }, [0, 9], [['iCCP', [0x70, 0, 0, 1, 2]]]);
  expect([...(await read(flawed)).pixels]).toEqual([9]);
});

describe('JPEG', () => {
  const jpegOf = (at: (i: number) => [number, number, number]): Uint8Array => {
    const data = Uint8Array.from({ length: 16 * 8 * 4 }, (_, i) => [...at(i >> 2), 255][i % 4]!);
    return jpeg.encode({ width: 16, height: 8, data }, 95).data;
  };

  test('is read in colour, and as grey if it has no colour', async () => {
    const red = await read(
      jpegOf(() => [200, 30, 40]),
      'x.jpg',
    );
    expect([red.width, red.height, red.channels]).toEqual([16, 8, 3]);
    for (const [i, value] of red.pixels.entries())
      expect(Math.abs(value - [200, 30, 40][i % 3]!)).toBeLessThan(6);
    const grey = await read(
      jpegOf((i) => [i, i, i]),
      'x.jpg',
    );
    expect(grey.channels).toBe(1);
    expect(grey.pixels.length).toBe(128);
  });

  test('the format is detected from the bytes, not the name', async () => {
    expect(
      (
        await read(
          jpegOf(() => [9, 9, 9]),
          'really-a-jpeg.png',
        )
      ).width,
    ).toBe(16);
  });

  test.each([0.3, 0.9])('truncated to %f of its length it is an error', async (share) => {
    const bytes = jpegOf((i) => [(i * 37) % 256, (i * 91) % 256, i]);
    await expect(read(bytes.subarray(0, Math.floor(bytes.length * share)), 'cut.jpg')).rejects.toThrow(
      /cut\.jpg is broken: /,
    );
  });
});

const whole = encode({
  width: 9,
  height: 9,
  data: new Uint8Array(81).map((_, i) => i * 3),
  channels: 1,
  depth: 8,
});

test.each<[string, Uint8Array, RegExp]>([
  ['empty', new Uint8Array(), /x\.png is empty/],
  ['one byte', Uint8Array.of(0x89), /x\.png is not a supported image: expected PNG or JPEG/],
  ['text', Buffer.from('hello'), /x\.png is not a supported image/],
  ['GIF', Buffer.from('GIF89a..'), /x\.png is not a supported image/],
  ['a signature alone', whole.subarray(0, 8), /x\.png is broken: it ends within its header/],
  ['cut off', whole.subarray(0, whole.length - 20), /x\.png is broken: /],
  ['a bit that changed', whole.map((byte, i) => (i === 50 ? byte ^ 4 : byte)), /x\.png is broken: /],
  [
    'an enormous size',
    png({ width: 60_000, height: 60_000, depth: 8, colour: 0 }, []),
    /x\.png has 3600 megapixels, and at most 100 are read: send it smaller/,
  ],
  [
    'more data than its size has',
    png({ width: 1, height: 1, depth: 8, colour: 0 }, new Array<number>(100_000).fill(0)),
    /x\.png is broken: it has more data than its header says/,
  ],
  ['no pixels', png({ width: 0, height: 3, depth: 8, colour: 0 }, []), /x\.png is broken: /],
])('%s is refused with its name', async (_, bytes, message) => {
  const error = await read(bytes).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(DataError);
  expect((error as Error).message).toMatch(message);
});

test('a missing file is an error with its path', async () => {
  await expect(readImage(join(here, 'none.png'))).rejects.toThrow(
    /none\.png cannot be read: there is no such file/,
  );
  await expect(readImage(here)).rejects.toThrow(/cannot be read: it is a folder, and a file is expected/);
});

test('the header of a JPEG has its size, after segments of other kinds and fill bytes', () => {
  const { data } = jpeg.encode({ width: 16, height: 8, data: new Uint8Array(512) }, 90);
  expect(imageSize(data, 'x.jpg')).toEqual({ height: 8, width: 16 });
  const comment = [0xff, 0xfe, 0, 6, 0xff, 0xc0, 0, 9];
  const filled = Uint8Array.of(0xff, 0xd8, ...comment, 0xff, 0xff, ...data.subarray(2));
  expect(imageSize(filled, 'x.jpg')).toEqual({ height: 8, width: 16 });
  expect(() => imageSize(data, 'x.jpg', 100)).toThrow(DataError);
  expect(() => imageSize(data.subarray(0, 30), 'x.jpg')).toThrow(
    /x\.jpg is broken: it ends within its header/,
  );
});

describe('a converted image', () => {
  const image = {
    height: 4,
    width: 4,
    channels: 1,
    pixels: Uint8Array.from({ length: 16 }, (_, i) => 16 * i),
  };

  test('keeps its brightness, and its pixels if its size is the same', () => {
    expect(resized(image, 4, 4)).toBe(image);
    for (const [height, width] of [
      [2, 2],
      [3, 7],
      [9, 5],
      [1, 1],
    ] as const) {
      const { pixels } = resized(image, height, width);
      expect(pixels.length).toBe(height * width);
      expect(Math.abs(pixels.reduce((a, b) => a + b, 0) / pixels.length - 120)).toBeLessThan(2);
    }
  });

  test('at half the size, each pixel is a weighted mean of those under it and beside it', () => {
    // The triangle filter has a radius of two pixels: weights 1/8, 3/8, 3/8, 1/8, and at the border 3/7, 3/7, 1/7.
    const { pixels } = resized(
      { height: 1, width: 6, channels: 1, pixels: Uint8Array.from([0, 0, 80, 80, 0, 0]) },
      1,
      3,
    );
    expect([...pixels]).toEqual([11, 60, 11]);
  });

  test('turns into grey by luma, and into colours', () => {
    const red = { height: 1, width: 1, channels: 3, pixels: Uint8Array.of(255, 0, 0) };
    expect([...withChannels(red, 1).pixels]).toEqual([76]);
    expect([...withChannels({ ...red, channels: 1, pixels: Uint8Array.of(5) }, 3).pixels]).toEqual([5, 5, 5]);
  });
});

describe('photos are turned as their EXIF data say', () => {
  // Blocks of one colour, which JPEG keeps: red, green and blue from the left, in the upper half; the lower half is black.
  const data = new Uint8Array(4 * 24 * 16).fill(255);
  for (let i = 0; i < 24 * 16; i++) {
    const [x, y] = [i % 24, Math.floor(i / 24)];
    for (let c = 0; c < 3; c++) data[4 * i + c] = y < 8 && Math.floor(x / 8) === c ? 255 : 0;
  }
  const plain = Buffer.from(jpeg.encode({ width: 24, height: 16, data }, 100).data);
  /** The same with an EXIF segment whose first directory has a width and the orientation. */
  const turned = (orientation: number, isLittle = false, cut = 0): Buffer => {
    const tiff = Buffer.alloc(38);
    const write16 = (value: number, at: number) =>
      (isLittle ? tiff.writeUInt16LE : tiff.writeUInt16BE).call(tiff, value, at);
    const write32 = (value: number, at: number) =>
      (isLittle ? tiff.writeUInt32LE : tiff.writeUInt32BE).call(tiff, value, at);
    tiff.write(isLittle ? 'II' : 'MM', 0, 'latin1');
    write16(42, 2);
    write32(8, 4);
    write16(2, 8);
    for (const [at, tag, value] of [
      [10, 0x0100, 24],
      [22, 0x0112, orientation],
    ] as const) {
      write16(tag, at);
      write16(3, at + 2);
      write32(1, at + 4);
      write16(value, at + 8);
    }
    const body = Buffer.concat([Buffer.from('Exif\0\0', 'latin1'), tiff.subarray(0, tiff.length - cut)]);
    const head = Buffer.from([0xff, 0xe1, 0, body.length + 2]);
    return Buffer.concat([plain.subarray(0, 2), head, body, plain.subarray(2)]);
  };
  /** The colour of each block of 8 by 8 pixels, row by row. */
  const blocks = ({ height, width, pixels }: Image): string =>
    Array.from({ length: height / 8 }, (_, row) =>
      Array.from({ length: width / 8 }, (_, column) => {
        const at = ((8 * row + 4) * width + 8 * column + 4) * 3;
        return ['r', 'g', 'b'].find((_, c) => pixels[at + c]! > 128) ?? '.';
      }).join(''),
    ).join('/');

  // What a viewer shows, from the place of the stored first row and column in each orientation of CIPA DC-008.
  test.each([
    [1, 'rgb/...'],
    [2, 'bgr/...'],
    [3, '.../bgr'],
    [4, '.../rgb'],
    [5, 'r./g./b.'],
    [6, '.r/.g/.b'],
    [7, '.b/.g/.r'],
    [8, 'b./g./r.'],
    [0, 'rgb/...'],
    [9, 'rgb/...'],
  ])('%i', async (orientation, shown) => {
    for (const isLittle of [false, true])
      expect(blocks(await read(turned(orientation, isLittle), 'x.jpg'))).toBe(shown);
  });

  test('fill bytes before the segment', async () => {
    const photo = turned(6);
    const filled = Buffer.concat([photo.subarray(0, 2), Buffer.from([0xff, 0xff]), photo.subarray(2)]);
    expect(blocks(await read(filled, 'x.jpg'))).toBe('.r/.g/.b');
  });

  test('damaged EXIF data say nothing', async () => {
    expect(blocks(await read(turned(6, false, 10), 'x.jpg'))).toBe('rgb/...');
  });
});
