/** Reading WAV files. */
import { readFile } from 'node:fs/promises';
import { DataError } from '../errors.js';
import { unreadable } from '../platform/unreadable.js';

/** A sound with one channel. */
export interface Sound {
  /** Samples per second. */
  readonly rate: number;
  /** From -1 to 1; several channels are averaged. */
  readonly samples: Float32Array;
}

/** File names of sounds. */
export const SOUND_FILE = /\.wav$/i;

/** Format tags of the `fmt ` chunk. */
const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;

/**
 * Reads a WAV file: PCM of 8, 16, 24 or 32 bits, or floats of 32 or 64 bits. Throws `DataError`, with the path, for a file that cannot
 * be read, is not a WAV file, has another coding, is truncated, or has no samples.
 */
export async function readSound(path: string): Promise<Sound> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  const refuse = (what: string): never => {
    throw new DataError(`${path} ${what}`);
  };
  const name = (at: number): string => bytes.toString('latin1', at, at + 4);
  if (bytes.length === 0) refuse('is empty');
  if (name(0) !== 'RIFF' || name(8) !== 'WAVE') refuse('is not a supported sound: expected a WAV file');
  let format: { tag: number; channels: number; rate: number; bits: number } | undefined;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const [chunk, start] = [name(at), at + 8];
    const said = bytes.readUInt32LE(at + 4);
    // A WAV file that was written as a stream has an unknown size, given as 0 or the largest number.
    const size = chunk === 'data' && (said === 0xffffffff || said === 0) ? bytes.length - start : said;
    if (start + size > bytes.length) refuse(`is cut off: ${start + size - bytes.length} bytes are missing`);
    if (chunk === 'fmt ') {
      if (size < 16) refuse('is broken: its format is too short');
      const tag = bytes.readUInt16LE(start);
      format = {
        tag: tag === EXTENSIBLE && size >= 26 ? bytes.readUInt16LE(start + 24) : tag,
        channels: bytes.readUInt16LE(start + 2),
        rate: bytes.readUInt32LE(start + 4),
        bits: bytes.readUInt16LE(start + 14),
      };
    }
    if (chunk === 'data') {
      if (!format) return refuse('is broken: its samples come before their format');
      const sample = sampleReader(format);
      if (!sample)
        return refuse(
          `has samples of format ${format.tag} in ${format.bits} bits: expected PCM of 8, 16, 24 or 32 bits, or floats`,
        );
      if (format.channels === 0 || format.rate === 0) refuse('is broken: it has no channels, or no rate');
      const width = (format.bits / 8) * format.channels;
      const count = Math.floor(size / width);
      if (count === 0) refuse('has no samples');
      const samples = new Float32Array(count);
      for (let i = 0; i < count; i++) {
        let total = 0;
        for (let c = 0; c < format.channels; c++)
          total += sample(bytes, start + i * width + (c * format.bits) / 8);
        samples[i] = total / format.channels;
      }
      if (!samples.every(Number.isFinite)) refuse('has samples that are no numbers');
      return { rate: format.rate, samples };
    }
    at = start + size + (size % 2);
  }
  return refuse('has no samples');
}

/** A function that reads the sample at an offset; undefined for an unsupported coding. */
function sampleReader({
  tag,
  bits,
}: {
  tag: number;
  bits: number;
}): ((bytes: Buffer, at: number) => number) | undefined {
  if (tag === FLOAT && bits === 32) return (bytes, at) => bytes.readFloatLE(at);
  if (tag === FLOAT && bits === 64) return (bytes, at) => bytes.readDoubleLE(at);
  if (tag !== PCM) return undefined;
  if (bits === 8) return (bytes, at) => (bytes[at]! - 128) / 128;
  if (![16, 24, 32].includes(bits)) return undefined;
  return (bytes, at) => bytes.readIntLE(at, bits / 8) / 2 ** (bits - 1);
}

const SILENCE = 1e-3;
const FULL = 0.999;
const CLIPPED_SHARE = 1e-3;

/** The flaw of a recording, if any: it is silent, or so many samples are at full scale that it was clipped. */
export function flawOf({ samples }: Sound): 'silent' | 'clipped' | undefined {
  let [peak, full] = [0, 0];
  for (const sample of samples) {
    const size = Math.abs(sample);
    if (size > peak) peak = size;
    if (size >= FULL) full++;
  }
  if (peak < SILENCE) return 'silent';
  return full > Math.max(2, CLIPPED_SHARE * samples.length) ? 'clipped' : undefined;
}
