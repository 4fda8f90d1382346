/** Tasks with data that others made: what is done to it, what simple methods and scores say, and what is told where it is not there. */
import { expect, test } from 'vitest';
import { DataError } from '../errors.js';
import type { Model } from '../models/index.js';
import { Random } from '../nn/index.js';
import { TRAINING_DEFAULTS } from '../train/index.js';
import { packageFile } from './data.js';
import { forecastError, last, linearForecast, seasonalNaive } from './forecasts.js';
import { heartbeat, heartbeats } from './heartbeat.js';
import { moved, shifted } from './images.js';
import { bleu, chrF, TASKS, taskOf } from './index.js';
import { telephone } from './speech.js';

test('BLEU and chrF are those of sacrebleu', () => {
  // The example of sacrebleu's README.
  const references = [
    ['The dog bit the man.', 'It was not unexpected.', 'The man bit him first.'],
    ['The dog had bit the man.', 'No one was surprised.', 'The man had bitten the dog.'],
  ];
  const translations = ['The dog bit the man.', "It wasn't surprising.", 'The man had just bitten him.'];
  expect(bleu(translations, references)).toBeCloseTo(48.53, 2);
  expect(chrF(translations, references)).toBeCloseTo(59.73, 2);
  expect(bleu(references[0]!, references)).toBeCloseTo(100, 6);
  expect(chrF(references[0]!, references)).toBeCloseTo(100, 6);
  expect(bleu(['a b c d'], [['x y z w']])).toBe(0);
  expect(chrF([''], [['x']])).toBe(0);
});

test('simple forecasts find what they can: a season, a constant, a linear recurrence', () => {
  const period = Float32Array.from({ length: 200 }, (_, i) => (i % 7) + 0.01 * ((i * 37) % 5));
  const origins = { values: period, first: 150, context: 21, horizon: 10, scale: 2 };
  expect(forecastError(origins, seasonalNaive(7, 10))).toBeLessThan(1e-3);
  expect(forecastError(origins, last(10))).toBeGreaterThan(0.5);
  // Of one period's last value and of no others.
  expect([...(seasonalNaive(3, 5)(Float32Array.of(9, 1, 2, 3), 4) as number[])]).toEqual([1, 2, 3, 1, 2]);
  const wave = Float32Array.from({ length: 400 }, (_, i) => 5 + i / 50 + Math.sin(i / 3));
  const linear = { values: wave, first: 300, context: 12, horizon: 24, scale: 1 };
  expect(forecastError(linear, linearForecast(wave.subarray(0, 250), 12, 24))).toBeLessThan(1e-2);
  expect(forecastError(linear, last(24))).toBeGreaterThan(0.3);
});

test('an image that is moved keeps its size and about its light; one that is shifted keeps its values', () => {
  const pixels = new Uint8Array(28 * 28);
  for (let y = 8; y < 20; y++) for (let x = 10; x < 16; x++) pixels[y * 28 + x] = 200;
  const image = { height: 28, width: 28, channels: 1 as const, pixels };
  const sum = ({ pixels: some }: { pixels: Uint8Array }) => some.reduce((a, b) => a + b, 0);
  const random = new Random(3);
  const all = Array.from({ length: 20 }, () => moved(image, random));
  for (const each of all) expect(sum(each) / sum(image)).toBeCloseTo(1, 0);
  expect(new Set(all.map((each) => each.pixels.join())).size).toBe(20);
  for (let i = 0; i < 20; i++) expect([...shifted(image, random).pixels].sort()).toEqual([...pixels].sort());
  expect(moved(image, new Random(5))).toEqual(moved(image, new Random(5)));
});

test('a recording becomes one of the telephone, without its silence', () => {
  const samples = Float32Array.from({ length: 44_100 }, (_, i) =>
    i > 10_000 && i < 30_000 ? 0.1 * Math.sin((2 * Math.PI * 200 * i) / 22_050) : 0,
  );
  const heard = telephone({ rate: 22_050, samples });
  expect(heard.rate).toBe(8000);
  expect(heard.samples.length / 8000).toBeCloseTo(20_000 / 22_050, 1);
  expect(heard.samples.reduce((most, sample) => Math.max(most, sample))).toBeCloseTo(0.5, 2);
});

test('data that is not there is told with what brings it', async () => {
  await expect(packageFile('mnist', 'no-such-digits', '0.json')).rejects.toThrow(
    new DataError('mnist takes its data from the package no-such-digits; run: npm install no-such-digits'),
  );
  expect(new Set(TASKS.map(({ name }) => name)).size).toBe(TASKS.length);
});

test('a series has its data and its baselines, and is refused for none', async () => {
  const { sequence, baselines, reads } = await taskOf('co2').prepare();
  expect(sequence).toBe(5);
  expect(reads).toMatchObject({ kind: 'series', targets: ['CO2'], patch: 12, horizon: 24 });
  expect(Object.keys(baselines!).sort()).toEqual(['linear', 'seasonal naive']);
  expect(baselines!.linear).toBeLessThan(baselines!['seasonal naive']!);
});

test('a stream of heartbeats is ill where it says so, and a mere change does not tell it', async () => {
  const well = heartbeats(new Random(1), 6400, 0);
  expect(well.ill.reduce((a, b) => a + b, 0)).toBe(0);
  const some = heartbeats(new Random(1), 64_000, 0.1);
  expect(some.ill.reduce((a, b) => a + b, 0) / 64_000).toBeCloseTo(0.1, 1);
  // What is upside down is low.
  const lowest = some.values.indexOf(some.values.reduce((a, b) => Math.min(a, b)));
  expect(some.ill[lowest]).toBe(1);
  const { baselines } = await heartbeat.prepare();
  expect(baselines!['size of the change']).toBeLessThan(0.7);
});

test('what is above a noun follows from the facts that stand before the question', async () => {
  const { data, reads } = await taskOf('wordnet-4').prepare(96);
  const { training } = data({ vocabSize: (reads as { vocabulary: number }).vocabulary } as Model, {
    ...TRAINING_DEFAULTS,
    sequence: 96,
  });
  const { tokens, targets } = training.take(0, 20) as Record<string, BigInt64Array>;
  for (let i = 0; i < 20; i++) {
    const read = [...tokens!.subarray(96 * i, 96 * (i + 1))].map(Number);
    const above = new Map(
      read.flatMap((token, at) => (token === 4096 ? [[read[at + 1]!, read[at + 2]!] as const] : [])),
    );
    let noun = read.at(-2)!;
    for (let step = 0; step < 4; step++) noun = above.get(noun)!;
    expect(Number(targets![i])).toBe(noun);
  }
});
