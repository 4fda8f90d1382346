/**
 * What mixes along the sequence. One function serves training (no state), prefill (many tokens) and decoding (one
 * token), and the state that it carries is declared: memory estimates, saving, batching and inspection read that
 * declaration.
 */
import type { StateSpec } from '../engine/index.js';
import { DTYPES, type Tensor } from '../graph/index.js';
import type { Parameters } from './parameters.js';
import type { Observe } from './sight.js';

export type { StateSpec } from '../engine/index.js';

/** States by their names. */
export type StateTensors = Readonly<Record<string, Tensor>>;

/** What a mixer is given beside x. */
export interface MixerContext {
  /** What was kept from the tokens before x; absent when x is the whole sequence. */
  readonly state?: StateTensors | undefined;
  /** int64 [], or [batch] where they differ: how many tokens came before x. */
  readonly position: Tensor;
  /** int64 [batch]: how many entries each row's growing states hold, `position` by default. */
  readonly lengths?: Tensor | undefined;
  /** What is read of new entries of growing states: they as they will be kept. All of them, without it. */
  readonly entries?: ((kept: Tensor) => Tensor) | undefined;
  /**
   * int64 [batch, sequence]: which document of its row each token is of, 0 for that of the state, then 1, 2, ... A token learns nothing
   * of other documents, and what is kept is of the last one. All of one document, without it.
   */
  readonly documents?: Tensor | undefined;
  /** The embeddings of x's tokens [batch, sequence, hidden], in a model: some layers read them again. */
  readonly embeddings?: Tensor | undefined;
  /** What layers leave to later ones, about the tokens of x, in a model: by a name that they agree on. */
  readonly carried?: Map<string, Tensor> | undefined;
  /** Told what is inside, where somebody looks. */
  readonly observe?: Observe | undefined;
}

/** What a mixer returns. */
export interface MixerResult {
  /** [batch, sequence, hidden] */
  readonly output: Tensor;
  /** Where a state was given: for each declared one its new value, or, if it grows, the entries to append. */
  readonly state: StateTensors;
}

/** A layer along the sequence: one function for training, prefill and decoding, and the state that it declares. */
export interface Mixer {
  readonly state: readonly StateSpec[];
  /** Mixes x [batch, sequence, hidden]. */
  forward(parameters: Parameters, x: Tensor, context: MixerContext): MixerResult;
}

/** Bytes that a state takes for one sequence after `length` tokens. */
export function stateBytes(specs: readonly StateSpec[], length: number): number {
  return specs.reduce((total, { dtype, shape }) => {
    const size = shape.reduce<number>(
      (n, dim) => n * (dim === 'batch' ? 1 : dim === 'past' ? length : (dim as number)),
      1,
    );
    return total + size * DTYPES[dtype].bytes;
  }, 0);
}
