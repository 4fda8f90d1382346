/**
 * One step of a model that keeps a state, as a graph: it reads a prompt, a piece of one, or the one token just written.
 * Generation and the ONNX export are built on it.
 */
import { type Dim, gather, input, multiplyDims, reshape, type Tensor } from '../graph/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { type ForwardContext, forward, logitsOf, type Model } from './model.js';

/** The graph of one step: its inputs, and the tensors that it computes. */
export interface ModelStep {
  /** The inputs `ids`, `position` and `places`. */
  readonly inputs: readonly [ids: Tensor, position: Tensor, places: Tensor];
  /** [places, hidden], and what the head makes of it: [places, vocabulary]. */
  readonly hidden: Tensor;
  readonly logits: Tensor;
  /** What forward() makes of the state, by the names of `Model.state`. */
  readonly state: Readonly<Record<string, Tensor>>;
}

/** What a model's step is built for: the states before it, and dimensions. */
export interface StepOptions extends ForwardContext {
  readonly state: Readonly<Record<string, Tensor>>;
  /** Tokens of each row; any number by default. */
  readonly sequence?: Dim;
  /** How many tokens came before: int64 [] for all rows, or [batch] for each. */
  readonly position?: readonly Dim[];
}

/**
 * Reads int64 `ids` [batch, sequence] that come after `position` others, given the `state` that those left.
 * Only the tokens at `places` are projected onto the vocabulary: int64 [places], counted in the flattened batch.
 */
export function stepOf(
  model: Model,
  { sequence = 'sequence', position: shape = [], ...context }: StepOptions,
): ModelStep {
  const registry = new ParameterRegistry();
  const ids = input('ids', 'int64', ['batch', sequence]);
  const position = input('position', 'int64', shape);
  const places = input('places', 'int64', ['places']);
  const result = forward(model, registry, ids, position, context);
  const rows = reshape(result.hidden, [multiplyDims(['batch', sequence]), model.hiddenSize]);
  const hidden = gather(rows, places);
  const logits = logitsOf(model, registry, hidden);
  return { inputs: [ids, position, places], hidden, logits, state: result.state };
}
