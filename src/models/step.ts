/**
 * One step of a model that keeps a state, as a graph: it reads a prompt, a piece of one, or the one token just written.
 * Whoever runs models, and whoever gives them away, builds on this.
 */
import { gather, input, multiplyDims, reshape, type Tensor } from '../graph/index.js';
import { ParameterRegistry } from '../nn/index.js';
import { forward, logitsOf, type Model } from './model.js';

export interface Step {
  /** [places, vocabulary] */
  readonly logits: Tensor;
  /** What forward() makes of the state, by the names of `Model.state`. */
  readonly state: Readonly<Record<string, Tensor>>;
  /** The input `position`. */
  readonly position: Tensor;
}

/**
 * Reads int64 `ids` [batch, sequence] that come after int64 `position` [] others, given the `state` that those left.
 * Only the tokens at `places` are projected onto the vocabulary: int64 [places], counted in the flattened batch.
 */
export function stepOf(model: Model, state: Readonly<Record<string, Tensor>>): Step {
  const registry = new ParameterRegistry();
  const ids = input('ids', 'int64', ['batch', 'sequence']);
  const position = input('position', 'int64', []);
  const result = forward(model, registry, ids, position, state);
  const rows = reshape(result.hidden, [multiplyDims(['batch', 'sequence']), model.hiddenSize]);
  const logits = logitsOf(model, registry, gather(rows, input('places', 'int64', ['places'])));
  return { logits, state: result.state, position };
}
