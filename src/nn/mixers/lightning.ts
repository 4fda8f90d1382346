/**
 * Lightning attention (Qin et al., 2024, arXiv 2401.04658), as MiniMax-01 has it in transformers' modeling_minimax.py: linear
 * attention whose heads forget at constant rates,
 *
 *     q, k, v = silu(qkv_proj(x))      S_t = exp(-slope_h) S_(t-1) + k_t v_t^T      o_t = S_t^T q_t
 *     out_proj(norm(o) * sigmoid(output_gate(x)))
 *
 * with the norm over all heads together. Queries, keys and values of a head stand together in qkv_proj.
 *
 * State for one sequence: `recurrent` [numHeads, headDim, headDim].
 */
import {
  broadcastTo,
  constant,
  type Dim,
  linearRecurrence,
  multiply,
  reshape,
  sigmoid,
  silu,
  split,
  type Tensor,
} from '../../graph/index.js';
import { linear, rmsNorm } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { normal } from '../parameters.js';

/** Sizes of lightning attention. */
export interface LightningConfig {
  hiddenSize: number;
  headDim: number;
  /** For each head, at least 0: a token multiplies what it remembers by exp(-slope). See `lightningSlopes`. */
  slopes: readonly number[];
  normEpsilon: number;
  outputDeviation: number;
}

/**
 * MiniMax's slopes: those of ALiBi, 2^(-8 (h + 1) / numHeads), which layers take a smaller share of the later they come: the
 * last one remembers nearly all.
 */
export function lightningSlopes(numHeads: number, layer: number, numLayers: number): number[] {
  const share = 1 - layer / (numLayers - 1 + 1e-5) + 1e-5;
  return Array.from({ length: numHeads }, (_, h) => 2 ** ((-8 * (h + 1)) / numHeads) * share);
}

/** The mixer for x [batch, sequence, hiddenSize], by the equations at the head of this file. */
export function lightningAttention(config: LightningConfig): Mixer {
  const { hiddenSize, headDim, slopes } = config;
  const numHeads = slopes.length;
  const inner = numHeads * headDim;
  return {
    state: [
      { name: 'recurrent', dtype: 'float32', shape: ['batch', numHeads, headDim, headDim], initial: 0 },
    ],
    forward(parameters, x, { state, documents, observe }) {
      const [batch, sequence] = x.shape as [Dim, Dim, Dim];
      const qkv = silu(parameters.within('qkv_proj', (p) => linear(p, x, 3 * inner)));
      const byHead = reshape(qkv, [batch, sequence, numHeads, 3 * headDim]);
      const [query, key, value] = split(byHead, -1, [headDim, headDim, headDim]).map((part) =>
        reshape(part, [batch, sequence, inner]),
      ) as [Tensor, Tensor, Tensor];
      const gate = constant(
        Float32Array.from(slopes, (slope) => -slope),
        [1, 1, numHeads],
      );
      const operands = {
        query,
        key,
        value,
        gate: broadcastTo(gate, [batch, sequence, numHeads]),
        state: state?.recurrent,
        documents,
      };
      const heads = { query: numHeads, key: numHeads, value: numHeads };
      observe?.({ kind: 'recurrence', operands, heads });
      const recurrence = linearRecurrence(operands, heads);

      const normalized = parameters.within('norm', (p) =>
        rmsNorm(p, recurrence.output, { epsilon: config.normEpsilon }),
      );
      const open = sigmoid(parameters.within('output_gate', (p) => linear(p, x, inner)));
      const output = parameters.within('out_proj', (p) =>
        linear(p, multiply(normalized, open), hiddenSize, { initialize: normal(config.outputDeviation) }),
      );
      return { output, state: { recurrent: recurrence.state } };
    },
  };
}
