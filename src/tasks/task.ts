/**
 * Tasks compare designs: each has a name, data, a metric, the score of guessing, and a published score. A task is
 * prepared before a model is trained on it: then its data is there, and it says what a model of it reads, what it learns from, and how
 * well it does.
 */
import type { Device, Program } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import type { ModalityConfig, Model } from '../models/index.js';
import type { DataSource } from '../train/index.js';

/** What a score is: a share of right answers, or an error. */
export interface Measure {
  readonly name: 'accuracy' | 'bits/byte' | 'squared error' | 'chrF' | 'area under ROC';
  readonly better: 'more' | 'less';
}

/** The share of right answers. */
export const ACCURACY: Measure = { name: 'accuracy', better: 'more' };

/** A score for a person: `98.8 %`, `0.0123`. */
export function scoreText({ name }: Measure, score: number): string {
  if (name !== 'accuracy') return String(Number(score.toPrecision(3)));
  return `${(100 * score).toFixed(score > 0 && score < 0.001 ? 3 : 1)} %`;
}

/** Throws `ConfigError` where examples of another length are asked for than the only one that a task has. */
export function expectOwnLength(name: string, own: number, length = own): void {
  if (length === own) return;
  throw new ConfigError(
    `${name} has examples of ${own} positions, and ${length} were asked for: leave the length out`,
  );
}

/** A task: its data, its metric, and the score of guessing. */
export interface Task {
  readonly name: string;
  /** What is asked, in a line for a person. */
  readonly about: string;
  /** Whose task it is, or where its data comes from. */
  readonly source: string;
  readonly measure: Measure;
  /** The score of somebody who guesses as well as can be without reading. */
  readonly chance?: number;
  /** Positions that an example has when a model is trained, and when it is tested. */
  readonly lengths: { readonly train: number; readonly test: readonly number[] };
  /** A score that others published, and for what. */
  readonly reference?: { readonly score: number; readonly of: string };
  /**
   * The task with its data at hand, in examples of `length` positions (the task's own by default). Throws `DataError` for data that is
   * not there, with what brings it, and `ConfigError` for a length without room, or another one than a task has alone.
   */
  prepare(length?: number): Promise<PreparedTask>;
}

/** A task with its data at hand: what a model of it reads, learns from, and is scored by. */
export interface PreparedTask {
  /** What a model of it reads: tokens below a number, or what the `input` of a config says. */
  readonly reads: { readonly vocabulary: number } | ModalityConfig;
  /** Positions of a training example. */
  readonly sequence: number;
  readonly data: DataSource;
  /** What simple methods reach, by their names. */
  readonly baselines?: Readonly<Record<string, number>>;
  /** Scores on held-out data, one after the other, each with a label such as `65,536 tokens`. */
  score(trained: Trained, options: ScoreOptions): AsyncIterable<Score>;
}

/** A trained model on its device, ready to be scored. */
export interface Trained {
  readonly model: Model;
  readonly weights: NonNullable<Program['weights']>;
  readonly device: Device;
}

/** How thoroughly a model is scored. */
export interface ScoreOptions {
  /** Examples of each kind, where a task makes them. */
  readonly count: number;
  readonly seed: number;
  /** The longest examples that are tested. */
  readonly longest?: number;
}

/** A score with its label. */
export interface Score {
  readonly of: string;
  readonly value: number;
  /** Of a share of right answers: how many there were. */
  readonly answers?: number;
}
