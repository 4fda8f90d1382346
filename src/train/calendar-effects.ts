/** The effects of the calendar on a series (`input.calendar`), fitted before the first step. */
import { ConfigError } from '../errors.js';
import {
  type Calendar,
  calendarEntries,
  calendarSize,
  type DatedConfig,
  longestCycle,
  type SeriesConfig,
  timeOfRow,
} from '../models/index.js';
import type { SeriesRows } from './series.js';

/** Penalties that are tried: each effect is shrunk as if so many more rows had shown none. */
const PENALTIES = [1, 10, 100];
/** Passes over all fields; each is a step of coordinate descent. */
const PASSES = 30;

/**
 * The effect of each value of each field on each channel, [values, channels], in scales of the channels: ridge regression of the rows, less
 * their moving average over the longest cycle of the fields, on the fields' values, by backfitting (Friedman & Stuetzle, 1981). Of some penalties the one is
 * taken that is best on the held-out rows, for each channel; a channel on which none is better than no effect has none. Rows of `validation` that are of `training`
 * as well, such as those that the first forecast reads, do not count there. Throws `ConfigError` for rows without
 * a start.
 */
export function calendarEffects(
  training: SeriesRows,
  validation: SeriesRows,
  config: DatedConfig,
): Float32Array {
  const { channels, calendar } = config;
  const width = channels.length;
  const cycle = longestCycle(calendar);
  const [learned, held] = [training, validation].map((rows) => entriesOfRows(rows, calendar));
  const isLearned = learnedAmong(validation, training, calendar);
  const effects = new Float32Array(calendarSize(calendar) * width);
  for (let channel = 0; channel < width; channel++) {
    const [own, other] = [training, validation].map((rows) =>
      changesOf(standardized(rows, config, channel), cycle),
    );
    const heldError = (table: Float64Array): number => {
      const told = changesOf(summed(table, held!, calendar), cycle);
      return other!.reduce(
        (sum, value, i) => (Number.isNaN(value) || isLearned[i] ? sum : sum + (value - told[i]!) ** 2),
        0,
      );
    };
    let best: Float64Array = new Float64Array(calendarSize(calendar));
    let least = heldError(best);
    for (const penalty of PENALTIES) {
      const table = backfitted(own!, learned!, calendar, penalty);
      const error = heldError(table);
      if (error < least) [best, least] = [table, error];
    }
    for (const [i, value] of best.entries()) effects[i * width + channel] = value;
  }
  return effects;
}

/** The sum of the effects [values, channels] at each of `count` rows from `start` on: [count, channels]. */
export function effectsOfRows(
  effects: Float32Array,
  { calendar, channels }: DatedConfig,
  start: number,
  count: number,
): Float64Array {
  const width = channels.length;
  const fields = calendar.fields.length;
  const entries = calendarEntries(calendar, start, 0, count);
  const sums = new Float64Array(count * width);
  for (const [i, entry] of entries.entries())
    for (let channel = 0; channel < width; channel++)
      sums[Math.floor(i / fields) * width + channel]! += effects[Number(entry) * width + channel]!;
  return sums;
}

/** The same rows less the effects. */
export function withoutEffects(rows: SeriesRows, effects: Float32Array, config: DatedConfig): SeriesRows {
  const width = config.channels.length;
  const sums = effectsOfRows(effects, config, startOf(rows), rows.values.length / width);
  return { ...rows, values: rows.values.map((value, i) => value - config.scale[i % width]! * sums[i]!) };
}

/** When the first row is, in milliseconds since 1970. Throws `ConfigError` for rows that do not say it. */
export function startOf({ start }: SeriesRows): number {
  if (start !== undefined) return start;
  throw new ConfigError(
    'the model reads a calendar, and the rows do not say when they are: give their start',
  );
}

/** Which rows of `held` are at a time of the rows that are learned from. */
function learnedAmong(held: SeriesRows, learned: SeriesRows, calendar: Calendar): boolean[] {
  const [first, begins] = [startOf(learned), startOf(held)];
  const end = timeOfRow(calendar, first, learned.values.length / learned.channels.length);
  return Array.from({ length: held.values.length / held.channels.length }, (_, row) => {
    const time = timeOfRow(calendar, begins, row);
    return first <= time && time < end;
  });
}

function entriesOfRows(rows: SeriesRows, calendar: Calendar): Int32Array {
  const count = rows.values.length / rows.channels.length;
  return Int32Array.from(calendarEntries(calendar, startOf(rows), 0, count), Number);
}

function standardized(
  { values }: SeriesRows,
  { channels, offset, scale }: SeriesConfig,
  channel: number,
): Float64Array {
  const width = channels.length;
  return Float64Array.from(
    { length: values.length / width },
    (_, row) => (values[row * width + channel]! - offset[channel]!) / scale[channel]!,
  );
}

/** Values less the mean of those around them, of a window of `cycle`; a missing value stays missing. */
function changesOf(values: Float64Array, cycle: number): Float64Array {
  const sums = new Float64Array(values.length + 1);
  const counts = new Float64Array(values.length + 1);
  for (const [i, value] of values.entries()) {
    const isThere = !Number.isNaN(value);
    sums[i + 1] = sums[i]! + (isThere ? value : 0);
    counts[i + 1] = counts[i]! + Number(isThere);
  }
  return values.map((value, i) => {
    const from = Math.max(0, i - (cycle >> 1));
    const to = Math.min(values.length, i - (cycle >> 1) + cycle);
    return value - (sums[to]! - sums[from]!) / (counts[to]! - counts[from]!);
  });
}

/** The sum of a table's values over the fields, for each row. */
function summed(table: Float64Array, entries: Int32Array, { fields }: Calendar): Float64Array {
  const sums = new Float64Array(entries.length / fields.length);
  for (const [i, entry] of entries.entries()) sums[Math.floor(i / fields.length)]! += table[entry]!;
  return sums;
}

/** The effects that tell the changes best, with a penalty. */
function backfitted(
  changes: Float64Array,
  entries: Int32Array,
  calendar: Calendar,
  penalty: number,
): Float64Array {
  const fields = calendar.fields.length;
  const table = new Float64Array(calendarSize(calendar));
  const counts = new Float64Array(table.length);
  for (const [row, change] of changes.entries())
    if (!Number.isNaN(change)) for (let f = 0; f < fields; f++) counts[entries[row * fields + f]!]!++;
  const rest = changes.slice();
  for (let pass = 0; pass < PASSES; pass++)
    for (let field = 0; field < fields; field++) {
      const steps = new Float64Array(table.length);
      for (const [row, left] of rest.entries())
        if (!Number.isNaN(left)) steps[entries[row * fields + field]!]! += left;
      for (let i = 0; i < table.length; i++)
        if (steps[i] !== 0) steps[i] = (steps[i]! - penalty * table[i]!) / (counts[i]! + penalty);
      for (let i = 0; i < table.length; i++) table[i]! += steps[i]!;
      for (let row = 0; row < rest.length; row++) rest[row]! -= steps[entries[row * fields + field]!]!;
    }
  return table;
}
