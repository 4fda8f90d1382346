/**
 * Gated DeltaProduct (Siems et al., 2025, arXiv 2502.10297), as in fla's layers/gated_deltaproduct.py: a gated delta net that takes
 * several steps of the delta rule at each token, so that its state is multiplied by a product of Householder matrices. With beta up to 2
 * a step can mirror and two can swap and turn, by which it follows permutations: what a parity or a shuffled hand of cards takes.
 *
 *     q, k_i, v_i = silu(conv1d(x Wq, x Wk, x Wv))     q, k_i of length 1 per head, q / sqrt(keyHeadDim), i = 1 .. n
 *     beta_i = 2 sigmoid(x Wb)                         g = -exp(A_log) softplus(x Wa + dt_bias)
 *     S <- exp(g_t) S, then n times S <- S + k_i (beta_i (v_i - S^T k_i))^T
 *     o_t = S^T q_t                                    o_proj(norm(o) * silu(x Wg))
 *
 * The n keys of a token stand one after the other in what Wk makes, each for all heads, and so do its values and rates.
 *
 * State for one sequence: `recurrent` [numHeads, keyHeadDim, valueHeadDim] and `conv` [convKernel - 1, channels], whose channels are
 * those of all queries, then all keys, then all values.
 */
import { ConfigError } from '../../errors.js';
import {
  add,
  concat,
  type Dim,
  exp,
  linearRecurrence,
  multiply,
  multiplyDims,
  negate,
  repeatedEach,
  reshape,
  sigmoid,
  silu,
  slice,
  softplus,
  type Tensor,
  zeros,
} from '../../graph/index.js';
import { linear } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { normal } from '../parameters.js';
import { convolvedQkv, normalizedHeads, SEPARATE_CONVOLUTIONS, withLength } from './delta-net.js';
import { initialDecay } from './gated-delta-net.js';
import { initialTimeStep } from './mamba2.js';

/** Sizes of DeltaProduct. */
export interface DeltaProductConfig {
  hiddenSize: number;
  numHeads: number;
  keyHeadDim: number;
  valueHeadDim: number;
  /** Steps of the delta rule at each token. */
  steps: number;
  convKernel: number;
  /** beta in (0, 2) instead of (0, 1). */
  negativeEigenvalues: boolean;
  normEpsilon: number;
  outputDeviation: number;
}

/** Throws `ConfigError` without a step. */
export function deltaProduct(config: DeltaProductConfig): Mixer {
  const { hiddenSize, numHeads, keyHeadDim, valueHeadDim, steps, convKernel } = config;
  if (!(steps >= 1)) throw new ConfigError(`a delta rule of ${steps} steps a token writes nothing`);
  const keys = numHeads * keyHeadDim;
  const values = numHeads * valueHeadDim;
  const widths = [keys, steps * keys, steps * values] as const;
  const channels = widths.reduce<number>((a, b) => a + b, 0);
  return {
    state: [
      { name: 'conv', dtype: 'float32', shape: ['batch', convKernel - 1, channels], initial: 0 },
      {
        name: 'recurrent',
        dtype: 'float32',
        shape: ['batch', numHeads, keyHeadDim, valueHeadDim],
        initial: 0,
      },
    ],
    forward(parameters, x, { state, documents, observe }) {
      const [batch, sequence] = x.shape as [Dim, Dim, Dim];
      const to = (name: string, outputs: number): Tensor =>
        parameters.within(`${name}_proj`, (p) => linear(p, x, outputs));
      const { query, key, value, ...convolution } = convolvedQkv(
        parameters,
        concat([to('q', widths[0]), to('k', widths[1]), to('v', widths[2])], -1),
        widths,
        { convKernel, parts: SEPARATE_CONVOLUTIONS },
        state?.conv,
        documents,
      );
      const timeStep = softplus(
        add(to('a', numHeads), parameters.get('dt_bias', [numHeads], initialTimeStep, { decay: false })),
      );
      const A = negate(exp(parameters.get('A_log', [numHeads], initialDecay, { decay: false })));
      const beta = sigmoid(to('b', steps * numHeads));

      // Every step of a token is one of the recurrence: the first decays, and the last reads.
      const inSteps = (all: Tensor, width: number): Tensor =>
        reshape(all, [batch, multiplyDims([sequence, steps]), width]);
      const placed = (one: Tensor, width: number, where: 'first' | 'last'): Tensor => {
        const rest = steps > 1 ? [zeros([batch, sequence, (steps - 1) * width])] : [];
        return inSteps(concat(where === 'first' ? [one, ...rest] : [...rest, one], -1), width);
      };
      const operands = {
        query: placed(withLength(query, keyHeadDim, 1 / Math.sqrt(keyHeadDim)), keys, 'last'),
        key: inSteps(withLength(key, keyHeadDim, 1), keys),
        value: inSteps(value, values),
        gate: placed(multiply(timeStep, A), numHeads, 'first'),
        beta: inSteps(config.negativeEigenvalues ? multiply(beta, 2) : beta, numHeads),
        state: state?.recurrent,
        documents: documents && repeatedEach(documents, steps),
      };
      const heads = { query: numHeads, key: numHeads, value: numHeads };
      observe?.({ kind: 'recurrence', operands, heads, stepsPerToken: steps });
      const recurrence = linearRecurrence(operands, heads);
      const read = reshape(
        slice(reshape(recurrence.output, [batch, sequence, steps, values]), 2, steps - 1, steps),
        [batch, sequence, values],
      );

      const normalized = parameters.within('o_norm', (p) =>
        normalizedHeads(p, read, valueHeadDim, config.normEpsilon),
      );
      const gated = multiply(normalized, silu(to('g', values)));
      const output = parameters.within('o_proj', (p) =>
        linear(p, gated, hiddenSize, { initialize: normal(config.outputDeviation) }),
      );
      return { output, state: { conv: convolution.state, recurrent: recurrence.state } };
    },
  };
}
