/**
 * Tasks compare designs: each has a name, data, a metric, the chance level, and a published score. A task is
 * prepared before a model is trained on it: this loads the data, and returns the model's input, the training data
 * and the scoring function.
 */
import type { Device, Program } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import type { ModalityConfig, Model } from '../models/index.js';
import type { DataSource } from '../train/index.js';

/** The kind of a score, and whether more or less is better. */
export interface Measure {
  readonly name: 'accuracy' | 'bits/byte' | 'squared error' | 'chrF' | 'area under ROC';
  readonly better: 'more' | 'less';
}

/** The share of correct answers. */
export const ACCURACY: Measure = { name: 'accuracy', better: 'more' };

/** Formats a score: `98.8 %`, `0.0123`. */
export function scoreText({ name }: Measure, score: number): string {
  if (name !== 'accuracy') return String(Number(score.toPrecision(3)));
  return `${(100 * score).toFixed(score > 0 && score < 0.001 ? 3 : 1)} %`;
}

/** Throws `ConfigError` if another length is requested for a task with a single length. */
export function expectOwnLength(name: string, own: number, length = own): void {
  if (length === own) return;
  throw new ConfigError(
    `${name} has examples of ${own} positions, and ${length} were asked for: leave the length out`,
  );
}

/** A task: its data, its metric, and the score of guessing. */
export interface Task {
  readonly name: string;
  /** A one-line description. */
  readonly about: string;
  /** The publication of the task, or the source of its data. */
  readonly source: string;
  readonly measure: Measure;
  /** The chance level: the best score without reading the input. */
  readonly chance?: number;
  /** Lengths of examples in positions, for training and tests, and their unit: `tokens` by default. */
  readonly lengths: {
    readonly train: number;
    readonly test: readonly number[];
    readonly unit?: string;
    /** Of `test`, where it differs. */
    readonly testUnit?: string;
  };
  /** A published score, and what it was measured on. */
  readonly reference?: { readonly score: number; readonly of: string };
  /**
   * Loads the data, for examples of `length` positions (default: the task's own). Throws `DataError` if the data are not
   * installed, with the command that installs them, and `ConfigError` for a length that the task does not support.
   */
  prepare(length?: number): Promise<PreparedTask>;
}

/** A task with its data loaded. */
export interface PreparedTask {
  /** The model's input: tokens of a vocabulary, or the `input` of a config. */
  readonly reads: { readonly vocabulary: number } | ModalityConfig;
  /** Length of a training example in positions. */
  readonly sequence: number;
  readonly data: DataSource;
  /** Scores of simple methods by name. */
  readonly baselines?: Readonly<Record<string, number>>;
  /** Yields scores on held-out data, each with a label such as `65,536 tokens`. */
  score(trained: Trained, options: ScoreOptions): AsyncIterable<Score>;
}

/** A trained model on its device, ready to be scored. */
export interface Trained {
  readonly model: Model;
  readonly weights: NonNullable<Program['weights']>;
  readonly device: Device;
}

/** Options of scoring. */
export interface ScoreOptions {
  /** Number of examples of each kind, for generated examples. */
  readonly count: number;
  readonly seed: number;
  /** The largest length to test. */
  readonly longest?: number;
}

/** A score with its label. */
export interface Score {
  readonly of: string;
  readonly value: number;
  /** For an accuracy: the number of answers. */
  readonly answers?: number;
}
