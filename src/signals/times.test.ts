/** Times of tables, and whether they are even. */
import { expect, test } from 'vitest';
import { DataError } from '../errors.js';
import { evenStep, stepText, timeIn } from './times.js';

test.each([
  ['2026', Date.UTC(2026, 0)],
  ['2026-03', Date.UTC(2026, 2)],
  [' 2026/3/9 ', Date.UTC(2026, 2, 9)],
  ['2026-03-09T13:05', Date.UTC(2026, 2, 9, 13, 5)],
  ['2026-03-09 13:05:07.000', Date.UTC(2026, 2, 9, 13, 5, 7)],
  ['2026-03-09 13:05:07.500', Date.UTC(2026, 2, 9, 13, 5, 7, 500)],
  ['2026-03-09T13:05:07,25+01:00', Date.UTC(2026, 2, 9, 12, 5, 7, 250)],
  ['2026-03-09T13:05:07.123456Z', Date.UTC(2026, 2, 9, 13, 5, 7, 123)],
  ['2026-03-09T13:05:00Z', Date.UTC(2026, 2, 9, 13, 5)],
  ['2026-03-09T13:05+02:00', Date.UTC(2026, 2, 9, 11, 5)],
  ['2026-03-09 01:05 -0930', Date.UTC(2026, 2, 9, 10, 35)],
])('%s is a time', (cell, time) => expect(timeIn(cell)).toBe(time));

test.each(['', 'NA', '2026-02-30', '2026-13-01', '2026-01-01T25:00', '12/31/2026', '2026-01-01T10:00:00.'])(
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
  expect(evenStep(times('2026-01-30', '2026-02-28', '2026-03-30'), 't')).toEqual({ step: 1, unit: 'months' });
  const halves = times('2026-01-01T10:00:00.5', '2026-01-01T10:00:10.5', '2026-01-01T10:00:20.5');
  expect(evenStep(halves, 't')).toEqual({ step: 10, unit: 'seconds' });
});

test.each([
  [1, ['2024-01-31', '2024-02-29', '2024-03-31', '2024-04-30']],
  [1, ['2026-02-28', '2026-03-31']],
  [3, ['2025-12-31 23:00', '2026-03-31 23:00', '2026-06-30 23:00']],
  [12, ['2023-02-28', '2024-02-29', '2025-02-28']],
])('month ends are %i months apart: %o', (step, cells) =>
  expect(evenStep(times(...cells), 't')).toEqual({ step, unit: 'month-ends' }),
);

test('a step is told in words', () => {
  const texts = [86_400, 3600, 900, 1, 0.5].map((step) => stepText({ step, unit: 'seconds' }));
  expect(texts).toEqual(['1 day', '1 hour', '15 minutes', '1 second', '0.5 seconds']);
  expect(stepText({ step: 3, unit: 'months' })).toBe('3 months');
  expect(stepText({ step: 1, unit: 'month-ends' })).toBe('1 month (month ends)');
});

test.each([
  [times('2026-01-01'), /1 times: a step needs two rows/],
  [times('2026-01-02', '2026-01-01'), /sort the rows by time/],
  [times('2026-01-02', '2026-01-02'), /sort the rows by time/],
  [times('2026-01-01', '2026-01-02', '2026-01-04'), /row 3 is at 2026-01-04T00:00:00, behind 2026-01-02/],
  [times('2026-01-01', '2026-01-02', '2026-01-04'), /rows 1 and 2 are 1 day apart/],
  [times('2026-01', '2026-02', '2026-04'), /row 3 .* are 1 month apart/],
  [times('2026-01-31', '2026-02-28', '2026-04-30'), /row 3 .* are 1 month \(month ends\) apart/],
  [times('2026-01-31', '2026-02-28', '2026-03-30'), /row 3 .* are 28 days apart/],
  [
    times('2026-01-01T10:00:00', '2026-01-01T10:00:00.5'),
    /0\.5 seconds apart: a calendar needs whole seconds/,
  ],
])('%o is refused', (found, message) => {
  expect(() => evenStep(found, 't')).toThrow(DataError);
  expect(() => evenStep(found, 't')).toThrow(message);
});
