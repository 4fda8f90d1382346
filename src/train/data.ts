/**
 * The interface between the trainer and its data: the inputs of an example, the source of examples, and the loss. The trainer knows nothing else
 * about data, so that texts, series, images and synthetic tasks are trained by the same code.
 */
import { sha256 } from '#platform';
import { hostZeros, type StateSpec, type TensorData } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { cast, type Dim, type DType, dimension, fill, multiplyDims, type Tensor } from '../graph/index.js';
import type { Model } from '../models/index.js';
import type { ParameterRegistry, StateTensors } from '../nn/index.js';
import type { Keep, TrainingSettings } from './settings.js';

/** An input of the loss, for one example: tokens int64 [sequence + 1], or pixels float32 [height, width, channels]. */
export interface ExampleInput {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Examples by index. The same index always gives the same example, so that a resumed run sees the same data. */
export interface Examples {
  /** Examples `first` to `first + count - 1`: values [count, ...shape] by input name, flat. */
  take(first: number, count: number): Readonly<Record<string, TensorData>>;
}

/** A fixed number of examples. */
export interface FiniteExamples extends Examples {
  readonly count: number;
}

/** Sums over a batch, each a float32 scalar. */
export interface BatchLoss {
  /** The sum of the losses, in nats. */
  readonly total: Tensor;
  /** The number of losses. */
  readonly count: Tensor;
  /** Further measures of evaluation, as sums over the same `count`: `accuracy` is the number of correct answers. */
  readonly measures?: Readonly<Record<string, Tensor>>;
  /** The model's outputs, for distillation. */
  readonly inside?: {
    /** [rows, vocabulary] */
    readonly logits: Tensor;
    /** float32 [rows]: whether a row has a target, if not all have. */
    readonly counted?: Tensor;
    /** The residual stream: the embeddings, then the output of each layer. */
    readonly residuals: readonly Tensor[];
  };
}

/** A training objective: the inputs of an example, and the loss. */
export interface Objective {
  readonly inputs: readonly ExampleInput[];
  /** States that each row carries to the same row of the next batch, with `batch` as the first axis, without gradients. */
  readonly memory?: readonly StateSpec[];
  /** The losses of a batch of examples; `inputs` are [batch, ...shape] by name, and `memory` the carried states. */
  loss(
    model: Model,
    registry: ParameterRegistry,
    inputs: Readonly<Record<string, Tensor>>,
    memory?: StateTensors,
  ): BatchLoss & { readonly memory?: StateTensors };
}

/** The examples and the objective of a run. */
export interface TrainingData {
  readonly objective: Objective;
  /** An infinite series of examples, which repeats or generates them. */
  readonly training: Examples;
  readonly validation: FiniteExamples;
  /** Initial values of parameters of a new model, by name, instead of random ones. */
  initial?(): ReadonlyMap<string, Float32Array>;
  /** The weights that a run leaves, unless its settings say it; by default those of the last step. */
  readonly keep?: Keep;
  /** What must be equal in a resumed run, by a readable name: for example digests of the data. */
  readonly identity: Readonly<Record<string, string | number>>;
}

/** Builds the data for a model and settings. Throws `DataError` if they do not fit each other. */
export type DataSource = (model: Model, settings: TrainingSettings) => TrainingData;

/** The number of elements of these dimensions, as a float32 scalar. */
export function elements(dims: readonly Dim[]): Tensor {
  const count = multiplyDims(dims);
  return typeof count === 'number' ? fill([], count) : cast(dimension(count), 'float32');
}

/** Concatenates the values of several examples, by input name. */
export function batched(
  inputs: readonly ExampleInput[],
  examples: readonly Readonly<Record<string, TensorData>>[],
): Record<string, TensorData> {
  const all = inputs.map(({ name, dtype, shape }) => {
    const { data } = hostZeros(dtype, [examples.length, ...shape]);
    const size = data.length / examples.length;
    // All have the type of the input.
    for (const [i, each] of examples.entries()) data.set(each[name] as never, i * size);
    return [name, data] as const;
  });
  return Object.fromEntries(all);
}

/** The key `input` of a model's config. Throws `ConfigError` for a model of another kind. */
export function inputConfigOf<T extends { kind: string }>(model: Model, kind: T['kind']): T {
  const config = (model.json as { input?: T }).input;
  if (config?.kind !== kind) throw new ConfigError(`this is no model of ${kind}`);
  return config;
}

/** The SHA-256 of the bytes of these values, in hexadecimal. */
export function digestOf(values: Int32Array | Float32Array): string {
  return digestOfAll([values]);
}

/** The SHA-256 of the concatenation of several arrays. */
export function digestOfAll(parts: Iterable<Int32Array | Float32Array>): string {
  const hash = sha256();
  for (const { buffer, byteOffset, byteLength } of parts)
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest('hex');
}
