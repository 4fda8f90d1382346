/** The common options of training runs. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { positive } from '../bench/positive.js';
import { parseJson } from '../checkpoint/index.js';
import type { DeviceName, DeviceOptions, ProcessOptions } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import type { Precision } from '../graph/index.js';
import type { Design, ImageDesign, Size, SourceDesign } from '../models/index.js';
import {
  ADAMW_DEFAULTS,
  KEEPS,
  type Keep,
  MUON_DEFAULTS,
  parsePhases,
  stepsOf,
  TRAINING_DEFAULTS,
  type TrainingPhase,
  type TrainingSettings,
} from '../train/index.js';
import { byLetter } from './by-letter.js';
import { compilingLine, expectPrecision, threadsOption, trainingDeviceOption } from './loading-options.js';
import { readNamedFile } from './named-file.js';
import { number, wholeNumber } from './options.js';

/** The options of a training run. */
export interface RunFlags {
  out: string;
  design: Design | ImageDesign | SourceDesign;
  size: Size;
  config?: string;
  steps: number;
  batch: number;
  sequence?: number;
  accumulate: number;
  learningRate?: number;
  optimizer: 'adamw' | 'muon';
  average?: number;
  keep?: Keep;
  rate?: Record<string, number>;
  phases?: TrainingPhase[];
  warmup: number;
  seed: number;
  evaluateEvery: number;
  saveEvery: number;
  device: DeviceName;
  threads?: number;
  precision?: Precisions;
  devices?: number;
  shard?: 'data' | 'full';
  process?: number;
  processes?: number;
  coordinator?: string;
  deterministic: boolean;
  resume: boolean;
}

/** The precision of products: of all layers, and of layers of some letters. */
export interface Precisions {
  readonly all?: Precision;
  readonly layers?: Readonly<Record<string, Precision>>;
}

/** `float32`, `*=float32`, or both in one list. Throws `InvalidArgumentError` for anything else. */
export function precisionsFrom(text: string): Precisions {
  const { all, layers } = byLetter(text) ?? { layers: {} };
  const isPrecision = (value: string): value is Precision => value === 'bfloat16' || value === 'float32';
  const ofLayers = Object.entries(layers);
  const given = [...(all === undefined ? [] : [all]), ...Object.values(layers)];
  if (given.length === 0 || !given.every(isPrecision)) {
    throw new InvalidArgumentError(
      'expected bfloat16 or float32, and those of letters as in bfloat16,S=float32.',
    );
  }
  return {
    ...(all !== undefined && { all: all as Precision }),
    ...(ofLayers.length > 0 && { layers: layers as Record<string, Precision> }),
  };
}

/** `--optimizer`: the optimizer for the matrices of layers. */
export function optimizerOption(): Option {
  return new Option(
    '--optimizer <name>',
    'optimizer for the matrices of layers; all other parameters use adamw',
  )
    .choices(['adamw', 'muon'])
    .default('adamw');
}

/** `--average`: the average of the weights over the steps. */
export function averageOption(): Option {
  return new Option(
    '--average <decay>',
    'evaluate and save an average of the weights over the steps, with this decay, as in 0.999',
  ).argParser(number);
}

/** `--keep`: which weights the run leaves. */
export function keepOption(): Option {
  return new Option(
    '--keep <which>',
    'the weights that the run leaves: of the last step, or of the evaluation with the best validation loss, the start included (default: best for forecasters, otherwise last)',
  ).choices(KEEPS);
}

/** The options of the device. */
export type DeviceFlags = Pick<
  RunFlags,
  | 'device'
  | 'threads'
  | 'precision'
  | 'devices'
  | 'shard'
  | 'process'
  | 'processes'
  | 'coordinator'
  | 'deterministic'
  | 'batch'
>;

/** The options behind these flags. */
export function addDeviceFlags(command: Command): Command {
  return command
    .addOption(trainingDeviceOption())
    .addOption(threadsOption())
    .addOption(
      new Option(
        '--precision <type>',
        'in which cuda computes products (default: bfloat16), and those of the layers of a letter, as in bfloat16,S=float32',
      ).argParser(precisionsFrom),
    )
    .option('--devices <n>', 'GPUs that cuda trains on as one (default: 1)', positive)
    .addOption(
      new Option(
        '--shard <what>',
        "what several GPUs share: the batch (data), or parameters and the optimizer's moments too (full)",
      ).choices(['data', 'full']),
    )
    .option('--deterministic', 'the same bits in every run on cuda, at the cost of speed', false);
}

