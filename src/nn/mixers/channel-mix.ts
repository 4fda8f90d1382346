/**
 * The channel mixing of RWKV-7 (Peng et al., 2025, arXiv 2503.14456; fla's models/rwkv7): an MLP whose input is mixed with the token
 * before it, value(activation(key(x_t + (x_(t-1) - x_t) x_k))).
 *
 * State for one sequence: `shift` [1, hiddenSize], the last token.
 */
import { add, multiply } from '../../graph/index.js';
import { type Activation, linear } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { fillWith, normal } from '../parameters.js';
import { tokenShift } from './token-shift.js';

/** Sizes of RWKV-7's channel mixing. */
export interface ChannelMixConfig {
  hiddenSize: number;
  intermediateSize: number;
  activation: Activation;
  /** Its index among the layers, on which the initial values depend. */
  layer: number;
  numLayers: number;
  outputDeviation: number;
}

/** The mixer for x [batch, sequence, hiddenSize], by the equation at the head of this file. */
export function channelMix(config: ChannelMixConfig): Mixer {
  const { hiddenSize, intermediateSize, activation, layer, numLayers } = config;
  const power = (1 - layer / numLayers) ** 4;
  return {
    state: [{ name: 'shift', dtype: 'float32', shape: ['batch', 1, hiddenSize], initial: 0 }],
    forward(parameters, x, { state, documents }) {
      const { change, last } = tokenShift(x, state?.shift, documents);
      const shares = parameters.get('x_k', [hiddenSize], (_, shape) => {
        let n = 0;
        return fillWith(shape, () => 1 - (n++ / hiddenSize) ** power);
      });
      const mixed = add(x, multiply(change, shares));
      const inner = activation(parameters.within('key', (p) => linear(p, mixed, intermediateSize)));
      const output = parameters.within('value', (p) =>
        linear(p, inner, hiddenSize, { initialize: normal(config.outputDeviation) }),
      );
      return { output, state: { shift: last } };
    },
  };
}
