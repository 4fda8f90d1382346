/** `heddle task`: what tells designs apart. */
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { parseJson } from '../checkpoint/index.js';
import { heddleCall } from '../command-line.js';
import { openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import {
  CHECKPOINT,
  configJson,
  countParameters,
  DESIGNS,
  hybridModel,
  openModel,
  parametersOf,
  parseConfig,
  preset,
  readModel,
  SIZES,
} from '../models/index.js';
import { accuracyOf, TASKS, taskData, taskOf } from '../tasks/index.js';
import { expectNoRun, TRAINING_DEFAULTS } from '../train/index.js';
import { followRun, say } from './follow-run.js';
import { formatCount, table } from './format.js';
import { choice, each, number, wholeNumber } from './options.js';
import { addDeviceFlags, deviceOptionsOf, type RunFlags, settingsOf } from './run-flags.js';

interface TaskFlags extends RunFlags {
  pattern?: string;
  set?: string[];
  length?: number;
  examples: number;
}

export function configure(command: Command): void {
  command
    .command('list')
    .description('the tasks there are')
    .action(() => {
      const rows = TASKS.map(({ name, chance, lengths, about }) => [
        name,
        percent(chance),
        String(lengths.train),
        lengths.test.join(', '),
        about,
      ]);
      process.stdout.write(`${table([['task', 'chance', 'train', 'test', 'what is asked'], ...rows], 5)}\n`);
    });
  const d = TRAINING_DEFAULTS;
  const run = command
    .command('run')
    .description('train a new model on a task, and test it on examples that it has not seen')
    .argument('<task>', "its name, as 'task list' prints it")
    .requiredOption('-o, --out <folder>', 'where the run goes: <folder>/checkpoint is the model')
    .option('--design <name>', `the sibling: ${DESIGNS.join(', ')}`, choice(DESIGNS), 'hybrid')
    .option('--size <name>', `its size: ${SIZES.join(', ')}`, choice(SIZES), 'nano')
    .addOption(new Option('--pattern <letters>', 'its layers, instead of those of the design'))
    .option(
      '--set <key=value>',
      'another key of its config, as in attention_selected=128; may be given several times',
      each,
    )
    .option('--length <tokens>', "tokens in a training example (default: the task's)", wholeNumber)
    .option('--steps <n>', 'optimizer steps', wholeNumber, d.steps)
    .option('--batch <examples>', 'examples in a batch', wholeNumber, 16)
    .option('--accumulate <batches>', 'batches a step', wholeNumber, d.accumulate)
    .option('--learning-rate <rate>', 'highest learning rate', number, d.learningRate)
    .option('--warmup <steps>', 'steps until the highest learning rate', wholeNumber, d.warmupSteps)
    .option('--seed <n>', 'seed of the weights and of the examples', wholeNumber, d.seed)
    .option('--evaluate-every <steps>', 'steps between evaluations', wholeNumber, d.evaluateEvery)
    .option('--save-every <steps>', 'steps between checkpoints', wholeNumber, 0)
    .option('--examples <n>', 'examples of each length in the test; 0 for no test', wholeNumber, 64)
    .option('--resume', 'go on from the checkpoint in the folder', false);
  addDeviceFlags(run).action(runTask);
}

async function runTask(name: string, flags: TaskFlags): Promise<void> {
  const task = taskOf(name);
  if (!flags.resume) expectNoRun(flags.out);
  const length = flags.length ?? task.lengths.train;
  const { pattern } = flags;
  const config = configJson(preset(flags.design, flags.size, task.vocabulary));
  for (const key of ['bos_token_id', 'eos_token_id']) delete config[key];
  Object.assign(config, { max_position_embeddings: length }, pattern !== undefined && { pattern });
  for (const assignment of flags.set ?? []) {
    const [key, value] = assignment.split(/=(.*)/s);
    if (!key || value === undefined)
      throw new ConfigError(`--set ${assignment}: expected a key and a value, as in attention_selected=128`);
    config[key] = parseJson(value) ?? value;
  }
  const model = flags.resume
    ? await readModel(join(flags.out, CHECKPOINT))
    : hybridModel(parseConfig(config, 'the config of the task'));
  const settings = settingsOf(flags, length, TRAINING_DEFAULTS.learningRate);
  say(`task        ${task.name}: ${task.about} (${task.source})`);
  say(`model       ${model.pattern}, ${formatCount(countParameters(parametersOf(model)))} parameters`);
  say(
    `run         ${settings.steps} steps of ${settings.batch * settings.accumulate} examples of ${length} tokens, seed ${settings.seed}, on ${flags.device}`,
  );
  const right = (accuracy: number | undefined): string => `${percent(accuracy ?? 0)} of the answers right`;
  const completed = await followRun(
    { model, data: taskData(task), settings, folder: flags.out, resume: flags.resume },
    flags,
    {
      quality: ({ loss, measures }) =>
        `loss ${loss.toFixed(4)} nats/answer, ${right(measures?.accuracy)} on held-out examples`,
      result: ({ measures }) => right(measures?.accuracy),
      made: 'model',
      next: heddleCall('info', flags.out),
      unit: 'tokens',
    },
  );
  if (!completed || flags.examples === 0) return;
  const device = await openDevice(flags.device, deviceOptionsOf(flags));
  const { weights } = await openModel(join(flags.out, CHECKPOINT));
  const rows = [['tokens', 'accuracy', 'chance', 'published']];
  for (const tested of new Set([length, ...task.lengths.test])) {
    const accuracy = await accuracyOf(task, model, weights, device, {
      length: tested,
      count: flags.examples,
      seed: settings.seed,
    });
    const published = task.reference ? `${percent(task.reference.accuracy)} (${task.reference.of})` : '-';
    rows.push([tested.toLocaleString('en'), percent(accuracy), percent(task.chance), published]);
    say(
      `tested      ${flags.examples} examples of ${tested.toLocaleString('en')} tokens: ${percent(accuracy)}`,
    );
  }
  process.stdout.write(`${table(rows)}\n`);
  await device.dispose();
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.001 ? 3 : 1)} %`;
}
