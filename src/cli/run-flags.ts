/** What every training run is told on the command line. */
import { type Command, Option } from 'commander';
import { positive } from '../bench/positive.js';
import type { DeviceName, DeviceOptions } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import type { Precision } from '../graph/index.js';
import type { Design, ImageDesign, Size } from '../models/index.js';
import { TRAINING_DEFAULTS, type TrainingSettings } from '../train/index.js';
import { compilingLine, deviceOption, precisionOption, threadsOption } from './loading-options.js';

export interface RunFlags {
  out: string;
  design: Design | ImageDesign;
  size: Size;
  config?: string;
  steps: number;
  batch: number;
  sequence?: number;
  accumulate: number;
  learningRate?: number;
  rate?: Record<string, number>;
  warmup: number;
  seed: number;
  evaluateEvery: number;
  saveEvery: number;
  device: DeviceName;
  threads?: number;
  precision?: Precision;
  devices?: number;
  shard?: 'data' | 'full';
  deterministic: boolean;
  resume: boolean;
}

/** The flags that are about the device. */
export type DeviceFlags = Pick<
  RunFlags,
  'device' | 'threads' | 'precision' | 'devices' | 'shard' | 'deterministic' | 'batch'
>;

/** The options behind these flags. */
export function addDeviceFlags(command: Command): Command {
  return command
    .addOption(deviceOption())
    .addOption(threadsOption())
    .addOption(precisionOption())
    .option('--devices <n>', 'GPUs that cuda trains on as one (default: 1)', positive)
    .addOption(
      new Option(
        '--shard <what>',
        "what several GPUs share: the batch (data), or parameters and the optimizer's moments too (full)",
      ).choices(['data', 'full']),
    )
    .option('--deterministic', 'the same bits in every run on cuda, at the cost of speed', false);
}

/** How the device is opened. Throws `ConfigError` for GPUs that cannot share a batch. */
export function deviceOptionsOf(flags: DeviceFlags): DeviceOptions {
  const { threads, precision, devices, shard, deterministic, batch } = flags;
  if (devices !== undefined && batch % devices !== 0) {
    throw new ConfigError(
      `--batch ${batch} cannot be shared by ${devices} GPUs: give a multiple of ${devices}`,
    );
  }
  return {
    ...(threads !== undefined && { threads }),
    ...(precision !== undefined && { precision }),
    ...(devices !== undefined && { devices }),
    ...(shard !== undefined && { shard }),
    deterministic,
    onCompile: compilingLine(),
  };
}

/** The settings that these flags stand for, with a learning rate for those who say none. */
export function settingsOf(flags: RunFlags, sequence: number, defaultRate: number): TrainingSettings {
  return {
    ...TRAINING_DEFAULTS,
    steps: flags.steps,
    batch: flags.batch,
    sequence,
    accumulate: flags.accumulate,
    learningRate: flags.learningRate ?? defaultRate,
    warmupSteps: flags.warmup,
    seed: flags.seed,
    evaluateEvery: flags.evaluateEvery,
    saveEvery: flags.saveEvery,
    ...(flags.rate && { rates: flags.rate }),
  };
}
