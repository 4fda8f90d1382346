/** Forecasts of one series by simple methods, and the errors of these and of models. */
import { float32, type HostTensor } from '../engine/index.js';
import { SignalModel } from '../generate/index.js';
import { scalar } from '../graph/index.js';
import { calendarFeeds, modalityInputs, perceive, type SeriesConfig } from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { LeastSquares } from '../signals/index.js';
import { effectsOfRows, inputConfigOf } from '../train/index.js';
import type { Trained } from './task.js';

/** The origins of forecasts: every value from `first` on whose horizon is known. */
export interface Origins {
  readonly values: Float32Array;
  readonly first: number;
  /** The number of values that are read. */
  readonly context: number;
  readonly horizon: number;
  /** The unit of errors. */
  readonly scale: number;
  /** When the first value is, in milliseconds since 1970, for a model that reads a calendar. */
  readonly start?: number | undefined;
}

/** Forecasts the values from `at` on from those before. */
export type Forecast = (values: Float32Array, at: number) => ArrayLike<number>;

/** The mean squared error, in units of `scale`, over all origins and all values of the horizon. */
export function forecastError({ values, first, horizon, scale }: Origins, forecast: Forecast): number {
  let [total, count] = [0, 0];
  for (let at = first; at + horizon <= values.length; at++) {
    const told = forecast(values, at);
    for (let i = 0; i < horizon; i++, count++) total += ((told[i]! - values[at + i]!) / scale) ** 2;
  }
  return total / count;
}

/** The seasonal naive forecast: repeats the last period. */
export function seasonalNaive(period: number, horizon: number): Forecast {
  return (values, at) => Array.from({ length: horizon }, (_, i) => values[at - period + (i % period)]!);
}

/** The naive forecast: repeats the last value. */
export function last(horizon: number): Forecast {
  return (values, at) => new Array<number>(horizon).fill(values[at - 1]!);
}

/** The data of a linear fit. */
export interface LinearFit extends Pick<Origins, 'horizon' | 'scale'> {
  readonly learned: Float32Array;
  /** The validation values, by whose error the penalty is selected; they start with the values that the first forecast reads. */
  readonly held: Float32Array;
  /** The number of values that a forecast reads. */
  readonly reach: number;
}

/**
 * Least squares: each value of the horizon is a linear map of the last `reach` values less the last one, the form of NLinear (Zeng et
 * al., 2022, arXiv 2205.13504).
 */
export function linearForecast({ learned, held, reach, horizon, scale }: LinearFit): Forecast {
  const width = reach + 1;
  const features = (values: Float32Array, at: number): Float64Array =>
    Float64Array.from({ length: width }, (_, i) =>
      i === reach ? 1 : (values[at - reach + i]! - values[at - 1]!) / scale,
    );
  const sumsOf = (values: Float32Array): LeastSquares => {
    const sums = new LeastSquares(width, horizon);
    for (let at = reach; at + horizon <= values.length; at++)
      sums.add(
        features(values, at),
        Float64Array.from({ length: horizon }, (_, h) => (values[at + h]! - values[at - 1]!) / scale),
      );
    return sums;
  };
  const sums = sumsOf(learned);
  const map = sums.solve(sums.penaltyFor(sumsOf(held)));
  return (values, at) => {
    const x = features(values, at);
    return Array.from({ length: horizon }, (_, h) => {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += x[i]! * map[i * horizon + h]!;
      return values[at - 1]! + scale * sum;
    });
  };
}

/**
 * The forecast of the fitted parts of a model of one channel, without its layers: the linear map of the values less the effects of the calendar,
 * plus these effects. `rows` is the number of values; the first is at the time `start`.
 */
export function mappedForecast(
  fitted: ReadonlyMap<string, Float32Array>,
  config: SeriesConfig,
  { rows, start }: { readonly rows: number; readonly start: number },
): Forecast {
  const { lags = 1, patch, horizon, scale, calendar } = config;
  const [weight, bias] = [fitted.get('lags.weight')!, fitted.get('lags.bias')!];
  const effects = calendar
    ? effectsOfRows(fitted.get('calendar.weight')!, { ...config, calendar }, start, rows)
    : new Float64Array(rows);
  const reach = lags * patch;
  return (values, at) => {
    const restAt = (row: number): number => values[row]! / scale[0]! - effects[row]!;
    const last = restAt(at - 1);
    return Array.from({ length: horizon }, (_, h) => {
      let told = last + bias[h]! + effects[at + h]!;
      for (let i = 0; i < reach; i++) told += weight[h * reach + i]! * (restAt(at - reach + i) - last);
      return scale[0]! * told;
    });
  };
}

/** The mean squared error of a model that reads the context of each origin, a window of one channel. */
export async function modelError(trained: Trained, origins: Origins): Promise<number> {
  const { values, first, context, horizon, start: begins } = origins;
  const told = new Map<number, ArrayLike<number>>();
  const starts = Array.from({ length: values.length - horizon - first + 1 }, (_, i) => first + i - context);
  for await (const { start, forecasts } of forecastsOf(trained, values, starts, context, begins))
    told.set(start + context, forecasts.at(-1)!);
  return forecastError(origins, (_, at) => told.get(at)!);
}

