/**
 * What a run learns: how one example looks, where examples come from, and how wrong a model is about them. The trainer
 * knows nothing else of its data, so that texts, series, images and made-up tasks are trained by the same code.
 */
import { sha256 } from '#platform';
import { hostZeros, type StateSpec, type TensorData } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { cast, type Dim, type DType, dimension, fill, multiplyDims, type Tensor } from '../graph/index.js';
import type { Model } from '../models/index.js';
import type { ParameterRegistry, StateTensors } from '../nn/index.js';
import type { TrainingSettings } from './settings.js';

/** An input of the loss, for one example: tokens int64 [sequence + 1], or pixels float32 [height, width, channels]. */
export interface ExampleInput {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Examples by their number. The same number is always the same example, so that a resumed run sees what it would have seen. */
export interface Examples {
  /** Examples `first` to `first + count - 1`, as values [count, ...shape] by the input's name, flat. */
  take(first: number, count: number): Readonly<Record<string, TensorData>>;
}

/** A fixed number of examples. */
export interface FiniteExamples extends Examples {
  readonly count: number;
}

/** Sums over a batch, each a float32 scalar. */
export interface BatchLoss {
  /** Of the losses, in nats. */
  readonly total: Tensor;
  /** How many losses there are. */
  readonly count: Tensor;
  /** What evaluation tells beside the loss, as sums over the same `count`: `accuracy` is how many answers were right. */
  readonly measures?: Readonly<Record<string, Tensor>>;
  /** What tokens are said from, for whoever compares two models. */
  readonly inside?: {
    /** [rows, vocabulary] */
    readonly logits: Tensor;
    /** Whether there is something to say, float32 [rows], where that is not so for all. */
    readonly counted?: Tensor;
    /** The residual stream: the embeddings, then what each layer leaves. */
    readonly residuals: readonly Tensor[];
  };
}

/** What a model is trained for: what an example consists of, and its loss. */
export interface Objective {
  readonly inputs: readonly ExampleInput[];
  /** What each row of a batch leaves to the same row of the next one, with `batch` as the first axis: gradients end there. */
  readonly memory?: readonly StateSpec[];
  /** The losses of a batch of examples; `inputs` are [batch, ...shape] by name, and `memory` what the batch before left. */
  loss(
    model: Model,
    registry: ParameterRegistry,
    inputs: Readonly<Record<string, Tensor>>,
    memory?: StateTensors,
  ): BatchLoss & { readonly memory?: StateTensors };
}

/** The examples of a run, and what is learned from them. */
export interface TrainingData {
  readonly objective: Objective;
  /** Without end: after the last example the first comes again, or a new one is made. */
  readonly training: Examples;
  readonly validation: FiniteExamples;
  /** What parameters of a new model begin with in the place of random numbers, by their names. */
  initial?(): ReadonlyMap<string, Float32Array>;
  /** What a resumed run must find the same, by its name for a person: digests of the data, say. */
  readonly identity: Readonly<Record<string, string | number>>;
}

/** Data for a model that is trained in a certain way. Throws `DataError` where they do not fit each other. */
export type DataSource = (model: Model, settings: TrainingSettings) => TrainingData;

/** How many elements these dimensions have, as a float32 scalar. */
export function elements(dims: readonly Dim[]): Tensor {
  const count = multiplyDims(dims);
  return typeof count === 'number' ? fill([], count) : cast(dimension(count), 'float32');
}

/** Values of several examples one after the other, by the inputs' names. */
export function batched(
  inputs: readonly ExampleInput[],
  examples: readonly Readonly<Record<string, TensorData>>[],
): Record<string, TensorData> {
  const all = inputs.map(({ name, dtype, shape }) => {
    const { data } = hostZeros(dtype, [examples.length, ...shape]);
    const size = data.length / examples.length;
    // All are of the type of the input.
    for (const [i, each] of examples.entries()) data.set(each[name] as never, i * size);
    return [name, data] as const;
  });
  return Object.fromEntries(all);
}

/** What the config of a model of something other than text says of its input. Throws `ConfigError` for a model of another kind. */
export function inputConfigOf<T extends { kind: string }>(model: Model, kind: T['kind']): T {
  const config = (model.json as { input?: T }).input;
  if (config?.kind !== kind) throw new ConfigError(`this is no model of ${kind}`);
  return config;
}

/** SHA-256 of the bytes of these values, in hexadecimal digits. */
export function digestOf(values: Int32Array | Float32Array): string {
  return digestOfAll([values]);
}

/** The same of several arrays, one after the other. */
export function digestOfAll(parts: Iterable<Int32Array | Float32Array>): string {
  const hash = sha256();
  for (const { buffer, byteOffset, byteLength } of parts)
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest('hex');
}
