/**
 * Softmax attention in which every position sees all others, before and behind it, as in an encoder (Vaswani et al., 2017) or a vision
 * transformer. With rotary positions or none. It has no state. Positions of a source that `carried` hides are not seen.
 */
import { attention, reshape } from '../../graph/index.js';
import type { Mixer } from '../mixer.js';
import { type AttentionConfig, projectHeads, projectOutput, scaleOf } from './attention.js';
import { SOURCE_BIAS } from './cross-attention.js';

/**
 * Attention of each position over all positions, in both directions: x [batch, sequence, hidden]. It keeps no state, since it reads what
 * is whole.
 */
export function fullAttention(config: AttentionConfig): Mixer {
  return {
    state: [],
    forward(parameters, x, { position, carried, observe }) {
      const heads = projectHeads(parameters, x, config, position);
      const { query, key, value } = heads;
      const hiding = carried?.get(SOURCE_BIAS);
      const bias = hiding && reshape(hiding, [x.shape[0]!, 1, 1, x.shape[1]!]);
      const { output, weights } = attention(
        { query, key, value, bias },
        { scale: scaleOf(config), causal: false },
      );
      observe?.({ kind: 'attention', weights });
      return { output: projectOutput(parameters, output, heads, config), state: {} };
    },
  };
}
