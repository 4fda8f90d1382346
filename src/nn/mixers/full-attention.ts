/**
 * Softmax attention in which every position sees all others, before and behind it, as in an encoder (Vaswani et al., 2017) or a vision
 * transformer. With rotary positions or none. It has no state.
 */
import { attention } from '../../graph/index.js';
import type { Mixer } from '../mixer.js';
import { type AttentionConfig, projectHeads, projectOutput, scaleOf } from './attention.js';

export function fullAttention(config: AttentionConfig): Mixer {
  return {
    state: [],
    forward(parameters, x, { position, observe }) {
      const heads = projectHeads(parameters, x, config, position);
      const { query, key, value } = heads;
      const { output, weights } = attention({ query, key, value }, { scale: scaleOf(config), causal: false });
      observe?.({ kind: 'attention', weights });
      return { output: projectOutput(parameters, output, heads, config), state: {} };
    },
  };
}
