/** Times as tables have them. */
import { DataError } from '../errors.js';

/** A date, and perhaps a time of day and an offset from UTC. */
const TIME =
  /^(\d{4})(?:[-/](\d{1,2})(?:[-/](\d{1,2})(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?\s*(Z|[+-]\d{2}:?\d{2})?)?)?)?$/;

/**
 * The time of a cell, in milliseconds since 1970: a year, a month, a date, or a date and a time of day (ISO 8601, also with slashes and a blank), in UTC unless
 * it says its offset. Of fractions of a second milliseconds are kept. Nothing for anything else, also for a date that there is not.
 */
export function timeIn(cell: string): number | undefined {
  const found = TIME.exec(cell.trim());
  if (!found) return undefined;
  const [
    ,
    year,
    month = '1',
    day = '1',
    hour = '0',
    minute = '0',
    second = '0',
    fraction = '',
    offset = 'Z',
  ] = found;
  const numbers = [year, month, day, hour, minute, second].map(Number) as [number, ...number[]];
  const [y, mo, d, h, mi, s] = numbers as [number, number, number, number, number, number];
  const time = Date.UTC(y, mo - 1, d, h, mi, s, Number(fraction.padEnd(3, '0').slice(0, 3)));
  const read = new Date(time);
  const isThere = read.getUTCMonth() === mo - 1 && read.getUTCDate() === d && h < 24 && mi < 60 && s < 60;
  if (!isThere) return undefined;
  if (offset === 'Z') return time;
  const sign = offset.startsWith('-') ? -1 : 1;
  const digits = offset.replace(/\D/g, '');
  return time - sign * 60_000 * (60 * Number(digits.slice(0, 2)) + Number(digits.slice(2)));
}

/** The time from row to row: so many seconds, so many months from the same day of the month, or so many from the last day of each. */
export interface EvenStep {
  readonly step: number;
  readonly unit: 'seconds' | 'months' | 'month-ends';
}

/**
 * The step of the times of rows: whole months where all times are at one time of day, on the last day of each month or on the day of the first row (or the last one of a
 * shorter month); seconds elsewhere. Throws `DataError` for rows that are not one step apart, with the first that is not, for a step that is no whole number of
 * seconds, and for fewer than two rows.
 */
export function evenStep(times: readonly number[], name: string): EvenStep {
  if (times.length < 2) throw new DataError(`${name} has ${times.length} times: a step needs two rows`);
  const text = (time: number): string => new Date(time).toISOString().slice(0, time % 1000 === 0 ? 19 : 23);
  if (times[1]! <= times[0]!)
    throw new DataError(
      `${name}: row 2 is at ${text(times[1]!)}, and row 1 at ${text(times[0]!)}: sort the rows by time`,
    );
  const unit = unitOf(times);
  const counted = unit === 'seconds' ? times : times.map((time) => monthsOf(time).month);
  const difference = counted[1]! - counted[0]!;
  const step = unit === 'seconds' ? difference / 1000 : difference;
  const uneven = counted.findIndex((at, i) => i > 0 && at - counted[i - 1]! !== difference);
  if (uneven !== -1)
    throw new DataError(
      `${name}: row ${uneven + 1} is at ${text(times[uneven]!)}, behind ${text(times[uneven - 1]!)}, and rows 1 and 2 are ${stepText({ step, unit })} apart: a calendar needs rows at even times, so give each time a row, with empty cells where nothing was measured`,
    );
  if (!Number.isInteger(step))
    throw new DataError(
      `${name}: the rows are ${stepText({ step, unit })} apart: a calendar needs whole seconds from row to row, so leave the times out`,
    );
  return { step, unit };
}

function unitOf(times: readonly number[]): EvenStep['unit'] {
  const months = times.map(monthsOf);
  const [first, second] = months as [Month, Month];
  if (first.month === second.month || months.some(({ clock }) => clock !== first.clock)) return 'seconds';
  if (months.every(({ day, days }) => day === days)) return 'month-ends';
  return months.every(({ day, days }) => day === Math.min(first.day, days)) ? 'months' : 'seconds';
}

/** A step as a person reads it: `1 day`, `15 minutes`, `3 months`. */
export function stepText({ step, unit }: EvenStep): string {
  const [size, name] =
    unit === 'seconds'
      ? (SIZES.find(([seconds]) => step % seconds === 0) ?? ([1, 'second'] as const))
      : ([1, 'month'] as const);
  const count = step / size;
  return `${count} ${name}${count === 1 ? '' : 's'}${unit === 'month-ends' ? ' (month ends)' : ''}`;
}

const SIZES = [
  [86_400, 'day'],
  [3600, 'hour'],
  [60, 'minute'],
] as const;

/** The month of a time, counted from year 0, its number of days, and where in it the time is. */
interface Month {
  readonly month: number;
  readonly days: number;
  readonly day: number;
  /** Milliseconds since the day began. */
  readonly clock: number;
}

function monthsOf(time: number): Month {
  const date = new Date(time);
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  const days = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  return { month: 12 * year + month, days, day, clock: time - Date.UTC(year, month, day) };
}
