/** Times as tables have them. */
import { DataError } from '../errors.js';

/** A date, and perhaps a time of day and an offset from UTC. */
const TIME =
  /^(\d{4})(?:[-/](\d{1,2})(?:[-/](\d{1,2})(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]0+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?)?)?$/;

/**
 * The time of a cell, in milliseconds since 1970: a year, a month, a date, or a date and a time of day (ISO 8601, also with slashes and a blank), in UTC unless
 * it says its offset. Nothing for anything else, also for a date that there is not.
 */
export function timeIn(cell: string): number | undefined {
  const found = TIME.exec(cell.trim());
  if (!found) return undefined;
  const [, year, month = '1', day = '1', hour = '0', minute = '0', second = '0', offset = 'Z'] = found;
  const numbers = [year, month, day, hour, minute, second].map(Number) as [number, ...number[]];
  const [y, mo, d, h, mi, s] = numbers as [number, number, number, number, number, number];
  const time = Date.UTC(y, mo - 1, d, h, mi, s);
  const read = new Date(time);
  const isThere = read.getUTCMonth() === mo - 1 && read.getUTCDate() === d && h < 24 && mi < 60 && s < 60;
  if (!isThere) return undefined;
  if (offset === 'Z') return time;
  const sign = offset.startsWith('-') ? -1 : 1;
  const digits = offset.replace(/\D/g, '');
  return time - sign * 60_000 * (60 * Number(digits.slice(0, 2)) + Number(digits.slice(2)));
}

/** The time from row to row: so many seconds, or so many months. */
export interface EvenStep {
  readonly step: number;
  readonly unit: 'seconds' | 'months';
}

/**
 * The step of the times of rows: whole months where all times are of one day of the month and time of day, seconds elsewhere. Throws `DataError` for rows that are
 * not one step apart, with the first that is not, and for fewer than two.
 */
export function evenStep(times: readonly number[], name: string): EvenStep {
  if (times.length < 2) throw new DataError(`${name} has ${times.length} times: a step needs two rows`);
  const months = times.map(monthsOf);
  const inMonths =
    months.every(({ rest }) => rest === months[0]!.rest) && months[1]!.month !== months[0]!.month;
  const counted = inMonths ? months.map(({ month }) => month) : times.map((time) => time / 1000);
  const step = counted[1]! - counted[0]!;
  const text = (time: number): string => new Date(time).toISOString().slice(0, 19);
  if (step <= 0)
    throw new DataError(
      `${name}: row 2 is at ${text(times[1]!)}, and row 1 at ${text(times[0]!)}: sort the rows by time`,
    );
  const uneven = counted.findIndex((at, i) => i > 0 && at - counted[i - 1]! !== step);
  if (uneven !== -1)
    throw new DataError(
      `${name}: row ${uneven + 1} is at ${text(times[uneven]!)}, behind ${text(times[uneven - 1]!)}, and rows 1 and 2 are ${inMonths ? `${step} months` : `${step} seconds`} apart: a calendar needs rows at even times, so give each time a row, with empty cells where nothing was measured`,
    );
  return { step, unit: inMonths ? 'months' : 'seconds' };
}

/** The month of a time, counted from year 0, and the milliseconds of it that have passed. */
function monthsOf(time: number): { month: number; rest: number } {
  const date = new Date(time);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return { month: 12 * year + month, rest: time - Date.UTC(year, month) };
}
