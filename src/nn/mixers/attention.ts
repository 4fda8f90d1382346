/**
 * Causal softmax attention with grouped queries (Ainslie et al., 2023), with rotary positions or none.
 *
 * State for one sequence: `key` and `value` [keyValueHeads, past, headDim], which grow with every token.
 */
import { type Dim, iota, less, lessOrEqual, reshape, type Tensor, where } from '../../graph/index.js';
import { attend, MASKED, type MemoryPart } from '../attend.js';
import { linear, mergeHeads, splitHeads } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { normal, type Parameters } from '../parameters.js';
import { type RopeConfig, rotate } from '../rope.js';

export interface AttentionConfig {
  hiddenSize: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  /** No positions without it. */
  rope?: RopeConfig | undefined;
  outputDeviation: number;
}

export function attention(config: AttentionConfig): Mixer {
  const shape = ['batch', config.numKeyValueHeads, 'past', config.headDim];
  return {
    state: [
      { name: 'key', dtype: 'float32', shape, grows: 2, initial: 0 },
      { name: 'value', dtype: 'float32', shape, grows: 2, initial: 0 },
    ],
    forward(parameters, x, { state, position }) {
      const { query, key, value } = projectHeads(parameters, x, config, position);
      const sequence = x.shape[1]!;
      const parts: MemoryPart[] = [{ keys: key, values: value, bias: causalBias(sequence) }];
      if (state)
        parts.unshift({ keys: state.key!, values: state.value!, bias: heldBias(state.key!, position) });
      const output = projectOutput(parameters, attend(query, parts, scaleOf(config)), config);
      return { output, state: { key, value } };
    },
  };
}

/** [sequence, sequence]: hides what comes after each token. */
function causalBias(sequence: Dim): Tensor {
  const index = iota(sequence);
  return where(lessOrEqual(reshape(index, [1, -1]), reshape(index, [-1, 1])), 0, MASKED);
}

/** [room]: hides the room behind the entries that a growing state holds. */
function heldBias(keys: Tensor, position: Tensor): Tensor {
  return where(less(iota(keys.shape[2]!), position), 0, MASKED);
}

export function scaleOf({ headDim }: { headDim: number }): number {
  return 1 / Math.sqrt(headDim);
}

/** Queries, keys and values of x [batch, sequence, hidden], each [batch, heads, sequence, headDim], rotated if asked. */
export function projectHeads(parameters: Parameters, x: Tensor, config: AttentionConfig, position: Tensor) {
  const { numHeads, numKeyValueHeads, headDim, rope } = config;
  const heads = (name: string, count: number): Tensor =>
    splitHeads(
      parameters.within(name, (p) => linear(p, x, count * headDim)),
      count,
    );
  const turn = (h: Tensor): Tensor => (rope ? rotate(h, position, rope) : h);
  return {
    query: turn(heads('q_proj', numHeads)),
    key: turn(heads('k_proj', numKeyValueHeads)),
    value: heads('v_proj', numKeyValueHeads),
  };
}

/** Joins the heads [batch, heads, sequence, headDim] and maps them back to the hidden size. */
export function projectOutput(parameters: Parameters, heads: Tensor, config: AttentionConfig): Tensor {
  return parameters.within('o_proj', (p) =>
    linear(p, mergeHeads(heads), config.hiddenSize, { initialize: normal(config.outputDeviation) }),
  );
}
