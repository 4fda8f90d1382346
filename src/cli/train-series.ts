/** `heddle train series.csv --target y`: trains a forecaster on a table. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { heddleCall } from '../command-line.js';
import { ConfigError, DataError } from '../errors.js';
import {
  type Calendar,
  CHECKPOINT,
  calendarFields,
  countParameters,
  MOST_SERIES_ROWS,
  type Model,
  modelFromConfig,
  parametersOf,
  readModel,
  type SeriesConfig,
  type TimeStep,
} from '../models/index.js';
import { evenStep, type NumberTable, readNumberTable, standardization, stepText } from '../signals/index.js';
import {
  expectNoRun,
  type SeriesRows,
  seriesData,
  TRAINING_DEFAULTS,
  type TrainingSettings,
} from '../train/index.js';
import { followRun, say } from './follow-run.js';
import { formatCount, formatDuration } from './format.js';
import { type RunFlags, settingsOf } from './run-flags.js';
import { expectSameModel, signalDesign } from './signal-design.js';

/** The options of forecasters: columns, horizon, patch, and the column of times. */
export interface SeriesFlags {
  target: string[];
  channel: string[];
  horizon: number;
  patch: number;
  time: string;
}

/** Whether a path names a CSV or TSV file. */
export function isTable(path: string): boolean {
  return /\.(csv|tsv)$/i.test(path);
}

/** The most positions of a window. */
const LONGEST_WINDOW = 256;

/** The options of a run on a table; `validation` is the share of the rows that is held out. */
type SeriesRunFlags = RunFlags & { validation: number } & Partial<SeriesFlags> & Pick<SeriesFlags, 'target'>;

/**
 * Trains a forecaster on a table, whose last rows are held out. Throws `ConfigError` for options that do not fit, `DataError` for the
 * table.
 */
export async function trainSeries(path: string, flags: SeriesRunFlags, command: Command): Promise<void> {
  const { target, channel } = flags;
  const asked = { patch: flags.patch ?? 1, horizon: flags.horizon ?? 24 };
  await expectOptions(flags, asked, command);
  const resumed = flags.resume ? await readModel(join(flags.out, CHECKPOINT)) : undefined;
  if (resumed) {
    const { targets, horizon, patch, calendar } = inputOf(resumed);
    await expectSameModel(resumed, flags, command, {
      target: [[...target].sort(), [...targets].sort()],
      horizon: [asked.horizon, horizon],
      patch: [asked.patch, patch],
      time: [flags.time, calendar?.column],
    });
  }
  const time = resumed ? inputOf(resumed).calendar?.column : flags.time;
  if (time !== undefined && [...(channel ?? []), ...target].includes(time))
    throw new ConfigError(`'${time}' has the times of the rows: it is neither a --target nor a --channel`);
  const table = await readNumberTable(path, channel && [...new Set([...channel, ...target])], time);
  const step = table.times && evenStep(table.times, path);
  const unknown = target.find((name) => !table.columns.includes(name));
  // The column exists but is not numeric: reading it by name throws an error with the line.
  if (unknown !== undefined) await readNumberTable(path, [unknown]);
  const { training, validation } = split(
    path,
    table,
    command.getOptionValueSource('validation') === 'cli'
      ? flags.validation
      : shareHeldOut(table.rows, asked.horizon, flags.validation),
  );
  const { constant, ...scales } = standardization(training);
  const rows = { learned: rowsOf(training), held: rowsOf(validation) };
  const designed =
    resumed ??
    (await signalDesign(flags, command, {
      kind: 'series',
      channels: [...table.columns],
      targets: target,
      ...asked,
      quantiles: QUANTILES,
      ...scales,
      ...(step &&
        time && { calendar: { column: time, fields: calendarFields(step, rows.learned), ...step } }),
    }));
  const { calendar } = inputOf(designed);
  if (calendar) expectCalendar(calendar, step, path);
  const sequence = flags.sequence ?? windowFor(rows.held, designed);
  const settings = settingsOf(flags, sequence, TRAINING_DEFAULTS.learningRate);
  const model = flags.resume ? designed : scaledByWindow(designed, settings);
  announce(flags, model, table, rows, constant, settings);
  await followRun(
    { model, data: seriesData(training, validation), settings, folder: flags.out, resume: flags.resume },
    flags,
    {
      quality: ({ loss }) => `validation quantile loss ${loss.toFixed(4)} (in deviations of each window)`,
      result: ({ loss }) => `validation quantile loss ${loss.toFixed(4)}`,
      made: 'model',
      next: heddleCall('forecast', flags.out, path),
      unit: 'positions',
    },
  );
}

/** Throws `ConfigError` for options of other models and for sizes that do not go together, `TrainingError` for a folder with a run. */
async function expectOptions(
  { resume, out }: SeriesRunFlags,
  { patch, horizon }: Pick<SeriesFlags, 'patch' | 'horizon'>,
  command: Command,
): Promise<void> {
  for (const key of ['from', 'lora', 'teacher', 'tokenizer', 'vocab', 'ids', 'documents'] as const) {
    if (command.getOptionValueSource(key) === 'cli')
      throw new ConfigError(`--${key} is for models of text: leave it out with --target`);
  }
  if (resume) return;
  await expectNoRun(out);
  if (horizon > MOST_SERIES_ROWS)
    throw new ConfigError(
      `--horizon is ${horizon}: a model forecasts ${MOST_SERIES_ROWS} rows at once at most. Take a smaller one; '${heddleCall('forecast')} --steps' goes on from its own values`,
    );
  if (patch > horizon)
    throw new ConfigError(
      `--patch is ${patch} and --horizon ${horizon}: a forecast begins behind the last whole patch and would end before the last row, so take a --horizon of ${patch} at least, or a smaller --patch`,
    );
}

