/**
 * Separable self-attention, as VMINet has it (arXiv 2501.02040; the authors' vminet.py), over the places of an image in O(n):
 *
 *     q, k = 1x1 convolutions of x      V = relu6(q) * k      s = sum over places p of w_p V_p
 *     out = W (relu6(a s + b V))
 *
 * with the weights w of the places shared by all channels, and two numbers a and b, 1 at first. Each place sees the same sum s of all
 * of them, so that there is no matrix of places times places. The number of places is fixed. In VMINet a 7x7 depthwise convolution
 * with a batch norm comes before, and a batch norm after.
 *
 * It is not causal and has no state.
 */
import { ShapeError } from '../../errors.js';
import { add, matmul, minimum, multiply, relu, type Tensor } from '../../graph/index.js';
import { linear } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { constantly, normal, uniform } from '../parameters.js';

/** Sizes of separable self-attention. */
export interface SeparableAttentionConfig {
  hiddenSize: number;
  /** Of queries and keys, in hidden sizes: r, 2 or 4 in the published models. */
  expansion: number;
  /** How many there are: height times width. */
  places: number;
  outputDeviation: number;
}

/** Its mixer takes x [batch, places, hiddenSize], and throws `ShapeError` for another number of places. */
export function separableAttention(config: SeparableAttentionConfig): Mixer {
  const { hiddenSize, expansion, places, outputDeviation } = config;
  const width = expansion * hiddenSize;
  return {
    state: [],
    forward(parameters, x) {
      const found = x.shape[1]!;
      if (found !== places) {
        throw new ShapeError(`separable attention of ${places} places is given ${found}`);
      }
      const to = (name: string): Tensor =>
        parameters.within(name, (p) => linear(p, x, width, { bias: true }));
      const values = multiply(relu6(to('q_proj')), to('k_proj'));
      const weights = parameters.get('places.weight', [1, places], uniform(1 / Math.sqrt(places)));
      const shared = matmul(weights, values);
      const factor = (name: string): Tensor => parameters.get(name, [1], constantly(1), { decay: false });
      const mixed = add(multiply(shared, factor('shared_factor')), multiply(values, factor('own_factor')));
      const output = parameters.within('o_proj', (p) =>
        linear(p, relu6(mixed), hiddenSize, { initialize: normal(outputDeviation) }),
      );
      return { output, state: {} };
    },
  };
}

function relu6(x: Tensor): Tensor {
  return minimum(relu(x), 6);
}
