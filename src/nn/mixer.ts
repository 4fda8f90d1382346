/**
 * Mixers: layers along the sequence. One function serves training (no state), prefill (many tokens) and decoding (one token), and its state is
 * declared; memory estimates, saving, batching and inspection use that declaration.
 */
import type { StateSpec } from '../engine/index.js';
import { DTYPES, type Tensor } from '../graph/index.js';
import type { Parameters } from './parameters.js';
import type { Observe } from './sight.js';

export type { StateSpec } from '../engine/index.js';

/** States by their names. */
export type StateTensors = Readonly<Record<string, Tensor>>;

/** The context of a mixer's call. */
export interface MixerContext {
  /** The state after the tokens before x; absent if x is the whole sequence. */
  readonly state?: StateTensors | undefined;
  /** int64 [], or [batch] if rows differ: the number of tokens before x. */
  readonly position: Tensor;
  /** int64 [batch]: the number of entries of each row's growing states; `position` by default. */
  readonly lengths?: Tensor | undefined;
  /** Rounds new entries of growing states as the cache will store them. Absent for unquantized caches. */
  readonly entries?: ((kept: Tensor) => Tensor) | undefined;
  /**
   * int64 [batch, sequence]: the document of each token in packed rows: 0 for that of the state, then 1, 2, ... Tokens do not see other documents,
   * and the new state is that of the last one. Absent for a single document.
   */
  readonly documents?: Tensor | undefined;
  /** The embeddings of x's tokens [batch, sequence, hidden], which some layers read. */
  readonly embeddings?: Tensor | undefined;
  /** Values that layers pass on to later layers, by name. */
  readonly carried?: Map<string, Tensor> | undefined;
  /** Called with internal tensors, for inspection. */
  readonly observe?: Observe | undefined;
}

/** The result of a mixer. */
export interface MixerResult {
  /** [batch, sequence, hidden] */
  readonly output: Tensor;
  /** If a state was given: for each declared state its new value, or, if it grows, the entries to append. */
  readonly state: StateTensors;
}

/** A layer along the sequence: one function for training, prefill and decoding, and the state that it declares. */
export interface Mixer {
  readonly state: readonly StateSpec[];
  /** Mixes x [batch, sequence, hidden]. */
  forward(parameters: Parameters, x: Tensor, context: MixerContext): MixerResult;
}

/** The bytes of a state for one sequence after `length` tokens. */
export function stateBytes(specs: readonly StateSpec[], length: number): number {
  return specs.reduce((total, { dtype, shape }) => {
    const size = shape.reduce<number>(
      (n, dim) => n * (dim === 'batch' ? 1 : dim === 'past' ? length : (dim as number)),
      1,
    );
    return total + size * DTYPES[dtype].bytes;
  }, 0);
}
