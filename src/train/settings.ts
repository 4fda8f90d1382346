/** The settings of training runs, their defaults and validation. */
import { expectObject } from '../arguments.js';
import { ConfigError } from '../errors.js';
import type { Precision } from '../graph/index.js';
import type { Model } from '../models/index.js';
import { ADAMW_DEFAULTS, type OptimizerConfig } from './optimizer.js';
import { parsePhases, stepsOf, type TrainingPhase } from './phases.js';

/** Which weights a run leaves. */
export const KEEPS = ['last', 'best'] as const;
/** One of them. */
export type Keep = (typeof KEEPS)[number];

/**
 * The settings of a run. A resumed run must have the same settings, except for the number of steps, how often it evaluates and saves, and which weights it
 * leaves.
 */
export interface TrainingSettings {
  steps: number;
  /** Sequences in a batch. */
  batch: number;
  /** Tokens in a sequence. */
  sequence: number;
  /** Batches a step. */
  accumulate: number;
  learningRate: number;
  warmupSteps: number;
  seed: number;
  /**
   * Steps between evaluations, and between checkpoints; 0 for only at the end. Small models take up to 8 steps in one run of the program; what is due
   * within them comes behind them.
   */
  evaluateEvery: number;
  saveEvery: number;
  optimizer: OptimizerConfig;
  /**
   * Factors of the learning rate by patterns of parameter names (`*` matches anything), or of layers by letter, as in `layer:S` (pattern.ts). The
   * last match decides; the default is 1. A parameter with 0 is frozen, and has no gradient and no moments.
   */
  rates?: Readonly<Record<string, number>>;
  /**
   * The precision of matrix products by layer letter, where it differs from the device's. Only `cuda` has several precisions; frozen matrices stay
   * in the device's precision.
   */
  precisions?: Readonly<Record<string, Precision>>;
  /**
   * The weights that the run leaves: those of its last step, or those of the evaluation with the least loss, the one before the first step included. Losses of one
   * phase are not comparable with those of another, so that in a run in phases only the evaluations of the last phase count. By default what the data say
   * (`TrainingData.keep`).
   */
  keep?: Keep;
  /** The phases of the run, whose steps add up to `steps`. */
  phases?: readonly TrainingPhase[];
}

/** The defaults. */
export const TRAINING_DEFAULTS: TrainingSettings = {
  steps: 1000,
  batch: 8,
  sequence: 256,
  accumulate: 1,
  learningRate: 2e-3,
  warmupSteps: 50,
  seed: 1,
  evaluateEvery: 100,
  saveEvery: 100,
  optimizer: ADAMW_DEFAULTS,
};

/** Default peak learning rates of fine-tuning: of the whole model, and of adapters. */
export const FINE_TUNING_RATES = { whole: 2e-4, lora: 1e-3 };

/** The default sequence length for models with a longer or unknown context. */
export function defaultSequence({ maxPositionEmbeddings }: Model): number {
  return Math.min(maxPositionEmbeddings ?? LONGEST_DEFAULT, LONGEST_DEFAULT);
}

const LONGEST_DEFAULT = 1024;

/** Throws `ConfigError` for an invalid number of tokens. */
export function checkSequence(sequence: number): void {
  if (!(Number.isInteger(sequence) && sequence >= 1))
    throw new ConfigError(`sequence is ${sequence}: expected a whole number, 1 or more`);
}

/** Throws `ConfigError` for a value outside its range. */
export function checkSettings(settings: TrainingSettings): void {
  expectObject(settings, 'the settings are', 'an object, such as TRAINING_DEFAULTS');
  const whole = (key: keyof TrainingSettings, least: number): void => {
    const value = settings[key] as number;
    if (!(Number.isSafeInteger(value) && value >= least))
      throw new ConfigError(`${key} is ${value}: expected a whole number, ${least} or more`);
  };
  for (const key of ['batch', 'sequence', 'accumulate'] as const) whole(key, 1);
  for (const key of ['steps', 'warmupSteps', 'seed', 'evaluateEvery', 'saveEvery'] as const) whole(key, 0);
  if (!(settings.learningRate > 0 && Number.isFinite(settings.learningRate)))
    throw new ConfigError(`learningRate is ${settings.learningRate}: expected more than 0`);
  const { muonMomentum, averageDecay } = settings.optimizer;
  if (muonMomentum !== undefined && !(muonMomentum >= 0 && muonMomentum < 1))
    throw new ConfigError(`muonMomentum is ${muonMomentum}: expected 0 or more, and less than 1`);
  if (averageDecay !== undefined && !(averageDecay > 0 && averageDecay < 1))
    throw new ConfigError(`averageDecay is ${averageDecay}: expected more than 0, and less than 1`);
  const { keep, phases } = settings;
  if (keep !== undefined && !KEEPS.includes(keep))
    throw new ConfigError(`keep is ${keep}: expected ${KEEPS.join(' or ')}`);
  if (phases) {
    parsePhases(phases, 'settings.phases');
    if (stepsOf(phases) !== settings.steps)
      throw new ConfigError(
        `the phases have ${stepsOf(phases)} steps together, and the run ${settings.steps}: make them the same`,
      );
  }
  for (const [pattern, factor] of Object.entries(settings.rates ?? {})) {
    if (!(factor >= 0 && Number.isFinite(factor)))
      throw new ConfigError(`the learning rate's factor of ${pattern} is ${factor}: expected 0 or more`);
  }
}
