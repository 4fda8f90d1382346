/** `heddle bench ops`, and `npm run bench -- ops`: the schedule of a token on the wasm device, with the times of its steps. */
import type { Command } from 'commander';
import { int64, openDevice, type StepTime, stepTimes } from '../engine/index.js';
import { decoderPrograms } from '../generate/index.js';
import { locateWeights, readModel, SHIPPED_MODEL } from '../models/index.js';
import { describeMachine } from './machine.js';
import { addShapeOptions, type ShapeOptions, withMeasuredModel } from './measured-model.js';
import { positive } from './positive.js';
import { machineText } from './report.js';
import { decimal, percent, table } from './table.js';

interface OpsOptions extends ShapeOptions {
  threads: number;
  after: number;
  rows: number;
  rounds: number;
  steps?: boolean;
}

async function runOps(model: string, options: OpsOptions): Promise<void> {
  const { threads, after, rows, rounds } = options;
  await withMeasuredModel(model, options, async (folder, name) => {
    const read = await readModel(folder);
    const { write } = decoderPrograms(read, await locateWeights(folder, read));
    const each = (value: (row: number) => number) => Array.from({ length: rows }, (_, row) => value(row));
    const feeds = {
      ids: int64(
        each((row) => row),
        [rows, 1],
      ),
      position: int64(
        each(() => after),
        [rows],
      ),
      places: int64(
        each((row) => row),
        [rows],
      ),
    };
    print(machineText(describeMachine('wasm', threads)));
    const device = await openDevice('wasm', { threads });
    const times = await stepTimes(write, feeds, device, { rows, length: after, rounds });
    await device.dispose();
    const total = times.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    const stages = new Set(times.map(({ stage }) => stage)).size;
    print(
      `A token of ${rows === 1 ? 'one sequence' : `each of ${rows} sequences`} after ${after}, ${name}: ${times.length} steps in ${stages} stages; the sum of the times of all steps is ${decimal(total)} ms`,
    );
    print(options.steps ? stepsText(times) : operatorsText(times, total));
  });
}

/** Formats the steps grouped by operator, the longest first. */
function operatorsText(times: readonly StepTime[], total: number): string {
  const groups = new Map<string, { count: number; milliseconds: number; bytes: number }>();
  for (const { label, milliseconds, weightBytes } of times) {
    const group = groups.get(label) ?? { count: 0, milliseconds: 0, bytes: 0 };
    group.count++;
    group.milliseconds += milliseconds;
    group.bytes += weightBytes;
    groups.set(label, group);
  }
  const rows = [...groups]
    .sort(([, a], [, b]) => b.milliseconds - a.milliseconds)
    .map(([label, { count, milliseconds, bytes }]) => [
      label,
      String(count),
      milliseconds.toFixed(3),
      percent(milliseconds / total),
      rate(bytes, milliseconds),
    ]);
  return table([['steps', 'times', 'ms', 'share', 'weights'], ...rows]);
}

function stepsText(times: readonly StepTime[]): string {
  const rows = times.map(({ label, path, stage, milliseconds, weightBytes }) => [
    label,
    path,
    String(stage),
    milliseconds.toFixed(3),
    rate(weightBytes, milliseconds),
  ]);
  return table([['step', 'layer', 'stage', 'ms', 'weights'], ...rows]);
}

function rate(bytes: number, milliseconds: number): string {
  return bytes === 0 || milliseconds === 0 ? '' : `${decimal(bytes / milliseconds / 1e6)} GB/s`;
}

/** Adds the command `ops`. */
export function addOpsCommand(program: Command): void {
  addShapeOptions(program.command('ops'))
    .description('the steps of decoding a token on the wasm device, with their times')
    .argument('[model]', `the folder of a model or of a training run`, SHIPPED_MODEL)
    .option('--threads <n>', 'threads that compute', positive, 2)
    .option('--after <tokens>', 'tokens before the decoded one', positive, 128)
    .option('--rows <n>', 'sequences that are decoded at once', positive, 1)
    .option('--rounds <n>', 'runs; the time of a step is the mean of the faster half', positive, 30)
    .option('--steps', 'list every step, in order')
    .action((model: string, options: OpsOptions) => runOps(model, options));
}

function print(text: string): void {
  process.stdout.write(`${text}\n\n`);
}
