/** `heddle train <folder>` with a subfolder for each class: trains a classifier. */
import { join } from 'node:path';
import type { Command } from 'commander';
import { heddleCall } from '../command-line.js';
import { ConfigError, DataError } from '../errors.js';
import {
  CHECKPOINT,
  countParameters,
  type ModalityConfig,
  type Model,
  parametersOf,
  readModel,
} from '../models/index.js';
import { Random } from '../nn/index.js';
import type { ClassFolder } from '../signals/index.js';
import { type DataSource, expectNoRun, type Labelled, TRAINING_DEFAULTS } from '../train/index.js';
import { followRun, say } from './follow-run.js';
import { formatCount } from './format.js';
import { type RunFlags, settingsOf } from './run-flags.js';
import { expectSameModel, signalDesign } from './signal-design.js';

/** The options of a classifier's run; `validation` is the held-out share. */
export interface ClassFlags extends RunFlags {
  validation: number;
}

/** The kind of examples, and how they are read. */
export interface ClassKind<T> {
  /** Their name in singular and plural. */
  readonly one: string;
  readonly many: string;
  /** The name of positions in plural. */
  readonly positions: string;
  /** Options of `train` that do not apply to them. */
  readonly without: readonly string[];
  /** Reads an example. Throws `DataError` with the path. Returned notices are printed. */
  readonly read: (path: string) => Promise<{ example: T; note?: string }>;
  /** Converts all examples to one form; returns the model's `input` and a one-line description. */
  readonly together: (
    examples: readonly Labelled<T>[],
    classes: string[],
  ) => { examples: readonly Labelled<T>[]; input: ModalityConfig; about: string };
  /** The positions of a training example. */
  readonly sequence: (model: Model, examples: readonly Labelled<T>[]) => number;
  readonly data: (training: readonly Labelled<T>[], validation: readonly Labelled<T>[]) => DataSource;
}

/** Trains a classifier on a folder that has a folder for each class. Throws `ConfigError` for options of other models. */
export async function trainClasses<T>(
  path: string,
  folder: ClassFolder,
  kind: ClassKind<T>,
  flags: ClassFlags,
  command: Command,
): Promise<void> {
  for (const key of [
    'from',
    'lora',
    'teacher',
    'tokenizer',
    'vocab',
    'ids',
    'documents',
    'channel',
    'horizon',
    'time',
    ...kind.without,
  ]) {
    if (command.getOptionValueSource(key) !== 'cli') continue;
    const option = command.options.find((each) => each.attributeName() === key)!.long;
    throw new ConfigError(
      `${option} does not go with ${kind.many}, and ${path} holds ${kind.many} by class: leave it out`,
    );
  }
  if (!flags.resume) await expectNoRun(flags.out);
  const { classes } = folder;
  const resumed = flags.resume ? await readModel(join(flags.out, CHECKPOINT)) : undefined;
  for (const each of folder.leftOut) say(`left out    ${each}`);
  const { examples, input, about } = kind.together(await readAll(folder, kind), [...classes]);
  const model = resumed ?? (await signalDesign(flags, command, input));
  const known = (model.json as { input?: { kind: string; classes?: string[] } }).input;
  if (known?.kind !== input.kind || known.classes?.join('\n') !== classes.join('\n')) {
    throw new ConfigError(
      `${flags.out} is of a run that tells other classes than ${path} has (${classes.join(', ')}): train into another folder`,
    );
  }
  if (resumed) {
    const patchOf = (of: object): unknown => (of as { patch?: unknown }).patch;
    await expectSameModel(resumed, flags, command, { patch: [patchOf(input), patchOf(known)] });
  }
  const { training, validation } = split(examples, classes, kind, flags);
  const alone = classes.filter((_, label) => validation.every((each) => each.label !== label));
  if (alone.length > 0)
    say(
      `not tested  ${listed(alone)}: of a class with one ${kind.one} alone nothing is held out, and the accuracy tells nothing of it`,
    );
  const sequence = flags.sequence ?? kind.sequence(model, examples);
  const settings = settingsOf(flags, sequence, TRAINING_DEFAULTS.learningRate);
  say(
    `${kind.many.padEnd(11)} ${examples.length} of ${classes.length} classes (${listed(classes)}), ${about}; ${validation.length} are held out`,
  );
  say(
    `model       ${model.pattern}, ${formatCount(countParameters(parametersOf(model)))} parameters; ${sequence} ${kind.positions} at once`,
  );
  const perStep = settings.batch * settings.accumulate;
  say(
    `run         ${settings.steps} steps of ${perStep} ${kind.many} (${((settings.steps * perStep) / training.length).toFixed(1)} epochs), seed ${settings.seed}, on ${flags.device}`,
  );
  await followRun(
    { model, data: kind.data(training, validation), settings, folder: flags.out, resume: flags.resume },
    flags,
    {
      quality: ({ loss, measures }) =>
        `validation loss ${loss.toFixed(4)} nats/${kind.one}, accuracy ${percent(measures)}`,
      result: ({ measures }) => `validation accuracy ${percent(measures)}`,
      made: 'model',
      next: heddleCall('classify', flags.out, folder.files[0]!.path),
      unit: kind.positions,
    },
  );
}

function percent(measures: Record<string, number> | undefined): string {
  return `${(100 * (measures?.accuracy ?? 0)).toFixed(1)} %`;
}

function listed(names: readonly string[]): string {
  return names.length <= 10
    ? names.join(', ')
    : `${names.slice(0, 10).join(', ')} and ${names.length - 10} more`;
}

/** All examples of a folder; broken files are reported and skipped. */
async function readAll<T>(
  { files, classes }: ClassFolder,
  { one, read }: ClassKind<T>,
): Promise<Labelled<T>[]> {
  const examples: Labelled<T>[] = [];
  const broken: { label: number; message: string }[] = [];
  for (const { path, label } of files) {
    try {
      const { example, note } = await read(path);
      if (note !== undefined) say(`note        ${path} ${note}`);
      examples.push({ example, label });
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      broken.push({ label, message: error.message });
      say(`left out    ${error.message}`);
    }
  }
  for (const [label, name] of classes.entries()) {
    if (examples.some((each) => each.label === label)) continue;
    throw new DataError(
      `of the class ${name} no ${one} can be read: ${broken.find((each) => each.label === label)!.message}`,
    );
  }
  return examples;
}

/** Holds out the same share of each class, determined by the seed; at least one example if there are several. */
function split<T>(
  examples: readonly Labelled<T>[],
  classes: readonly string[],
  { one }: ClassKind<T>,
  { validation: fraction, seed }: ClassFlags,
): Record<'training' | 'validation', Labelled<T>[]> {
  const random = new Random(seed);
  const training: Labelled<T>[] = [];
  const validation: Labelled<T>[] = [];
  for (const label of classes.keys()) {
    const own = examples.filter((each) => each.label === label);
    const held = Math.min(own.length - 1, Math.max(1, Math.round(own.length * fraction)));
    for (const [i, place] of random.permutation(own.length).entries())
      (i < held ? validation : training).push(own[place]!);
  }
  if (validation.length === 0)
    throw new DataError(`every class has one ${one} alone: nothing can be held out`);
  return { training, validation };
}
