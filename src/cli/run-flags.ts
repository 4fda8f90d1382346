/** What every training run is told on the command line. */
import type { DeviceName } from '../engine/index.js';
import type { Design, Size } from '../models/index.js';
import { TRAINING_DEFAULTS, type TrainingSettings } from '../train/index.js';

export interface RunFlags {
  out: string;
  design: Design;
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
  validation: number;
  device: DeviceName;
  threads?: number;
  resume: boolean;
}

/** The settings that these flags stand for. */
export function settingsOf(flags: RunFlags, sequence: number, learningRate: number): TrainingSettings {
  return {
    ...TRAINING_DEFAULTS,
    steps: flags.steps,
    batch: flags.batch,
    sequence,
    accumulate: flags.accumulate,
    learningRate,
    warmupSteps: flags.warmup,
    seed: flags.seed,
    evaluateEvery: flags.evaluateEvery,
    saveEvery: flags.saveEvery,
    ...(flags.rate && { rates: flags.rate }),
  };
}
