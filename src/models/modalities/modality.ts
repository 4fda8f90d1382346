/**
 * The input layer and head of models of other data than text. The layers in between are the same. A modality has a state like a mixer, so that
 * a stream can be read in pieces.
 */
import type { Dim, DType, Tensor } from '../../graph/index.js';
import type { Grid, Parameters, StateSpec, StateTensors } from '../../nn/index.js';

/** The unit in which a person counts what a model reads, such as 'rows'. */
export interface Unit {
  readonly name: string;
  /** How many one position of the layers has. */
  readonly perPosition: number;
}

/** The unit of models of text. */
export const TOKENS: Unit = { name: 'tokens', perPosition: 1 };

/** An input of a modality's graph, without the batch axis. */
export interface ModalityInput {
  readonly name: string;
  readonly dtype: DType;
  /** The shape of one row; `sequence` stands for any number of positions. */
  readonly shape: readonly Dim[];
}

/** The outputs of a modality's input layer. */
export interface Entered {
  /** The initial residual stream: [batch, positions, hidden]. */
  readonly stream: Tensor;
  /** The new state, as of a mixer, if a state was given. */
  readonly state: StateTensors;
  /** Values for `leave`, by name. */
  readonly kept: Readonly<Record<string, Tensor>>;
}

/** The input layer of other data than text. */
export interface Entering {
  /** Its name: `series`, `images`. */
  readonly kind: string;
  /** A one-line description of its inputs and outputs. */
  readonly about: string;
  readonly inputs: readonly ModalityInput[];
  /** The state of a stream; none by default. */
  readonly state?: readonly StateSpec[];
  /** What a person counts in its inputs, and how many of that one position has. */
  readonly unit: Unit;
  /** The rows and columns of positions, for images. */
  readonly grid?: Grid | undefined;
  /** `inputs` are [batch, ...shape] by name; `state` is that after the previous positions. */
  enter(parameters: Parameters, inputs: Readonly<Record<string, Tensor>>, state?: StateTensors): Entered;
}

/** The input layer and head of a model, and the state of both. */
export interface Modality extends Entering {
  readonly state: readonly StateSpec[];
  /** hidden [batch, positions, hidden], after the final norm -> the model's outputs by name. */
  leave(
    parameters: Parameters,
    hidden: Tensor,
    kept: Readonly<Record<string, Tensor>>,
  ): Readonly<Record<string, Tensor>>;
}
