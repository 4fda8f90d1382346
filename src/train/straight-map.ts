/** The linear map beside the layers of a forecaster (`input.lags`) and the size of its errors, fitted by least squares before the first step. */
import { LEAST_DEVIATION, type SeriesConfig } from '../models/index.js';
import { LeastSquares } from '../signals/index.js';
import type { SeriesRows } from './series.js';

/** The most windows that the linear map is fitted to, spread over the rows. */
const MOST_FITTED = 16_384;
/** The most windows that its errors are measured on. */
const MOST_MEASURED = 1024;
/** The smallest error, so that layers can learn something beside a map that has none. */
const LEAST_MISS = 1e-6;
/** The most products of features that are summed for it: some ten seconds. */
const MOST_PRODUCTS = 2e9;

/**
 * The initial linear map of a series' lags, as parameters of the model: ridge regression on the training windows, with the penalty that is best
 * on held-out ones. The layers then learn only the residual. Empty if every window has missing values.
 *
 * The held-out windows also choose between maps with a constant and without, since a constant is the drift of the training rows, and between
 * maps of the windows as they are and of these and the same windows read backwards: the autocorrelation of a stationary series is the same both
 * ways, so that both together halve the variance of the estimate (the modified covariance method; Marple, 1980, IEEE Trans. ASSP 28(4)).
 * A map that is not better than the last value on the held-out windows, where these are many by more than chance, is left at zero, which forecasts the last
 * value.
 */
export function straightMap(
  training: SeriesRows,
  validation: SeriesRows,
  config: SeriesConfig,
): Map<string, Float32Array> {
  const { lags = 1, patch, channels, horizon, targets } = config;
  const read = lags * patch * channels.length;
  const outputs = horizon * targets.length;
  const sumsOf = (rows: SeriesRows): LeastSquares => {
    const sums = new LeastSquares(read + 1, outputs);
    for (const { x, y } of straightExamples(rows, config)) sums.add(x, y);
    return sums;
  };
  const forwards = sumsOf(training);
  if (forwards.examples === 0) return new Map();
  const held = sumsOf(validation);
  const penalty = forwards.penaltyFor(held);
  const bothWays = forwards.plus(sumsOf(reversed(training)));
  const best = held.bestOf(
    [forwards, bothWays].flatMap((sums) => [true, false].map((constant) => sums.solve(penalty, constant))),
  );
  const map = isNoGain(best, validation, config) ? new Float64Array(best.length) : best;
  const weight = Float32Array.from(
    { length: outputs * read },
    (_, i) => map[(i % read) * outputs + Math.floor(i / read)]!,
  );
  return new Map([
    ['lags.weight', weight],
    ['lags.bias', Float32Array.from(map.subarray(read * outputs))],
    ['lags.misses', missesOf(map, training, config)],
  ]);
}

/** The forecast of a map [features, outputs], less the last value. */
function toldBy(map: Float64Array, x: Float64Array, outputs: number): Float64Array {
  const told = new Float64Array(outputs);
  for (let i = 0; i < x.length; i++)
    for (let h = 0; h < outputs; h++) told[h]! += x[i]! * map[i * outputs + h]!;
  return told;
}

/** The root mean square of what a map misses of each output, in deviations of the target in the window. */
function missesOf(map: Float64Array, rows: SeriesRows, config: SeriesConfig): Float32Array {
  const { channels, targets, horizon } = config;
  const columns = targets.map((name) => channels.indexOf(name));
  const sums = new Float64Array(horizon * columns.length);
  let count = 0;
  for (const { x, y } of straightExamples(rows, config, MOST_MEASURED)) {
    const variances = columns.map((column) => varianceOf(x, column, channels.length));
    for (const [i, told] of toldBy(map, x, y.length).entries())
      sums[i]! += (y[i]! - told) ** 2 / variances[i % columns.length]!;
    count++;
  }
  return Float32Array.from(sums, (sum) => Math.max(Math.sqrt(sum / count), LEAST_MISS));
}

