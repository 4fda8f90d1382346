/**
 * Attention for the tokens that need it (Taipan: Nguyen et al., 2024, arXiv 2410.18572, section 3): a router selects queries, where
 * selective attention selects keys. With the layer's input x and the output o of attention over the last W tokens,
 *
 *     [1 - a, a] = softmax(G(x))        m = 1 where a > 1/2, else 0        y = m a (o - x)
 *
 * so that x + y is (1 - a) x + a o for a selected token, and x for another. Gradients pass straight through m to a. Training adds
 * weight * (capacity - mean m)^2 to the loss. The paper's Gumbel noise on the router is left out: selective attention fared no better
 * with it.
 *
 * State for one sequence: that of attention in a window.
 */
import { add, cast, detach, greater, mean, multiply, sigmoid, slice, subtract } from '../../graph/index.js';
import { linear } from '../layers.js';
import type { Mixer } from '../mixer.js';
import type { AttentionConfig } from './attention.js';
import { slidingWindowAttention } from './selective.js';

/** Attention in a window, and how many tokens shall use it. */
export interface QuerySelectionConfig extends AttentionConfig {
  /** W: how many of the last tokens a selected one sees, itself included. */
  window: number;
  /** The share of tokens that shall be selected. */
  capacity: number;
  /** Multiplies the square of what is missed of it. */
  capacityWeight: number;
}

/** The mixer for x [batch, sequence, hiddenSize], by the equations at the head of this file. */
export function querySelection(config: QuerySelectionConfig): Mixer {
  const { capacity, capacityWeight } = config;
  const windowed = slidingWindowAttention(config);
  return {
    state: windowed.state,
    forward(parameters, x, context) {
      const { output, state } = windowed.forward(parameters, x, context);
      const logits = parameters.within('router', (p) => linear(p, x, 2, { bias: true, precise: true }));
      // The softmax of two is the sigmoid of their difference.
      const share = sigmoid(subtract(slice(logits, -1, 1, 2), slice(logits, -1, 0, 1)));
      const isSelected = cast(greater(share, 0.5), 'float32');
      const selection = add(share, detach(subtract(isSelected, share)));
      const missed = subtract(mean(selection), capacity);
      parameters.penalize(multiply(multiply(missed, missed), capacityWeight));
      return { output: multiply(multiply(selection, share), subtract(output, x)), state };
    },
  };
}
