/**
 * What a model is of, where that is not text: how it comes in, and what the model says about it. The layers between are
 * the same. A modality keeps a state as a mixer does, so that a stream can be read piece by piece.
 */
import type { Dim, DType, Tensor } from '../../graph/index.js';
import type { Grid, Parameters, StateSpec, StateTensors } from '../../nn/index.js';

/** An input that a modality's graph reads, without the batch axis. */
export interface ModalityInput {
  readonly name: string;
  readonly dtype: DType;
  /** Of one row of a batch; `sequence` stands for any number of positions. */
  readonly shape: readonly Dim[];
}

/** What the input layer of a modality makes of its inputs. */
export interface Entered {
  /** Where the residual stream begins: [batch, positions, hidden]. */
  readonly stream: Tensor;
  /** As a mixer's: the new values, where a state was given. */
  readonly state: StateTensors;
  /** What `leave` needs of it, by name. */
  readonly kept: Readonly<Record<string, Tensor>>;
}

/** How what is no text comes in. */
export interface Entering {
  /** What one calls it: `series`, `images`. */
  readonly kind: string;
  /** What it reads, and says of it, in a line for a person. */
  readonly about: string;
  readonly inputs: readonly ModalityInput[];
  /** Of a stream, which is read piece by piece; none by default. */
  readonly state?: readonly StateSpec[];
  /** Rows and columns of the positions, where they are places of an image. */
  readonly grid?: Grid | undefined;
  /** `inputs` are [batch, ...shape] by name; `state` is what was kept of the positions before. */
  enter(parameters: Parameters, inputs: Readonly<Record<string, Tensor>>, state?: StateTensors): Entered;
}

/** Both ends of a model of something other than text: its input layer, its head, and the state of both. */
export interface Modality extends Entering {
  readonly state: readonly StateSpec[];
  /** hidden [batch, positions, hidden], after the final norm -> what the model says, by name. */
  leave(
    parameters: Parameters,
    hidden: Tensor,
    kept: Readonly<Record<string, Tensor>>,
  ): Readonly<Record<string, Tensor>>;
}
