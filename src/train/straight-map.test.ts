/** What the map beside the layers is fitted to: what holds on held-out rows, and nothing where they show no gain. */
import { describe, expect, test } from 'vitest';
import type { SeriesConfig } from '../models/index.js';
import { Random } from '../nn/index.js';
import { LeastSquares } from '../signals/index.js';
import type { SeriesRows } from './series.js';
import { straightMap } from './straight-map.js';

const config: SeriesConfig = {
  ...{ kind: 'series', channels: ['a'], targets: ['a'], patch: 2, horizon: 4, quantiles: [0.5], lags: 4 },
  ...{ offset: [0], scale: [1] },
};
const read = 8;

function rowsOf(values: readonly number[]): SeriesRows {
  return { channels: ['a'], values: Float32Array.from(values) };
}

/** Sums of random steps, each with a drift. */
function walk(count: number, seed: number, drift: number): number[] {
  const random = new Random(seed);
  let at = 0;
  return Array.from({ length: count }, () => {
    at += drift + random.normal();
    return at;
  });
}

/** The mean squared error over all windows. */
function errorOf(fitted: Map<string, Float32Array>, { values }: SeriesRows): number {
  const [weight, bias] = [fitted.get('lags.weight')!, fitted.get('lags.bias')!];
  let [total, count] = [0, 0];
  for (let at = read; at + 4 <= values.length; at++)
    for (let h = 0; h < 4; h++, count++) {
      let told = values[at - 1]! + bias[h]!;
      for (let i = 0; i < read; i++)
        told += weight[h * read + i]! * (values[at - read + i]! - values[at - 1]!);
      total += (told - values[at + h]!) ** 2;
    }
  return total / count;
}

/** A second-order autoregression with a period of 9: it turns often, and is the same in both directions. */
function waves(count: number, seed: number): number[] {
  const random = new Random(seed);
  const values = [0, 0];
  while (values.length < count)
    values.push(1.53 * Math.cos((2 * Math.PI) / 9) * values.at(-1)! - 0.8 * values.at(-2)! + random.normal());
  return values;
}

describe('the map beside the layers', () => {
  test.each([1, 2, 3, 4, 5])('is nothing for a random walk (seed %i)', (seed) => {
    const fitted = straightMap(rowsOf(walk(600, seed, 0)), rowsOf(walk(300, seed + 100, 0)), config);
    for (const name of ['lags.weight', 'lags.bias'])
      expect(fitted.get(name)!.every((value) => value === 0)).toBe(true);
  });

  test('of a short held-out table is kept where it gains there', () => {
    // Two to seven parts of a horizon are too few to tell by two standard errors what is chance.
    const learned = rowsOf(waves(300, 3));
    const isKept = (held: readonly number[]): boolean =>
      straightMap(learned, rowsOf(held), config)
        .get('lags.weight')!
        .some((value) => value !== 0);
    const counts = [16, 20, 24, 28, 32, 38];
    const seeds = Array.from({ length: 20 }, (_, i) => 50 + i);
    const tables = counts.flatMap((count) => seeds.map((seed) => ({ count, seed })));
    // On other waves the map halves the error and more; on a walk it is no better than the last value.
    expect(tables.filter(({ count, seed }) => isKept(waves(count, seed))).length).toBeGreaterThan(100);
    expect(tables.filter(({ count, seed }) => isKept(walk(count, seed, 0))).length).toBeLessThan(20);
  });

  test('has a constant where the drift goes on, and none where it ends', () => {
    const drifting = (count: number, seed: number): SeriesRows =>
      rowsOf(waves(count, seed).map((value, i) => value + i));
    const [on, ended] = [drifting(300, 8), rowsOf(waves(300, 8))].map((held) =>
      straightMap(drifting(600, 7), held, config),
    );
    expect(on!.get('lags.bias')!.every((value) => value > 0.5)).toBe(true);
    expect(
      ended!.get('lags.bias')!.every((value, i) => Math.abs(value) < on!.get('lags.bias')![i]! / 10),
    ).toBe(true);
    for (const fitted of [on!, ended!])
      expect(fitted.get('lags.weight')!.some((value) => value !== 0)).toBe(true);
  });

  test('comes with the size of its errors, in deviations of the windows', () => {
    const [learned, held] = [waves(600, 1), waves(300, 2)];
    const [once, tenfold] = [1, 10].map((factor) => {
      const [own, other] = [learned, held].map((values) => rowsOf(values.map((value) => factor * value)));
      return straightMap(own!, other!, config);
    });
    const relative: number[][] = [[], [], [], []];
    for (let at = read; at + 4 <= learned.length; at++) {
      const window = learned.slice(at - read, at);
      const mean = window.reduce((sum, value) => sum + value, 0) / read;
      const variance = window.reduce((sum, value) => sum + (value - mean) ** 2, 0) / read;
      for (const [h, each] of relative.entries()) {
        const told = window.reduce(
          (sum, value, i) => sum + once!.get('lags.weight')![h * read + i]! * (value - window.at(-1)!),
          window.at(-1)! + once!.get('lags.bias')![h]!,
        );
        each.push((learned[at + h]! - told) ** 2 / variance);
      }
    }
    for (const [h, each] of relative.entries()) {
      const size = Math.sqrt(each.reduce((sum, value) => sum + value, 0) / each.length);
      expect(once!.get('lags.misses')![h]).toBeCloseTo(size, 4);
      expect(tenfold!.get('lags.misses')![h]).toBeCloseTo(size, 4);
    }
  });

  test('of few rows is better for reading them backwards, too', () => {
    const [tested, held] = [rowsOf(waves(5000, 21)), rowsOf(waves(400, 20))];
    let [bothWays, forwards] = [0, 0];
    for (const seed of [31, 32, 33, 34, 35, 36]) {
      const values = waves(40, seed);
      bothWays += errorOf(straightMap(rowsOf(values), held, config), tested);
      const oneWay = [true, false].map((constant) =>
        errorOf(forwardMap(values, held.values, constant), tested),
      );
      forwards += Math.min(...oneWay);
    }
    expect(bothWays).toBeLessThan(0.98 * forwards);
  });
});

/** Ridge regression on the windows as they are, with the penalty that is best on held-out ones. */
function forwardMap(
  learned: readonly number[],
  held: Float32Array,
  constant: boolean,
): Map<string, Float32Array> {
  const sumsOf = (values: ArrayLike<number>): LeastSquares => {
    const sums = new LeastSquares(read + 1, 4);
    for (let at = read; at + 4 <= values.length; at++) {
      const last = values[at - 1]!;
      const x = Float64Array.from({ length: read + 1 }, (_, i) =>
        i === read ? 1 : values[at - read + i]! - last,
      );
      sums.add(
        x,
        Float64Array.from({ length: 4 }, (_, h) => values[at + h]! - last),
      );
    }
    return sums;
  };
  const sums = sumsOf(learned);
  const map = sums.solve(sums.penaltyFor(sumsOf(held)), constant);
  return new Map([
    [
      'lags.weight',
      Float32Array.from({ length: 4 * read }, (_, i) => map[(i % read) * 4 + Math.floor(i / read)]!),
    ],
    ['lags.bias', Float32Array.from(map.subarray(4 * read))],
  ]);
}