/** Says what will be trained on what, and how. `rows` are learned from and held out; the columns in `unchanged` have one value in all rows. */
function announce(
  { target, resume, device }: SeriesRunFlags,
  model: Model,
  table: NumberTable,
  { learned, held }: { readonly learned: number; readonly held: number },
  unchanged: readonly string[],
  { steps, batch, sequence, seed }: TrainingSettings,
): void {
  const { patch, horizon, lags, calendar } = inputOf(model);
  const gaps = table.values.reduce((count, value) => count + (Number.isNaN(value) ? 1 : 0), 0);
  say(
    `table       ${table.name}: ${table.rows} rows of ${table.columns.join(', ')}${gaps > 0 ? `, ${gaps} values missing` : ''}; the last ${held} rows are held out`,
  );
  const constant = unchanged.filter((name) => !target.includes(name));
  if (constant.length > 0)
    say(
      `constant    ${constant.join(', ')}: always the same in the rows to learn from, so that nothing is learned from ${constant.length > 1 ? 'them' : 'it'}`,
    );
  if (learned <= patch + horizon)
    say(
      `horizon     ${horizon} rows, and there are ${learned} to learn from: what lies further ahead than the table reaches is not learned`,
    );
  if (held < patch + horizon)
    say(
      `validation  ${held} rows are held out, and a forecast has ${horizon}: the validation loss tells nothing of the furthest ones. --validation holds out more`,
    );
  if (calendar)
    say(
      `calendar    ${calendar.column}: rows are ${stepText(calendar)} apart; effects of ${calendar.fields.join(', ')} are fitted first`,
    );
  if (table.leftOut.length > 0) say(`left out    ${table.leftOut.join(', ')}`);
  say(`model       ${model.pattern}, ${formatCount(countParameters(parametersOf(model)))} parameters`);
  if (lags !== undefined && !resume) {
    const numbers = lags * patch * table.columns.length;
    const seconds = SECONDS_OF_MOST * (numbers / MOST_SERIES_ROWS) ** 3;
    const time = seconds < 5 ? '' : `, which takes about ${formatDuration(seconds)}`;
    say(`lags        a linear map of ${numbers} numbers is fitted first, by least squares${time}`);
  }
  say(
    `run         ${steps} steps of ${batch} windows of ${sequence * patch} rows, seed ${seed}, on ${device}`,
  );
}

/** What a map of the most numbers takes to be fitted on one core: ten solves of 10 s each. The time grows with the cube of the numbers. */
const SECONDS_OF_MOST = 100;

const QUANTILES: SeriesConfig['quantiles'] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/**
 * The share of the rows that is held out unless `--validation` says it. Training windows are no longer than the held-out rows, so that of a short
 * table more is held out: a window of three horizons and the horizon behind it, but at most a fifth.
 */
function shareHeldOut(rows: number, horizon: number, usual: number): number {
  return Math.max(usual, Math.min(0.2, (4 * horizon) / rows));
}

/** Throws `ConfigError` for a table without times, `DataError` for one of another step than that of the calendar. */
function expectCalendar(calendar: Calendar, step: TimeStep | undefined, path: string): void {
  if (!step)
    throw new ConfigError(
      `the design reads the calendar of '${calendar.column}': add --time ${calendar.column}`,
    );
  expectStep(calendar, step, path);
}

/** Throws `DataError` for rows of another step than that of the calendar. */
export function expectStep(calendar: Calendar, step: TimeStep, path: string): void {
  if (step.step === calendar.step && step.unit === calendar.unit) return;
  throw new DataError(
    `${path}: the rows are ${stepText(step)} apart, and those that the model learned from ${stepText(calendar)}`,
  );
}

function inputOf(model: Model): SeriesConfig {
  return (model.json as { input: SeriesConfig }).input;
}

function rowsOf({ values, channels }: SeriesRows): number {
  return values.length / channels.length;
}

/** Holds out the last rows. */
function split(
  path: string,
  table: NumberTable,
  fraction: number,
): Record<'training' | 'validation', SeriesRows & { columns: readonly string[] }> {
  const { columns, values, rows, times } = table;
  const held = Math.max(Math.round(rows * fraction), Math.min(rows >> 1, 2));
  const first = (rows - held) * columns.length;
  if (first < 2 * columns.length) throw new DataError(`${path} has too few rows to learn from: ${rows}`);
  const part = (from: number, to?: number) => ({
    ...{ channels: columns, columns, values: values.subarray(from, to) },
    ...(times && { start: times[from / columns.length]! }),
  });
  return { training: part(0, first), validation: part(first) };
}

/** The same model, with the normalization window set to the training window, unless its config has one. */
function scaledByWindow(model: Model, { sequence, phases = [] }: TrainingSettings): Model {
  const { input, ...json } = model.json as { input: SeriesConfig };
  const positions = Math.max(sequence, ...phases.map((phase) => phase.sequence ?? 0));
  return modelFromConfig({ ...json, input: { window: positions * input.patch, ...input } }, 'the design');
}

/** The window length: as many positions as fit into the held-out rows, with a row to forecast. */
function windowFor(rows: number, model: Model): number {
  const { patch } = inputOf(model);
  return Math.max(1, Math.min(LONGEST_WINDOW, Math.floor((rows - 1) / patch)));
}
