/** Forecasts of one series by simple methods, and how far they and a model miss. */
import { scalar } from '../graph/index.js';
import { modalityInputs, perceive, type SeriesConfig } from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';
import type { Trained } from './task.js';

/** Where forecasts begin: at every value from the one at `first` on whose horizon is known. */
export interface Origins {
  readonly values: Float32Array;
  readonly first: number;
  /** Values that are read. */
  readonly context: number;
  readonly horizon: number;
  /** Errors are told in it. */
  readonly scale: number;
}

/** What comes after the values before `at`. */
export type Forecast = (values: Float32Array, at: number) => ArrayLike<number>;

export function forecastError({ values, first, horizon, scale }: Origins, forecast: Forecast): number {
  let [total, count] = [0, 0];
  for (let at = first; at + horizon <= values.length; at++) {
    const told = forecast(values, at);
    for (let i = 0; i < horizon; i++, count++) total += ((told[i]! - values[at + i]!) / scale) ** 2;
  }
  return total / count;
}

/** The value of the period before, as often as it takes. */
export function seasonalNaive(period: number, horizon: number): Forecast {
  return (values, at) => Array.from({ length: horizon }, (_, i) => values[at - period + (i % period)]!);
}

/** The last value, again and again. */
export function last(horizon: number): Forecast {
  return (values, at) => new Array<number>(horizon).fill(values[at - 1]!);
}

/**
 * Each value of the horizon as a linear map of the last `reach` values less the last of them, by least squares with a small penalty: the
 * form of NLinear (Zeng et al., 2022, arXiv 2205.13504).
 */
export function linearForecast(learned: Float32Array, reach: number, horizon: number): Forecast {
  const width = reach + 1;
  const gram = new Float64Array(width * width);
  const moments = new Float64Array(width * horizon);
  const features = (values: Float32Array, at: number): Float64Array =>
    Float64Array.from({ length: width }, (_, i) =>
      i === reach ? 1 : values[at - reach + i]! - values[at - 1]!,
    );
  for (let at = reach; at + horizon <= learned.length; at++) {
    const x = features(learned, at);
    for (let i = 0; i < width; i++) {
      for (let j = 0; j < width; j++) gram[i * width + j]! += x[i]! * x[j]!;
      for (let h = 0; h < horizon; h++)
        moments[i * horizon + h]! += x[i]! * (learned[at + h]! - learned[at - 1]!);
    }
  }
  const trace = Array.from({ length: width }, (_, i) => gram[i * width + i]!).reduce((a, b) => a + b, 0);
  for (let i = 0; i < width; i++) gram[i * width + i]! += (1e-4 * trace) / width + 1e-9;
  const map = solved(gram, moments, width, horizon);
  return (values, at) => {
    const x = features(values, at);
    return Array.from({ length: horizon }, (_, h) => {
      let sum = values[at - 1]!;
      for (let i = 0; i < width; i++) sum += x[i]! * map[i * horizon + h]!;
      return sum;
    });
  };
}

/** a [size, size] symmetric and positive, b [size, columns] -> a^-1 b, by Cholesky's factors. */
function solved(a: Float64Array, b: Float64Array, size: number, columns: number): Float64Array {
  const l = a.slice();
  for (let j = 0; j < size; j++) {
    for (let k = 0; k < j; k++)
      for (let i = j; i < size; i++) l[i * size + j]! -= l[i * size + k]! * l[j * size + k]!;
    const root = Math.sqrt(l[j * size + j]!);
    for (let i = j; i < size; i++) l[i * size + j]! /= root;
  }
  const x = b.slice();
  for (let c = 0; c < columns; c++) {
    for (let i = 0; i < size; i++) {
      for (let k = 0; k < i; k++) x[i * columns + c]! -= l[i * size + k]! * x[k * columns + c]!;
      x[i * columns + c]! /= l[i * size + i]!;
    }
    for (let i = size - 1; i >= 0; i--) {
      for (let k = i + 1; k < size; k++) x[i * columns + c]! -= l[k * size + i]! * x[k * columns + c]!;
      x[i * columns + c]! /= l[i * size + i]!;
    }
  }
  return x;
}

/** The same of a model that reads the context of each beginning, a window of one channel. */
export async function modelError(trained: Trained, origins: Origins): Promise<number> {
  const { values, first, context, horizon } = origins;
  const told = new Map<number, ArrayLike<number>>();
  const starts = Array.from({ length: values.length - horizon - first + 1 }, (_, i) => first + i - context);
  for await (const { start, forecasts } of forecastsOf(trained, values, starts, context))
    told.set(start + context, forecasts.at(-1)!);
  return forecastError(origins, (_, at) => told.get(at)!);
}

export interface WindowForecasts {
  readonly start: number;
  /** Behind each patch of the window the median of each value of the horizon. */
  readonly forecasts: readonly Float32Array[];
}

/** What a model of one channel says within windows of `width` values, which begin at `starts`. */
export async function* forecastsOf(
  { model, weights, device }: Trained,
  values: Float32Array,
  starts: readonly number[],
  width: number,
): AsyncGenerator<WindowForecasts> {
  const { patch, horizon, quantiles } = (model.json as { input: SeriesConfig }).input;
  const inputs = modalityInputs(model.modality!);
  const { said } = perceive(model, new ParameterRegistry(), inputs, scalar(0, 'int64'));
  const executable = await device.compile({ inputs: Object.values(inputs), outputs: said, weights });
  const positions = width / patch;
  const middle = quantiles.indexOf(0.5);
  try {
    for (let from = 0; from < starts.length; from += WINDOWS_AT_ONCE) {
      const some = starts.slice(from, from + WINDOWS_AT_ONCE);
      const data = new Float32Array(some.length * width);
      for (const [i, start] of some.entries()) data.set(values.subarray(start, start + width), i * width);
      const dims = [some.length, positions, patch, 1];
      const outputs = await executable.run({
        values: { dtype: 'float32', dims, data },
        observed: { dtype: 'float32', dims, data: new Float32Array(data.length).fill(1) },
      });
      const { scaled, center, spread } = outputs as Record<string, { data: ArrayLike<number> }>;
      for (const [i, start] of some.entries()) {
        const forecasts = Array.from({ length: positions }, (_, position) => {
          const at = i * positions + position;
          return Float32Array.from({ length: horizon }, (_, h) => {
            const deviations = scaled!.data[(at * horizon + h) * quantiles.length + middle]!;
            return center!.data[at]! + spread!.data[at]! * deviations;
          });
        });
        yield { start, forecasts };
      }
    }
  } finally {
    await executable.dispose();
  }
}

const WINDOWS_AT_ONCE = 128;