/** The forecasts of a window that begins at row `start`. */
export interface WindowForecasts {
  readonly start: number;
  /** After each patch of the window, the median of each value of the horizon. */
  readonly forecasts: readonly Float32Array[];
}

/**
 * The forecasts of a model of one channel within windows of `width` values that begin at `starts`. The first value is at the time `begins`.
 */
export async function* forecastsOf(
  { model, weights, device }: Trained,
  values: Float32Array,
  starts: readonly number[],
  width: number,
  begins = 0,
): AsyncGenerator<WindowForecasts> {
  const config = inputConfigOf<SeriesConfig>(model, 'series');
  const inputs = modalityInputs(model.modality!);
  const { said } = perceive(model, new ParameterRegistry(), inputs, scalar(0, 'int64'));
  const executable = await device.compile({ inputs: Object.values(inputs), outputs: said, weights });
  try {
    for (let from = 0; from < starts.length; from += WINDOWS_AT_ONCE) {
      const some = starts.slice(from, from + WINDOWS_AT_ONCE);
      const windows = some.map((first) => ({ first, values: values.subarray(first, first + width) }));
      const outputs = await executable.run(feedsOf(windows, config, begins));
      const all = mediansIn(outputs, config);
      const positions = width / config.patch;
      for (const [i, start] of some.entries())
        yield { start, forecasts: all.slice(i * positions, (i + 1) * positions) };
    }
  } finally {
    await executable.dispose();
  }
}

const WINDOWS_AT_ONCE = 128;

/**
 * The forecasts of a model of one channel that reads `values` as a stream, some patches at a time, with its state of those before.
 * Returns the forecasts after each patch, and the size of the final state in bytes. Throws `ConfigError` for a model that looks ahead.
 */
export async function streamForecasts(
  { model, weights, device }: Trained,
  values: Float32Array,
  patchesAtOnce: number,
): Promise<{ forecasts: Float32Array[]; bytes: number }> {
  const config = inputConfigOf<SeriesConfig>(model, 'series');
  const reader = await SignalModel.compile(model, weights, device);
  const session = reader.session();
  try {
    const forecasts: Float32Array[] = [];
    const size = patchesAtOnce * config.patch;
    for (let at = 0; at + config.patch <= values.length; at += size) {
      const end = Math.min(at + size, values.length - (values.length % config.patch));
      const window = { first: at, values: values.subarray(at, end) };
      const said = await session.read(feedsOf([window], config, 0), (end - at) / config.patch);
      forecasts.push(...mediansIn(said, config));
    }
    return { forecasts, bytes: session.bytes };
  } finally {
    session.dispose();
    await reader.dispose();
  }
}

/** Values without missing ones, and which of a series is the first of them. */
interface Window {
  readonly first: number;
  readonly values: Float32Array;
}

/** Windows of one length as model inputs, of a series that begins at the time `begins`. */
function feedsOf(
  windows: readonly Window[],
  config: SeriesConfig,
  begins: number,
): Record<string, HostTensor> {
  const { patch, calendar } = config;
  const width = windows[0]!.values.length;
  const dims = [windows.length, width / patch, patch, 1];
  const data = new Float32Array(windows.length * width);
  for (const [i, { values }] of windows.entries()) data.set(values, i * width);
  const feeds: Record<string, HostTensor> = {
    values: float32(data, dims),
    observed: float32(new Float32Array(data.length).fill(1), dims),
  };
  if (!calendar) return feeds;
  const read = windows.map(({ first }) =>
    calendarFeeds({ ...config, calendar }, begins, first, width / patch),
  );
  for (const name of Object.keys(read[0]!)) {
    const parts = read.map((each) => each[name]!);
    const all = new BigInt64Array(parts.length * parts[0]!.length);
    for (const [i, part] of parts.entries()) all.set(part, i * part.length);
    const size = all.length / parts.length / (width / patch) / calendar.fields.length;
    feeds[name] = {
      dtype: 'int64',
      dims: [windows.length, width / patch, size, calendar.fields.length],
      data: all,
    };
  }
  return feeds;
}

/** The medians of the horizon after each position, in the original scale. */
function mediansIn(
  said: Readonly<Record<string, HostTensor>>,
  { horizon, quantiles }: SeriesConfig,
): Float32Array[] {
  const [scaled, center, spread] = ['scaled', 'center', 'spread'].map(
    (name) => said[name]!.data as Float32Array,
  );
  const middle = quantiles.indexOf(0.5);
  return Array.from(center!, (mean, at) =>
    Float32Array.from({ length: horizon }, (_, h) => {
      const deviations = scaled![(at * horizon + h) * quantiles.length + middle]!;
      return mean + spread![at]! * deviations;
    }),
  );
}
