/** What there is nothing to learn from is told, by its column. */
import { expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { hybridModel, modelConfig } from '../models/index.js';
import { tinyConfig } from '../models/testing/tiny.js';
import { seriesData } from './series.js';
import { tinySettings } from './testing/runs.js';

const { vocabSize: _, eosTokenId: __, ...config } = tinyConfig({ pattern: 'M-' });
const channels = ['a', 'b'];
const model = hybridModel(
  modelConfig({
    ...config,
    input: {
      ...{ kind: 'series', channels, targets: ['b'], patch: 1, horizon: 2, quantiles: [0.5] },
      ...{ offset: [0, 0], scale: [1, 1] },
    },
  }),
);
const rowsOf = (b: (i: number) => number, a: (i: number) => number) => ({
  channels,
  values: Float32Array.from({ length: 80 }, (_, i) => (i % 2 === 0 ? a : b)(i >> 1)),
});

test.each([
  ['a number', () => 7.1, /the target 'b' is always 7\.1 in the rows to learn from/],
  ['a number, where it is there', (i: number) => (i % 3 === 0 ? Number.NaN : -2), /'b' is always -2 in/],
  ['nothing', () => Number.NaN, /the target 'b' has no value at all in the rows to learn from/],
])('a target that is always %s is refused', (_, b, message) => {
  const [constant, changing] = [
    rowsOf(b, (i) => i),
    rowsOf(
      (i) => i,
      () => 1,
    ),
  ];
  const data = () => seriesData(constant, changing)(model, tinySettings);
  expect(data).toThrow(DataError);
  expect(data).toThrow(message);
  // Held-out rows and other columns may be constant.
  expect(() => seriesData(changing, constant)(model, tinySettings)).not.toThrow();
});

test.each([
  [40, 28, 1],
  [1000, 494, 2],
])('of %i held-out rows %i windows are evaluated', (rows, count, step) => {
  const series = { channels, values: Float32Array.from({ length: 2 * rows }, (_, i) => i) };
  const { validation } = seriesData(series, series)(model, tinySettings);
  expect(validation.count).toBe(count);
  // Each reads twelve rows of two values, and the last one has a row behind it to forecast.
  const { values, known } = validation.take(count - 1, 1) as Record<string, Float32Array>;
  expect(values![0]).toBe(2 * step * (count - 1));
  expect(known!.at(-2)).toBe(1);
});