/** The variance of a column of the features, of at least the square of the deviation below which a window counts as constant. */
function varianceOf(x: Float64Array, column: number, width: number): number {
  let [sum, squares, count] = [0, 0, 0];
  for (let i = column; i < x.length - 1; i += width, count++) {
    sum += x[i]!;
    squares += x[i]! ** 2;
  }
  return Math.max(squares / count - (sum / count) ** 2, LEAST_DEVIATION ** 2);
}

/** The fewest parts whose spread is known well enough for a test. */
const LEAST_PARTS = 8;
/** The least mean gain that counts, in standard errors. */
const LEAST_GAIN = 2;

/**
 * Whether the held-out rows show no gain of a map [features, outputs] over the last value. The gain in squared error is averaged within parts, each of the windows
 * that begin within one horizon; windows of neighbouring parts share some of their values. With eight parts or more, a mean gain of less than two standard errors
 * is none; with fewer, one of zero or less. Without held-out windows nothing speaks against the map.
 */
function isNoGain(map: Float64Array, rows: SeriesRows, config: SeriesConfig): boolean {
  const parts = new Map<number, { gain: number; count: number }>();
  for (const { start, x, y } of straightExamples(rows, config)) {
    const part = Math.floor(start / config.horizon);
    const { gain, count } = parts.get(part) ?? { gain: 0, count: 0 };
    const told = toldBy(map, x, y.length);
    const own = y.reduce((sum, value, h) => sum + value ** 2 - (value - told[h]!) ** 2, 0);
    parts.set(part, { gain: gain + own, count: count + 1 });
  }
  if (parts.size === 0) return false;
  const gains = Array.from(parts.values(), ({ gain, count }) => gain / count);
  const mean = gains.reduce((sum, gain) => sum + gain, 0) / gains.length;
  if (gains.length < LEAST_PARTS) return mean <= 0;
  const variance = gains.reduce((sum, gain) => sum + (gain - mean) ** 2, 0) / (gains.length - 1);
  return mean < LEAST_GAIN * Math.sqrt(variance / gains.length);
}

/** The same rows in the opposite order. */
function reversed({ values, channels }: SeriesRows): SeriesRows {
  const width = channels.length;
  const rows = values.length / width;
  return {
    channels,
    values: values.map((_, i) => values[(rows - 1 - Math.floor(i / width)) * width + (i % width)]!),
  };
}

/**
 * Windows without missing values, by their first row: the features (differences of the lags to the last row, and 1) and the outputs (differences
 * of the horizon).
 */
function* straightExamples(
  { values, channels }: SeriesRows,
  { lags = 1, patch, horizon, targets, offset, scale }: SeriesConfig,
  limit = MOST_FITTED,
): Generator<{ start: number; x: Float64Array; y: Float64Array }> {
  const width = channels.length;
  const read = lags * patch * width;
  const scaled = Float64Array.from(values, (value, i) => (value - offset[i % width]!) / scale[i % width]!);
  const columns = targets.map((name) => channels.indexOf(name));
  const windows = values.length / width - lags * patch - horizon + 1;
  const most = Math.min(limit, MOST_PRODUCTS / (read + 1) ** 2);
  for (let start = 0; start < windows; start += Math.ceil(windows / most)) {
    const end = start * width + read;
    const last = scaled.subarray(end - width, end);
    const x = new Float64Array(read + 1).fill(1);
    for (let i = 0; i < read; i++) x[i] = scaled[end - read + i]! - last[i % width]!;
    const y = Float64Array.from({ length: horizon * columns.length }, (_, i) => {
      const column = columns[i % columns.length]!;
      return scaled[end + Math.floor(i / columns.length) * width + column]! - last[column]!;
    });
    if (x.every(Number.isFinite) && y.every(Number.isFinite)) yield { start, x, y };
  }
}
