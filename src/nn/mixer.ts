/**
 * What mixes along the sequence. One function serves training (no state), prefill (many tokens) and decoding (one
 * token), and the state that it carries is declared: memory estimates, saving, batching and inspection read that
 * declaration.
 */
import type { StateSpec as EngineStateSpec } from '../engine/index.js';
import { DTYPES, type Tensor } from '../graph/index.js';
import type { Parameters } from './parameters.js';
import type { Observe } from './sight.js';

export interface StateSpec extends EngineStateSpec {
  /**
   * Where a run that writes leaves it as it is until the end: what is kept beside it instead, by names after its own. Shapes
   * may have `steps`, the tokens that a run may write.
   */
  readonly deferred?: readonly StateSpec[];
}

export type State = Readonly<Record<string, Tensor>>;

export interface MixerContext {
  /** What was kept from the tokens before x; absent when x is the whole sequence. */
  readonly state?: State | undefined;
  /** int64 [], or [batch] where they differ: how many tokens came before x. */
  readonly position: Tensor;
  /**
   * float32 [batch or 1, 1, 1, room]: `heldBias` of the growing states. By default each row holds the `position` entries that
   * come first.
   */
  readonly held?: Tensor | undefined;
  /**
   * What came after the state: entries of growing states, by the states' names, with one before them that is empty; and
   * the parts of deferred ones.
   */
  readonly recent?: State | undefined;
  /** int64 []: how many steps came before, where there is something recent. */
  readonly step?: Tensor | undefined;
  /**
   * Whether attention takes all heads at once, over a memory too. One after the other takes less memory, but is a loop, which
   * ONNX Runtime runs on the CPU: on a GPU its values go to and fro.
   */
  readonly headsAtOnce?: boolean | undefined;
  /** The embeddings of x's tokens [batch, sequence, hidden], in a model: some layers read them again. */
  readonly embeddings?: Tensor | undefined;
  /** Told what is inside, where somebody looks. */
  readonly observe?: Observe | undefined;
}

export interface MixerResult {
  /** [batch, sequence, hidden] */
  readonly output: Tensor;
  /**
   * Where a state was given: for each declared one its new value, or, if it grows, the entries to append, or, if its parts
   * were given, those.
   */
  readonly state: State;
}

export interface Mixer {
  readonly state: readonly StateSpec[];
  /** Mixes x [batch, sequence, hidden]. */
  forward(parameters: Parameters, x: Tensor, context: MixerContext): MixerResult;
}

/** The names in `MixerContext.recent` that belong to a state. */
export function recentNames({ name, grows, deferred }: StateSpec): string[] {
  if (grows !== undefined) return [name];
  return deferred?.map((part) => `${name}.${part.name}`) ?? [];
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
