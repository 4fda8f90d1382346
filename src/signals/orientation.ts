/** The orientation of photos: a camera stores the pixels as its sensor has them, and says in EXIF how they are to be turned. */
import type { Image } from './image.js';

/** EXIF's tag of the orientation (CIPA DC-008, 4.6.4). */
const ORIENTATION = 0x0112;

/**
 * The orientation that a JPEG file says, from 1 (as stored) to 8 (CIPA DC-008): 1 also for a file that says none, or whose EXIF data are
 * damaged.
 */
export function jpegOrientation(bytes: Buffer): number {
  for (let at = 2; at + 10 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; ) {
    // Any number of fill bytes may precede a marker.
    if (bytes[at + 1] === 0xff) {
      at++;
      continue;
    }
    const end = at + 2 + bytes.readUInt16BE(at + 2);
    if (bytes[at + 1] === 0xe1 && bytes.toString('latin1', at + 4, at + 10) === 'Exif\0\0')
      return orientationInTiff(bytes.subarray(at + 10, end)) ?? 1;
    at = end;
  }
  return 1;
}

/** The orientation in the first directory of TIFF data; undefined if there is none. */
function orientationInTiff(tiff: Buffer): number | undefined {
  const isLittle = tiff.toString('latin1', 0, 2) === 'II';
  const read16 = (at: number): number => (isLittle ? tiff.readUInt16LE(at) : tiff.readUInt16BE(at));
  try {
    const directory = isLittle ? tiff.readUInt32LE(4) : tiff.readUInt32BE(4);
    for (let i = 0; i < read16(directory); i++) {
      const entry = directory + 2 + 12 * i;
      const value = read16(entry) === ORIENTATION ? read16(entry + 8) : 0;
      if (value >= 1 && value <= 8) return value;
    }
  } catch (error) {
    // The directory ends beyond the data.
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}

/** The image as it is to be looked at. */
export function upright(image: Image, orientation: number): Image {
  if (orientation === 1) return image;
  const { channels, pixels: from } = image;
  const [right, bottom] = [image.width - 1, image.height - 1];
  const isTurned = orientation >= 5;
  const [height, width] = isTurned ? [image.width, image.height] : [image.height, image.width];
  const pixels = new Uint8Array(from.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [a, b] = isTurned ? [y, x] : [x, y];
      const column = [2, 3, 7, 8].includes(orientation) ? right - a : a;
      const row = [3, 4, 6, 7].includes(orientation) ? bottom - b : b;
      const start = (row * image.width + column) * channels;
      pixels.set(from.subarray(start, start + channels), (y * width + x) * channels);
    }
  }
  return { height, width, channels, pixels };
}
