/** When rows are, and what the calendar says of them. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../errors.js';
import {
  type Calendar,
  calendarEntries,
  calendarFields,
  calendarSize,
  longestCycle,
  timeOfRow,
  timeText,
} from './calendar.js';

const DAILY = { step: 86_400, unit: 'seconds' } as const;
const HOURLY = { step: 3600, unit: 'seconds' } as const;
const MONTHLY = { step: 1, unit: 'months' } as const;

test('rows are at even times, and months are of any length', () => {
  const january = Date.UTC(2024, 0, 1, 6);
  const text = (step: Pick<Calendar, 'step' | 'unit'>, row: number) =>
    timeText(timeOfRow(step, january, row));
  expect(text(DAILY, 60)).toBe('2024-03-01T06:00:00');
  expect(text(MONTHLY, 2)).toBe('2024-03-01T06:00:00');
  expect(text({ step: 3, unit: 'months' }, 5)).toBe('2025-04-01T06:00:00');
  expect(text(HOURLY, -6)).toBe('2024-01-01');
});

test.each([
  ['months', '2026-01-31', ['2026-01-31', '2026-02-28', '2026-03-31', '2026-04-30']],
  ['months', '2023-12-30T06:00:00', ['2023-12-30T06:00:00', '2024-01-30T06:00:00', '2024-02-29T06:00:00']],
  ['months', '2026-04-30', ['2026-04-30', '2026-05-30']],
  ['month-ends', '2026-04-30', ['2026-04-30', '2026-05-31', '2026-06-30']],
  ['month-ends', '2024-02-29T23:00:00', ['2024-02-29T23:00:00', '2024-03-31T23:00:00']],
] as const)('%s from %s on are in each month once', (unit, start, expected) => {
  const begin = Date.parse(`${start.length === 10 ? `${start}T00:00:00` : start}Z`);
  const found = expected.map((_, row) => timeText(timeOfRow({ step: 1, unit }, begin, row)));
  expect(found).toEqual(expected);
});

describe('the entries of rows', () => {
  const at = (fields: Calendar['fields'], time: number): number[] =>
    Array.from(calendarEntries({ column: 'when', fields, ...HOURLY }, time, 0, 1), Number);

  test('are one in the table of each field, one table behind the other', () => {
    // A Sunday.
    const time = Date.UTC(2026, 2, 1, 5);
    expect(at(['hour-of-day', 'day-of-week', 'month-of-year', 'hour-of-week'], time)).toEqual([
      5,
      24 + 6,
      24 + 7 + 2,
      24 + 7 + 12 + 6 * 24 + 5,
    ]);
    expect(calendarSize({ fields: ['hour-of-day', 'day-of-week', 'month-of-year'] })).toBe(43);
  });

  test('of a date are the same in all years, apart for workdays and weekends', () => {
    const date = (year: number): number => at(['day-of-year'], Date.UTC(year, 11, 25))[0]!;
    // A Wednesday, a Thursday and a Saturday.
    expect(date(2024)).toBe(date(2025));
    expect(date(2021)).toBe(date(2025) + 1);
    expect(at(['day-of-year'], Date.UTC(2024, 11, 31))[0]! >> 1).toBe(365);
  });

  test('of the fourth Thursday of November are the same in all years', () => {
    const entries = [Date.UTC(2024, 10, 28), Date.UTC(2025, 10, 27), Date.UTC(2023, 10, 23)].map(
      (time) => at(['weekday-of-month'], time)[0],
    );
    expect(new Set(entries).size).toBe(1);
    expect(at(['weekday-of-month'], Date.UTC(2023, 10, 30))[0]).not.toBe(entries[0]);
  });

  test('of the last Monday of May are the same in all years, and of no other Monday of it', () => {
    const entry = (...date: [number, number, number]) => at(['last-weekday-of-month'], Date.UTC(...date))[0];
    expect(entry(2026, 4, 25)).toBe(1 + 7 * 4);
    expect(entry(2024, 4, 27)).toBe(1 + 7 * 4);
    expect(entry(2023, 4, 22)).toBe(0);
    expect(entry(2024, 11, 31)).toBe(1 + 7 * 11 + 1);
    expect(at(['date-and-weekday'], Date.UTC(2024, 11, 31))[0]).toBe(365 * 7 + 1);
  });

  test('are within the table for each hour of four years, and follow their rows', () => {
    const calendar: Calendar = {
      ...{ column: 'when', ...HOURLY },
      fields: [
        'hour-of-day',
        'hour-of-week',
        'day-of-week',
        'month-of-year',
        'day-of-year',
        'weekday-of-month',
      ],
    };
    const start = Date.UTC(2024, 0, 1);
    const entries = Array.from(calendarEntries(calendar, start, 0, 4 * 8766), Number);
    const most = entries.reduce((a, b) => Math.max(a, b));
    expect(most).toBeLessThan(calendarSize(calendar));
    // The first fields repeat so often that each of their values comes up.
    const first = new Set(entries.filter((entry) => entry < 24 + 168 + 7 + 12));
    expect(first.size).toBe(24 + 168 + 7 + 12);
    expect(Array.from(calendarEntries(calendar, start, 100, 3), Number)).toEqual(entries.slice(600, 618));
    expect(longestCycle(calendar)).toBe(8766);
  });
});

test('fields are those that the rows can tell of', () => {
  expect(calendarFields(DAILY, 60)).toEqual(['day-of-week']);
  const dates = ['day-of-week', 'day-of-year', 'weekday-of-month', 'last-weekday-of-month'];
  expect(calendarFields(DAILY, 2000)).toEqual(dates);
  expect(calendarFields(DAILY, 5000)).toEqual([...dates, 'date-and-weekday']);
  expect(calendarFields(HOURLY, 100)).toEqual(['hour-of-day']);
  expect(calendarFields(HOURLY, 1000)).toEqual(['hour-of-week']);
  expect(calendarFields(MONTHLY, 100)).toEqual(['month-of-year']);
  expect(() => calendarFields(MONTHLY, 30)).toThrow(ConfigError);
  expect(() => calendarFields(DAILY, 20)).toThrow(
    /20 rows, 1 day apart, repeat no day, week or year 3 times/,
  );
});
