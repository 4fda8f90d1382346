/** Times of tables, and whether they are even. */
import { expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { evenStep, timeIn } from './times.js';

test.each([
  ['2026', Date.UTC(2026, 0)],
  ['2026-03', Date.UTC(2026, 2)],
  [' 2026/3/9 ', Date.UTC(2026, 2, 9)],
  ['2026-03-09T13:05', Date.UTC(2026, 2, 9, 13, 5)],
  ['2026-03-09 13:05:07.000', Date.UTC(2026, 2, 9, 13, 5, 7)],
  ['2026-03-09T13:05:00Z', Date.UTC(2026, 2, 9, 13, 5)],
  ['2026-03-09T13:05+02:00', Date.UTC(2026, 2, 9, 11, 5)],
  ['2026-03-09 01:05 -0930', Date.UTC(2026, 2, 9, 10, 35)],
])('%s is a time', (cell, time) => expect(timeIn(cell)).toBe(time));

test.each(['', 'NA', '2026-02-30', '2026-13-01', '2026-01-01T25:00', '12/31/2026', '2026-01-01T10:00:00.5'])(
  '%o is none',
  (cell) => expect(timeIn(cell)).toBeUndefined(),
);

const times = (...cells: string[]): number[] => cells.map((cell) => timeIn(cell)!);

test('a step is of seconds or of months', () => {
  expect(evenStep(times('2026-01-01', '2026-01-02', '2026-01-03'), 't')).toEqual({
    step: 86_400,
    unit: 'seconds',
  });
  expect(evenStep(times('2026-01-31', '2026-02-01'), 't')).toEqual({ step: 86_400, unit: 'seconds' });
  expect(evenStep(times('2026-01', '2026-02', '2026-03'), 't')).toEqual({ step: 1, unit: 'months' });
  expect(evenStep(times('2025-11-15', '2026-02-15', '2026-05-15'), 't')).toEqual({ step: 3, unit: 'months' });
  expect(evenStep(times('2024', '2025', '2026'), 't')).toEqual({ step: 12, unit: 'months' });
});

test.each([
  [times('2026-01-01'), /1 times: a step needs two rows/],
  [times('2026-01-02', '2026-01-01'), /sort the rows by time/],
  [times('2026-01-02', '2026-01-02'), /sort the rows by time/],
  [times('2026-01-01', '2026-01-02', '2026-01-04'), /row 3 is at 2026-01-04T00:00:00, behind 2026-01-02/],
  [times('2026-01', '2026-02', '2026-04'), /row 3 .* are 1 months apart/],
])('%o is refused', (found, message) => {
  expect(() => evenStep(found, 't')).toThrow(DataError);
  expect(() => evenStep(found, 't')).toThrow(message);
});
