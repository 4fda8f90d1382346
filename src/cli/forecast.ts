/** `heddle forecast`: reads a table and forecasts its next rows. */
import { type Command, Option } from 'commander';
import type { DeviceName } from '../engine/index.js';
import { ConfigError, DataError } from '../errors.js';
import { type Forecaster, loadModel, type SeriesSession } from '../generate/index.js';
import { type Calendar, timeText } from '../models/index.js';
import { expectWritable } from '../platform/node/writable.js';
import { evenStep, type NumberTable, readNumberTable } from '../signals/index.js';
import { formatBytes, quote } from './format.js';
import { deviceOption, threadsOption } from './loading-options.js';
import { wholeNumber } from './options.js';
import { expectStep } from './train-series.js';

interface ForecastFlags {
  steps?: number;
  state?: string;
  saveState?: string;
  device: DeviceName;
  threads?: number;
}

/** Arguments, options and action of `heddle forecast`. */
export function configure(command: Command): void {
  command
    .argument('<model>', 'the folder of a model of series, or of its training run')
    .argument('[table]', 'what came before: a CSV or TSV file that has the columns which the model reads')
    .option(
      '--steps <rows>',
      "rows that are forecast (default: as far as the model's horizon reaches)",
      wholeNumber,
    )
    .addOption(new Option('--state <file>', 'go on from this state, which --save-state wrote'))
    .option('--save-state <file>', 'save what was read, to go on from when more is there')
    .addOption(deviceOption())
    .addOption(threadsOption())
    .action(run);
}

/** Writes CSV to standard output: a line a step and target, with its quantiles. */
async function run(folder: string, path: string | undefined, flags: ForecastFlags): Promise<void> {
  if (path === undefined && flags.state === undefined)
    throw new ConfigError('name a table to go on from, or a state with --state');
  if (flags.saveState !== undefined) await expectWritable(flags.saveState);
  const forecaster = await loadModel(folder, {
    kind: 'series',
    device: flags.device,
    ...(flags.threads !== undefined && { threads: flags.threads }),
  });
  const { channels, calendar } = forecaster.config;
  const table = path === undefined ? undefined : await readNumberTable(path, channels, calendar?.column);
  const start = table?.times?.[0];
  const session =
    flags.state === undefined
      ? forecaster.session({ start: start === undefined ? undefined : new Date(start) })
      : await forecaster.restore(flags.state);
  if (table) {
    const { values, rows } = table;
    if (calendar) expectTimes(calendar, table, session.next!, path!);
    const width = channels.length;
    await session.push(
      Array.from({ length: rows }, (_, i) => Array.from(values.subarray(i * width, (i + 1) * width))),
    );
  }
  // The state is saved first, so that it is not lost if the forecast fails.
  if (flags.saveState !== undefined) await session.save(flags.saveState);
  const { targets, quantiles, values, times } = await session.forecast(
    flags.steps ?? reachOf(session, forecaster),
  );
  const lines = values.flatMap((row, step) =>
    row.map((said, i) =>
      [
        step + 1,
        ...(times ? [timeText(times[step]!.getTime())] : []),
        quote(targets[i]!),
        ...said.map((value) => Number(value.toPrecision(7))),
      ].join(','),
    ),
  );
  const header = [
    'step',
    ...(times ? ['time'] : []),
    'target',
    ...quantiles.map((level) => `q${Math.round(level * 1000) / 10}`),
  ].join(',');
  process.stdout.write(`${[header, ...lines].join('\n')}\n`);
  process.stderr.write(`read ${session.length} rows, state ${formatBytes(session.bytes)}\n`);
  session.dispose();
  await forecaster.dispose();
}

/** Throws `DataError` for rows that are not at the times of the calendar from `next` on. */
function expectTimes(calendar: Calendar, { times, name }: NumberTable, next: Date, path: string): void {
  if (times!.length > 1) expectStep(calendar, evenStep(times!, path), path);
  if (times![0] === next.getTime()) return;
  throw new DataError(
    `${name} begins at ${timeText(times![0]!)}, and the next row of the state is that of ${timeText(next.getTime())}: give the rows from there on, with empty cells where nothing was measured`,
  );
}

/**
 * The number of rows to forecast. The horizon begins after the last whole patch; beyond it, a model without other inputs can continue from its own
 * forecasts.
 */
function reachOf({ length }: SeriesSession, { config }: Forecaster): number {
  const { channels, targets, patch, horizon } = config;
  return targets.length < channels.length ? horizon - (length % patch) : horizon;
}
