/**
 * The calendar of a series: rows at even times, and what is known of each time in advance, such as its day of the week. Each field of the
 * calendar has a table with an effect for each of its values. The model reads a series less these effects, and adds those of the rows that it
 * forecasts: the additive seasonal and holiday terms of Prophet (Taylor & Letham, 2018, The American Statistician 72(1)), with a table in the place of a Fourier
 * series, so that a single day can differ from its neighbours.
 */
import { z } from 'zod';
import { ConfigError } from '../../errors.js';
import { stepText } from '../../signals/index.js';

const SECOND = 1000;
const DAY = 86_400 * SECOND;
const MOST_STEP = 1e9;

/** A field of the calendar: its number of values, the days after which it repeats, and its value at a time (UTC). */
interface Field {
  readonly size: number;
  readonly cycle: number;
  at(time: Date): number;
}

const weekday = (time: Date): number => (time.getUTCDay() + 6) % 7;
/** Of a leap year, so that a date has the same number in all years. */
const dayOfYear = (time: Date): number =>
  (Date.UTC(2000, time.getUTCMonth(), time.getUTCDate()) - Date.UTC(2000, 0, 1)) / DAY;
const YEAR = 365.2425;

/** The fields by their names. */
const FIELDS = {
  'hour-of-day': { size: 24, cycle: 1, at: (time) => time.getUTCHours() },
  'hour-of-week': { size: 168, cycle: 7, at: (time) => 24 * weekday(time) + time.getUTCHours() },
  'day-of-week': { size: 7, cycle: 7, at: weekday },
  'month-of-year': { size: 12, cycle: YEAR, at: (time) => time.getUTCMonth() },
  /** Dates, of workdays and weekends apart: a holiday changes less on a Sunday. */
  'day-of-year': { size: 732, cycle: YEAR, at: (time) => 2 * dayOfYear(time) + Number(weekday(time) > 4) },
  /** The second Tuesday of May: holidays that have no date of their own. */
  'weekday-of-month': {
    size: 420,
    cycle: YEAR,
    at: (time) => 35 * time.getUTCMonth() + 7 * Math.floor((time.getUTCDate() - 1) / 7) + weekday(time),
  },
  /** The last Monday of May; 0 for all days that are not in the last week of a month. */
  'last-weekday-of-month': {
    size: 85,
    cycle: YEAR,
    at: (time) => {
      const later = new Date(time.getTime() + 7 * DAY);
      return later.getUTCMonth() === time.getUTCMonth() ? 0 : 1 + 7 * time.getUTCMonth() + weekday(time);
    },
  },
  /** Dates by their weekday: a holiday on a Sunday is kept on the Monday after it. */
  'date-and-weekday': { size: 2562, cycle: YEAR, at: (time) => 7 * dayOfYear(time) + weekday(time) },
} as const satisfies Record<string, Field>;

/** The name of a field of the calendar. */
export type CalendarField = keyof typeof FIELDS;

const FIELD_NAMES = Object.keys(FIELDS) as [CalendarField, ...CalendarField[]];

/** The key `calendar` of the `input` of a model of series. */
export const calendarSchema = z.strictObject({
  /** The column of a table that has the times. */
  column: z.string().min(1),
  fields: z.array(z.enum(FIELD_NAMES)).min(1),
  /** The time from row to row. */
  step: z.number().int().positive().max(MOST_STEP),
  unit: z.enum(['seconds', 'months', 'month-ends']),
});

/** When rows are, and which fields of the calendar a model reads. */
export type Calendar = z.output<typeof calendarSchema>;

/** The time from row to row. */
export type TimeStep = Pick<Calendar, 'step' | 'unit'>;

/**
 * The time of a row, in milliseconds since 1970, where row 0 is at `start`. Months go on at the day of `start`, or at the last day of a shorter month; month ends at the
 * last day of each.
 */
export function timeOfRow({ step, unit }: TimeStep, start: number, row: number): number {
  if (unit === 'seconds') return start + row * step * SECOND;
  const date = new Date(start);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth() + row * step];
  const last = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  const day = unit === 'months' ? Math.min(date.getUTCDate(), last) : last;
  return Date.UTC(year, month, day) + (start - Date.UTC(year, date.getUTCMonth(), date.getUTCDate()));
}

/** The number of rows of the longest cycle among the fields, at least one. */
export function longestCycle({ fields, ...step }: Calendar): number {
  return Math.max(1, Math.round(Math.max(...fields.map((name) => FIELDS[name].cycle)) / daysOf(step)));
}

function daysOf({ step, unit }: TimeStep): number {
  return unit === 'seconds' ? (step * SECOND) / DAY : (step * YEAR) / 12;
}

/** The number of values of all fields: the rows of the table of effects. */
export function calendarSize({ fields }: Pick<Calendar, 'fields'>): number {
  return fields.reduce((sum, name) => sum + FIELDS[name].size, 0);
}

/** For each of `count` rows, of which the first is row `first` of a series that starts at `start`, the rows of the table of effects: [count, fields], flat. */
export function calendarEntries(
  calendar: Calendar,
  start: number,
  first: number,
  count: number,
): BigInt64Array {
  const { fields } = calendar;
  const entries = new BigInt64Array(count * fields.length);
  for (let i = 0; i < count; i++) {
    const time = new Date(timeOfRow(calendar, start, first + i));
    let offset = 0;
    for (const [j, name] of fields.entries()) {
      entries[i * fields.length + j] = BigInt(offset + FIELDS[name].at(time));
      offset += FIELDS[name].size;
    }
  }
  return entries;
}

/** The fewest cycles of a field that its effects can be learned from. */
const LEAST_CYCLES = 3;
/** The years after which most dates have come twice on each weekday. */
const YEARS_OF_WEEKDAYS = 12;

/**
 * The fields that `rows` rows can tell of: those that change from row to row and repeat often enough. Throws `ConfigError` where there are
 * none.
 */
export function calendarFields(step: TimeStep, rows: number): CalendarField[] {
  const days = daysOf(step);
  const repeats = (cycle: number): boolean => rows * days >= LEAST_CYCLES * cycle;
  const fields: CalendarField[] = [];
  if (days < 1 && repeats(7)) fields.push('hour-of-week');
  else if (days < 1 && repeats(1)) fields.push('hour-of-day');
  if (days === 1 && repeats(7)) fields.push('day-of-week');
  if (days <= 1 && repeats(YEAR)) fields.push('day-of-year', 'weekday-of-month', 'last-weekday-of-month');
  if (days <= 1 && rows * days >= YEARS_OF_WEEKDAYS * YEAR) fields.push('date-and-weekday');
  if (days > 1 && days < YEAR / 2 && repeats(YEAR)) fields.push('month-of-year');
  if (fields.length > 0) return fields;
  throw new ConfigError(
    `${rows} rows, ${stepText(step)} apart, repeat no day, week or year ${LEAST_CYCLES} times: nothing can be learned of their calendar, so leave the times out`,
  );
}

/** Milliseconds since 1970 as a person reads them: `2026-03-01`, with the time of day where there is one. */
export function timeText(time: number): string {
  const text = new Date(time).toISOString();
  if (time % SECOND !== 0) return text.slice(0, -1);
  return time % DAY === 0 ? text.slice(0, 10) : text.slice(0, 19);
}
