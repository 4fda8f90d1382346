/** WAV files of every supported coding give the same samples; broken, silent and clipped files are detected. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { flawOf, readSound, type Sound } from './sound.js';
import { riff, wavOf } from './testing/wav.js';

const here = mkdtempSync(join(tmpdir(), 'heddle-sound-'));
afterAll(() => rmSync(here, { recursive: true, force: true }));

function read(bytes: Uint8Array): Promise<Sound> {
  writeFileSync(join(here, 'x.wav'), bytes);
  return readSound(join(here, 'x.wav'));
}

const samples = [0, 0.5, -0.25, 0.99, -1];

test.each([
  [1, 8],
  [1, 16],
  [1, 24],
  [1, 32],
  [3, 32],
  [3, 64],
])('format %i in %i bits', async (tag, bits) => {
  const sound = await read(wavOf(samples, { tag, bits, rate: 11_025 }));
  expect(sound.rate).toBe(11_025);
  expect(sound.samples.length).toBe(5);
  for (const [i, value] of sound.samples.entries())
    expect(Math.abs(value - samples[i]!)).toBeLessThan(bits === 8 ? 0.01 : 1e-4);
});

test('channels are mixed; the extensible format is read; an unknown size means the rest of the file', async () => {
  const mixed = await read(wavOf([0.5, -0.5, 0.25, 0.75], { channels: 2 }));
  expect([...mixed.samples].map((value) => Number(value.toFixed(3)))).toEqual([0, 0.5]);
  const format = Buffer.alloc(40);
  format.writeUInt16LE(0xfffe, 0);
  format.writeUInt16LE(1, 2);
  format.writeUInt32LE(8000, 4);
  format.writeUInt16LE(32, 14);
  format.writeUInt16LE(3, 24);
  const data = Buffer.alloc(8);
  data.writeFloatLE(0.125, 4);
  const extensible = riff([
    ['fmt ', format],
    ['data', data],
  ]);
  expect([...(await read(extensible)).samples]).toEqual([0, 0.125]);
  extensible.writeUInt32LE(0xffffffff, extensible.length - 12);
  expect([...(await read(extensible)).samples]).toEqual([0, 0.125]);
});

const whole = wavOf(samples);
test.each<[string, Buffer, RegExp]>([
  ['empty', Buffer.alloc(0), /x\.wav is empty/],
  ['text', Buffer.from('hello there'), /x\.wav is not a supported sound: expected a WAV file/],
  ['MP3', Buffer.from('ID3 and more bytes'), /x\.wav is not a supported sound/],
  ['cut off', whole.subarray(0, whole.length - 4), /x\.wav is cut off: 4 bytes are missing/],
  ['a header alone', whole.subarray(0, 12), /x\.wav has no samples/],
  ['no samples', wavOf([]), /x\.wav has no samples/],
  [
    'another coding',
    wavOf(samples, { tag: 1, bits: 16 }).fill(2, 20, 21),
    /has samples of format 2 in 16 bits/,
  ],
  ['no numbers', wavOf([0, Number.NaN], { tag: 3, bits: 32 }), /has samples that are no numbers/],
  ['no format', riff([['data', Buffer.alloc(8)]]), /its samples come before their format/],
])('%s is refused with its name', async (_, bytes, message) => {
  const error = await read(bytes).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(DataError);
  expect((error as Error).message).toMatch(message);
});

test('silent and clipped recordings are detected', () => {
  const of = (at: (i: number) => number): Sound => ({
    rate: 8000,
    samples: Float32Array.from({ length: 4000 }, (_, i) => at(i)),
  });
  expect(flawOf(of(() => 0))).toBe('silent');
  expect(flawOf(of((i) => 1e-4 * Math.sin(i)))).toBe('silent');
  expect(flawOf(of((i) => Math.max(-1, Math.min(1, 2 * Math.sin(i / 9)))))).toBe('clipped');
  expect(flawOf(of((i) => 0.9 * Math.sin(i / 9)))).toBeUndefined();
  expect(flawOf(of((i) => (i === 7 ? 1 : 0.1 * Math.sin(i))))).toBeUndefined();
});