/** The options that make a process one of several which train together. */
export function addGroupFlags(command: Command): Command {
  return command
    .option(
      '--processes <n>',
      'processes that cuda trains in together, on one machine or several, each on --devices GPUs',
      positive,
    )
    .option('--process <i>', 'the number of this one, from 0: the first writes the files', wholeNumber)
    .option(
      '--coordinator <url>',
      'the Valkey or Redis where the processes meet: redis://host:6379, with #name where several runs meet there',
    );
}

/** `--phases`: a run in parts, said in JSON or in a file of it. */
export function phasesOption(): Option {
  return new Option(
    '--phases <list>',
    'the run in parts, one after the other: a list in JSON, or a file with one, as in [{"steps": 200, "sequence": 64}, {"steps": 300}]; a part may have a batch, accumulate and rates of its own',
  )
    .argParser((text): TrainingPhase[] => {
      const isList = text.trimStart().startsWith('[');
      const source = isList ? '--phases' : text;
      return parsePhases(parseJson(isList ? text : readNamedFile(text)), source);
    })
    .conflicts('steps');
}

/** The options of `openDevice`. Throws `ConfigError` for what the device does not have, for GPUs that do not divide a batch, and for incomplete options of a group of processes. */
export function deviceOptionsOf(flags: DeviceFlags): DeviceOptions {
  const { threads, precision, devices, shard, deterministic, batch } = flags;
  const group = groupOf(flags);
  expectPrecision(precision?.all, flags.device);
  if (flags.device !== 'cuda' && ((devices ?? 1) > 1 || shard !== undefined))
    throw new ConfigError(
      `--devices and --shard share the work among GPUs on --device cuda, and the device is ${flags.device}`,
    );
  const gpus = (devices ?? 1) * (group?.processes ?? 1);
  if (batch % gpus !== 0) {
    throw new ConfigError(`--batch ${batch} cannot be shared by ${gpus} GPUs: give a multiple of ${gpus}`);
  }
  return {
    ...(group && { group }),
    ...(threads !== undefined && { threads }),
    ...(precision?.all !== undefined && { precision: precision.all }),
    ...(devices !== undefined && { devices }),
    ...(shard !== undefined && { shard }),
    deterministic,
    onCompile: compilingLine(),
  };
}

/** The group of processes that these flags name, if any. */
function groupOf({ device, process, processes, coordinator }: DeviceFlags): ProcessOptions | undefined {
  const given = [process, processes, coordinator].filter((value) => value !== undefined).length;
  if (given === 0) return undefined;
  if (process === undefined || processes === undefined || coordinator === undefined)
    throw new ConfigError(
      'processes that train together need all three of --processes, --process and --coordinator',
    );
  if (device !== 'cuda')
    throw new ConfigError(`processes train together on --device cuda, and the device is ${device}`);
  if (process >= processes)
    throw new ConfigError(
      `--process ${process} is none of ${processes} processes: they are numbered from 0 to ${processes - 1}`,
    );
  return { process, processes, coordinator };
}

/** The training settings of these options, with a default learning rate. */
export function settingsOf(flags: RunFlags, sequence: number, defaultRate: number): TrainingSettings {
  return {
    ...TRAINING_DEFAULTS,
    steps: flags.phases ? stepsOf(flags.phases) : flags.steps,
    batch: flags.batch,
    sequence,
    accumulate: flags.accumulate,
    learningRate: flags.learningRate ?? defaultRate,
    warmupSteps: flags.warmup,
    optimizer: {
      ...(flags.optimizer === 'muon' ? MUON_DEFAULTS : ADAMW_DEFAULTS),
      ...(flags.average !== undefined && { averageDecay: flags.average }),
    },
    seed: flags.seed,
    evaluateEvery: flags.evaluateEvery,
    saveEvery: flags.saveEvery,
    ...(flags.rate && { rates: flags.rate }),
    ...(flags.keep && { keep: flags.keep }),
    ...(flags.phases && { phases: flags.phases }),
    ...(flags.precision?.layers && { precisions: flags.precision.layers }),
  };
}
