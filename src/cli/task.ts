/** `heddle task`: tasks that distinguish designs. */
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { positive } from '../bench/positive.js';
import { parseJson } from '../checkpoint/index.js';
import { heddleCall } from '../command-line.js';
import { openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import {
  CHECKPOINT,
  countParameters,
  DESIGNS,
  type Design,
  IMAGE_DESIGNS,
  type ImageDesign,
  openModel,
  parametersOf,
  readModel,
  SIZES,
} from '../models/index.js';
import {
  type PreparedTask,
  positionsOf,
  scoreText,
  TASKS,
  type Task,
  taskModel,
  taskOf,
} from '../tasks/index.js';
import { type Evaluation, expectNoRun, TRAINING_DEFAULTS } from '../train/index.js';
import { followRun, say } from './follow-run.js';
import { formatCount, table } from './format.js';
import { leavingNothing } from './interrupt.js';
import { above0, choice, each, wholeNumber } from './options.js';
import {
  addDeviceFlags,
  averageOption,
  deviceOptionsOf,
  keepOption,
  optimizerOption,
  phasesOption,
  type RunFlags,
  settingsOf,
} from './run-flags.js';

interface TaskFlags extends Omit<RunFlags, 'design'> {
  design: Design | ImageDesign;
  pattern?: string;
  set?: string[];
  length?: number;
  examples: number;
  longest: number;
}

/** The commands of `heddle task`. */
export function configure(command: Command): void {
  command
    .command('list')
    .description('the tasks there are')
    .action(() => {
      const rows = TASKS.map(({ name, measure, chance, lengths, about }) => [
        name,
        chance === undefined
          ? '-'
          : `${scoreText(measure, chance)} ${measure.name === 'bits/byte' ? 'bits a byte' : measure.name}`,
        `${lengths.train.toLocaleString('en')} ${lengths.unit ?? 'tokens'}`,
        `${lengths.test.map((length) => length.toLocaleString('en')).join(' | ')} ${lengths.testUnit ?? lengths.unit ?? 'tokens'}`,
        about,
      ]);
      const heads = ['task', 'score of guessing', 'learned from', 'tested on', 'what is asked'];
      process.stdout.write(`${table([heads, ...rows], 5)}\n`);
    });
  const d = TRAINING_DEFAULTS;
  const run = command
    .command('run')
    .description('train a new model on a task, and test it on examples that it has not seen')
    .argument('<task>', "its name, as 'task list' prints it")
    .requiredOption('-o, --out <folder>', 'where the run goes: <folder>/checkpoint is the model')
    .option(
      '--design <name>',
      `the sibling: ${DESIGNS.join(', ')}; for images also ${IMAGE_DESIGNS.join(', ')}`,
      choice([...DESIGNS, ...IMAGE_DESIGNS]),
      'hybrid',
    )
    .option('--size <name>', `its size: ${SIZES.join(', ')}`, choice(SIZES), 'nano')
    .addOption(new Option('--pattern <letters>', 'its layers, instead of those of the design'))
    .option(
      '--set <key=value>',
      'another key of its config, as in attention_selected=128 or input={"stem":"convolution"}; may be given several times',
      each,
    )
    .option('--length <tokens>', "tokens in a training example (default: the task's)", positive)
    .option('--steps <n>', 'optimizer steps', wholeNumber, d.steps)
    .option('--batch <examples>', 'examples in a batch', positive, 16)
    .option('--accumulate <batches>', 'batches a step', positive, d.accumulate)
    .option('--learning-rate <rate>', 'highest learning rate', above0, d.learningRate)
    .addOption(phasesOption())
    .addOption(optimizerOption())
    .addOption(averageOption())
    .addOption(keepOption())
    .option('--warmup <steps>', 'steps until the highest learning rate', wholeNumber, d.warmupSteps)
    .option('--seed <n>', 'seed of the weights and of the examples', wholeNumber, d.seed)
    .option('--evaluate-every <steps>', 'steps between evaluations', wholeNumber, d.evaluateEvery)
    .option('--save-every <steps>', 'steps between checkpoints', wholeNumber, 0)
    .option('--examples <n>', 'examples of each length in the test; 0 for no test', wholeNumber, 64)
    .option('--longest <tokens>', 'the longest examples of the test', wholeNumber, 65_536)
    .option('--resume', 'go on from the checkpoint in the folder', false);
  addDeviceFlags(run).action(runTask);
}

async function runTask(name: string, flags: TaskFlags): Promise<void> {
  const task = taskOf(name);
  deviceOptionsOf(flags);
  if (!flags.resume) await expectNoRun(flags.out);
  const set: Record<string, unknown> = flags.pattern === undefined ? {} : { pattern: flags.pattern };
  for (const assignment of flags.set ?? []) {
    const [key, value] = assignment.split(/=(.*)/s);
    if (!key || value === undefined)
      throw new ConfigError(`--set ${assignment}: expected a key and a value, as in attention_selected=128`);
    set[key] = parseJson(value) ?? value;
  }
  const prepared = await task.prepare(flags.length);
  const model = flags.resume
    ? await readModel(join(flags.out, CHECKPOINT))
    : taskModel(prepared, { design: flags.design, size: flags.size, set });
  const sequence = positionsOf(model, prepared.sequence);
  const unit = model.modality ? 'positions' : 'tokens';
  const settings = settingsOf(flags, sequence, TRAINING_DEFAULTS.learningRate);
  say(`task        ${task.name}: ${task.about} (${task.source})`);
  say(`model       ${model.pattern}, ${formatCount(countParameters(parametersOf(model)))} parameters`);
  say(
    `run         ${settings.steps} steps of ${settings.batch * settings.accumulate} examples of ${sequence} ${unit}, seed ${settings.seed}, on ${flags.device}`,
  );
  const right = (measures: Evaluation['measures']): string =>
    measures?.accuracy === undefined ? '' : `, ${percent(measures.accuracy)} of the answers right`;
  const completed = await followRun(
    { model, data: prepared.data, settings, folder: flags.out, resume: flags.resume },
    flags,
    {
      quality: ({ loss, measures }) => `held-out loss ${loss.toFixed(4)}${right(measures)}`,
      result: ({ loss, measures }) => right(measures).slice(2) || `held-out loss ${loss.toFixed(4)}`,
      made: 'model',
      next: heddleCall('info', flags.out),
      unit,
    },
  );
  if (!completed || flags.examples === 0) return;
  await leavingNothing(() => test(task, prepared, flags));
}

/** Tests the trained model, and prints its scores beside those of simple methods. */
async function test(task: Task, prepared: PreparedTask, flags: TaskFlags): Promise<void> {
  const device = await openDevice(flags.device, deviceOptionsOf(flags));
  const { model, weights } = await openModel(join(flags.out, CHECKPOINT));
  const { measure, chance, reference } = task;
  const shown = (score: number | undefined): string =>
    score === undefined ? '-' : scoreText(measure, score);
  const published = reference ? `${shown(reference.score)} (${reference.of})` : '-';
  const rows = [['tested on', measure.name, 'chance', 'published']];
  const options = { count: flags.examples, seed: flags.seed, longest: flags.longest };
  for await (const { of, value } of prepared.score({ model, weights, device }, options)) {
    rows.push([of, shown(value), shown(chance), published]);
    say(`tested      ${of}: ${shown(value)}`);
  }
  for (const [name, score] of Object.entries(prepared.baselines ?? {}))
    rows.push([name, shown(score), '', '']);
  process.stdout.write(`${table(rows)}\n`);
  await device.dispose();
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.001 ? 3 : 1)} %`;
}
