import { expect, test } from 'vitest';
import { horizons } from './horizon.js';

const of = (...rates: number[]): number =>
  horizons({ dims: [1, rates.length], data: Float32Array.from(rates) }).data[0]!;

test('one decay rate: its inverse', () => {
  expect(of(0.25)).toBe(4);
  expect(of(0)).toBe(Number.POSITIVE_INFINITY);
});

test('several: the time at which the mean remainder is 1/e', () => {
  expect(of(0.25, 0.25, 0.25)).toBeCloseTo(4, 5);
  const tokens = of(1, 0.1, 0.01);
  const left = (Math.exp(-tokens) + Math.exp(-tokens / 10) + Math.exp(-tokens / 100)) / 3;
  expect(left).toBeCloseTo(1 / Math.E, 5);
});

test('several, one without decay: finite only if the others can bring the mean to 1/e', () => {
  expect(of(1, 0)).toBe(Number.POSITIVE_INFINITY);
  const tokens = of(1, 1, 1, 0);
  expect((3 * Math.exp(-tokens) + 1) / 4).toBeCloseTo(1 / Math.E, 5);
});
