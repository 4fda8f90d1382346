/**
 * Attention of a text over a source that was read before it (Vaswani et al., 2017): queries of x, keys and values of what the source's
 * layers made of it, `carried` under `SOURCE`. In it every position is seen; `SOURCE_BIAS` hides some.
 *
 * State for one sequence: `key` and `value` [keyValueHeads, positions, headDim] of the source, and `bias` [positions], which stay as they
 * are while the text grows. Before a source was read values are zeros, and it adds nothing.
 */
import { attention, reshape, type Tensor, zeros } from '../../graph/index.js';
import { linear, mergeHeads, splitHeads } from '../layers.js';
import type { Mixer, MixerContext } from '../mixer.js';
import { normal } from '../parameters.js';

/** The name of the encoded source: [batch, positions, hidden]. */
export const SOURCE = 'source';
/** The name of the bias of its positions' attention logits: [batch, positions]. */
export const SOURCE_BIAS = 'source bias';

/** The sizes of a `crossAttention` layer. */
export interface CrossAttentionConfig {
  hiddenSize: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  /** Positions of the source. */
  positions: number;
  outputDeviation: number;
}

/**
 * Attention of each position over the positions of a source (Vaswani et al., 2017, section 3.2.3): x [batch, sequence, hidden]. Keys and
 * values of the source are its state, of fixed size; `bias` hides the source's padding.
 */
export function crossAttention(config: CrossAttentionConfig): Mixer {
  const { hiddenSize, numHeads, numKeyValueHeads, headDim, positions } = config;
  const shape = ['batch', numKeyValueHeads, positions, headDim];
  return {
    state: [
      { name: 'key', dtype: 'float32', shape, initial: 0 },
      { name: 'value', dtype: 'float32', shape, initial: 0 },
      { name: 'bias', dtype: 'float32', shape: ['batch', positions], initial: 0 },
    ],
    forward(parameters, x, { state, carried }) {
      const project = (name: string, of: Tensor, count: number): Tensor =>
        splitHeads(
          parameters.within(name, (p) => linear(p, of, count * headDim)),
          count,
        );
      const query = project('q_proj', x, numHeads);
      const { key, value, bias } = sourceHeads(x, { state, carried }, (name, of) =>
        project(name, of, numKeyValueHeads),
      );
      const { output } = attention(
        { query, key, value, bias: reshape(bias, [x.shape[0]!, 1, 1, positions]) },
        { scale: 1 / Math.sqrt(headDim), causal: false },
      );
      return {
        output: parameters.within('o_proj', (p) =>
          linear(p, mergeHeads(output), hiddenSize, { initialize: normal(config.outputDeviation) }),
        ),
        state: state ? { key, value, bias } : {},
      };
    },
  };

  /** Made of the source where it is there, kept ones elsewhere; without either, those of no source. */
  function sourceHeads(
    x: Tensor,
    { state, carried }: Pick<MixerContext, 'state' | 'carried'>,
    project: (name: string, of: Tensor) => Tensor,
  ): { key: Tensor; value: Tensor; bias: Tensor } {
    const batch = x.shape[0]!;
    const source = carried?.get(SOURCE);
    if (!source && state) return { key: state.key!, value: state.value!, bias: state.bias! };
    const read = source ?? zeros([batch, positions, hiddenSize]);
    return {
      key: project('k_proj', read),
      value: project('v_proj', read),
      bias: carried?.get(SOURCE_BIAS) ?? zeros([batch, positions]),
    };
  }
}
