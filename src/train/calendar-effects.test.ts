/** The effects of the calendar are found where there are any, and none are where there are none. */
import { expect, test } from 'vitest';
import { calendarEntries, type DatedConfig } from '../models/index.js';
import { Random } from '../nn/index.js';
import { calendarEffects, effectsOfRows, withoutEffects } from './calendar-effects.js';
import type { SeriesRows } from './series.js';

const DAY = 86_400_000;
const START = Date.UTC(2010, 0, 1);
const config: DatedConfig = {
  ...{ kind: 'series', channels: ['a', 'b'], targets: ['a'], patch: 1, horizon: 4, quantiles: [0.5] },
  ...{ offset: [100, 0], scale: [10, 1] },
  calendar: { column: 'when', fields: ['day-of-week', 'day-of-year'], step: 86_400, unit: 'seconds' },
};

/** Sundays are 20 lower and each 25th of December 50, above a level that changes; the other channel has noise alone; some values are missing. */
function rows(from: number, to: number): SeriesRows {
  const random = new Random(from + 1);
  const values = Array.from({ length: to - from }, (_, i) => {
    const date = new Date(START + (from + i) * DAY);
    const holiday = date.getUTCMonth() === 11 && date.getUTCDate() === 25 ? -50 : 0;
    const sunday = date.getUTCDay() === 0 ? -20 : 0;
    const level = 100 + (from + i) / 50;
    return [i % 11 === 3 ? Number.NaN : level + holiday + sunday + random.normal(), random.normal()];
  });
  return { channels: ['a', 'b'], values: Float32Array.from(values.flat()), start: START + from * DAY };
}

test('effects of weekdays and of a date are found beneath a level that changes', () => {
  const effects = calendarEffects(rows(0, 3000), rows(3000, 3700), config);
  const count = 4018;
  const sums = effectsOfRows(effects, config, START, count);
  const at = (year: number, month: number, day: number): number =>
    10 * sums[2 * Math.round((Date.UTC(year, month, day) - START) / DAY)]!;
  // Of 2020, which none of the rows are of. The 24th is a Thursday, the 20th a Sunday.
  const friday = at(2020, 11, 18);
  expect(Math.abs(at(2020, 11, 20) - friday + 20)).toBeLessThan(3);
  expect(Math.abs(at(2020, 11, 25) - friday + 50)).toBeLessThan(10);
  expect(Math.abs(at(2020, 11, 24) - friday)).toBeLessThan(4);
  // The channel of noise has next to none.
  let squares = 0;
  for (let i = 1; i < sums.length; i += 2) squares += sums[i]! ** 2;
  expect(Math.sqrt(squares / count)).toBeLessThan(0.15);
  // What is left changes less.
  const changes = ({ values }: SeriesRows): number => {
    let [sum, n] = [0, 0];
    for (let i = 2; i < values.length; i += 2) {
      const change = (values[i]! - values[i - 2]!) ** 2;
      if (!Number.isNaN(change)) [sum, n] = [sum + change, n + 1];
    }
    return sum / n;
  };
  const held = rows(3000, 3700);
  expect(changes(withoutEffects(held, effects, config))).toBeLessThan(0.1 * changes(held));
});

test('held-out rows that were learned from, too, do not choose the penalty', () => {
  // Each date has an effect of its own in the learned years, which ends with them.
  const chance = new Random(5);
  const dates = Float64Array.from({ length: 2 * 366 }, () => 3 * chance.normal());
  const calendar = { ...config.calendar, fields: ['day-of-year' as const] };
  const [learnedRows, context] = [1200, 1000];
  const random = new Random(6);
  const entries = calendarEntries(calendar, START, 0, 1500);
  const values = Float32Array.from(entries, (entry, row) =>
    row < learnedRows ? dates[Number(entry)]! + random.normal() : random.normal(),
  );
  const part = (from: number, to?: number): SeriesRows => ({
    ...{ channels: ['a'], values: values.subarray(from, to), start: START + from * DAY },
  });
  const own = { ...config, calendar, channels: ['a'], offset: [0], scale: [1] };
  const effects = calendarEffects(part(0, learnedRows), part(learnedRows - context), own);
  expect(effects.every((value) => value === 0)).toBe(true);
});

test('rows that do not say when they are are refused', () => {
  const { start: _, ...undated } = rows(0, 100);
  expect(() => calendarEffects(undated, rows(100, 200), config)).toThrow(/give their start/);
});
