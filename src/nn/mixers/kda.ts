/**
 * Kimi delta attention (Kimi Team, 2025, arXiv 2510.26692), as in transformers' modeling_kimi_linear.py and fla's
 * layers/kda.py: a gated delta net in which every key channel decays at a rate of its own,
 *
 *     q, k, v = silu(conv1d(x Wq, x Wk, x Wv))     q, k of length 1 per head, q / sqrt(keyHeadDim)
 *     beta = sigmoid(x Wb)                         g = -exp(A_log) softplus(f(x) + dt_bias)
 *     S_t = D_t + k_t (beta_t (v_t - D_t^T k_t))^T, D_t = diag(exp(g_t)) S_(t-1)
 *     o_t = S_t^T q_t                              o_proj(norm(o) * sigmoid(z(x)))
 *
 * with f and z linear maps, of low rank in Kimi-Linear. The safe gate of Ling-3.0 bounds the decay of a token from below:
 * g = bound * sigmoid(exp(A_log) (f(x) + dt_bias)) with a bound of -5, so that no key forgets all at once.
 *
 * State for one sequence: `recurrent` [numHeads, keyHeadDim, valueHeadDim] and `conv` [convKernel - 1, channels], whose
 * channels are those of all queries, then all keys, then all values.
 */
import { ConfigError } from '../../errors.js';
import {
  add,
  concat,
  exp,
  linearRecurrence,
  multiply,
  negate,
  type RecurrenceInputs,
  reshape,
  sigmoid,
  softplus,
  type Tensor,
} from '../../graph/index.js';
import { linear, perChannel } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { constantly, fillWith, type Initializer, normal, type Parameters } from '../parameters.js';
import { convolvedQkv, normalizedHeads, SEPARATE_CONVOLUTIONS, withLength } from './delta-net.js';
import { initialTimeStep } from './mamba2.js';

/**
 * A linear map of x: of full rank one matrix, `NAME_proj`; of a lower one two, `NAME_a_proj` and `NAME_b_proj`, of which the
 * second may have a bias.
 */
export interface Projection {
  readonly rank?: number | undefined;
  readonly bias?: boolean | undefined;
}

/** Sizes of Kimi delta attention, and what the families change in it. */
export interface KimiDeltaConfig {
  hiddenSize: number;
  numHeads: number;
  keyHeadDim: number;
  valueHeadDim: number;
  convKernel: number;
  /** f, which the decays are made of. */
  decay: Projection;
  /** z, which the output is gated by: a number for each channel, or one for a whole head. */
  outputGate: Projection & { readonly per: 'channel' | 'head' };
  /** The safe gate: no token multiplies a row of the state by less than exp(lowerBound). */
  lowerBound?: number | undefined;
  /** beta in (0, 2) instead of (0, 1): what stands under a key can then change its sign (arXiv 2411.12537). */
  negativeEigenvalues: boolean;
  /** The shape of A_log in checkpoints, [numHeads] by default. */
  decayShape?: readonly number[] | undefined;
  normEpsilon: number;
  outputDeviation: number;
}

/** A uniform in [1, 16], kept as its logarithm. */
const initialDecay: Initializer = (random, shape) =>
  fillWith(shape, () => Math.log(1 + 15 * random.uniform()));

/** For A = 1 under the safe gate: a log decay of a token between -0.001 and -0.1, log-uniform. */
function initialBias(lowerBound: number): Initializer {
  return (random, shape) =>
    fillWith(shape, () => {
      const share = Math.exp(Math.log(1e-3) + random.uniform() * Math.log(100)) / -lowerBound;
      return Math.log(share / (1 - share));
    });
}

/** Throws `ConfigError` for a lower bound that is not below 0. */
export function kimiDeltaAttention(config: KimiDeltaConfig): Mixer {
  return channelDeltaNet(config, (parameters, x, { key, value }) => {
    const beta = sigmoid(projected(parameters, 'b', x, config.numHeads, {}));
    return { key, value, beta: config.negativeEigenvalues ? multiply(beta, 2) : beta };
  });
}

/** What the delta rule writes and takes out of a token's keys of length 1 and its values. */
type Rule = (
  parameters: Parameters,
  x: Tensor,
  heads: Pick<RecurrenceInputs, 'key' | 'value'>,
) => Pick<RecurrenceInputs, 'key' | 'value' | 'beta' | 'erase'>;

/** A delta net whose key channels decay at rates of their own, by the given rule. */
export function channelDeltaNet(config: KimiDeltaConfig, ruleOf: Rule): Mixer {
  if (config.lowerBound !== undefined && !(config.lowerBound < 0)) {
    throw new ConfigError(`the lower bound of log decays (${config.lowerBound}) must be less than 0`);
  }
  const { numHeads, keyHeadDim, valueHeadDim, convKernel, outputGate } = config;
  const keys = numHeads * keyHeadDim;
  const values = numHeads * valueHeadDim;
  return {
    state: [
      { name: 'conv', dtype: 'float32', shape: ['batch', convKernel - 1, 2 * keys + values], initial: 0 },
      {
        name: 'recurrent',
        dtype: 'float32',
        shape: ['batch', numHeads, keyHeadDim, valueHeadDim],
        initial: 0,
      },
    ],
    forward(parameters, x, { state, documents, observe }) {
      const to = (name: string, outputs: number): Tensor => projected(parameters, name, x, outputs, {});
      const { query, key, value, ...convolution } = convolvedQkv(
        parameters,
        concat([to('q', keys), to('k', keys), to('v', values)], -1),
        [keys, keys, values],
        { convKernel, parts: SEPARATE_CONVOLUTIONS },
        state?.conv,
        documents,
      );
      const operands = {
        query: withLength(query, keyHeadDim, 1 / Math.sqrt(keyHeadDim)),
        gate: logDecay(parameters, projected(parameters, 'f', x, keys, config.decay), config),
        ...ruleOf(parameters, x, { key: withLength(key, keyHeadDim, 1), value }),
        state: state?.recurrent,
        documents,
      };
      const heads = { query: numHeads, key: numHeads, value: numHeads };
      observe?.({ kind: 'recurrence', operands, heads });
      const recurrence = linearRecurrence(operands, heads);

      const normalized = parameters.within('o_norm', (p) =>
        normalizedHeads(p, recurrence.output, valueHeadDim, config.normEpsilon),
      );
      const z = projected(parameters, 'g', x, outputGate.per === 'head' ? numHeads : values, outputGate);
      const open = outputGate.per === 'head' ? perChannel(sigmoid(z), valueHeadDim) : sigmoid(z);
      const output = parameters.within('o_proj', (p) =>
        linear(p, multiply(normalized, open), config.hiddenSize, {
          initialize: normal(config.outputDeviation),
        }),
      );
      return { output, state: { conv: convolution.state, recurrent: recurrence.state } };
    },
  };
}

/** The log decays of all keys, at most 0, from f(x): [batch, sequence, numHeads * keyHeadDim]. */
function logDecay(parameters: Parameters, f: Tensor, config: KimiDeltaConfig): Tensor {
  const { numHeads, keyHeadDim, lowerBound, decayShape = [numHeads] } = config;
  const isSafe = lowerBound !== undefined;
  const A = exp(parameters.get('A_log', decayShape, isSafe ? constantly(0) : initialDecay, { decay: false }));
  const rates = perChannel(reshape(A, [numHeads]), keyHeadDim);
  const initialize = isSafe ? initialBias(lowerBound) : initialTimeStep;
  const raw = add(f, parameters.get('dt_bias', [numHeads * keyHeadDim], initialize, { decay: false }));
  return isSafe
    ? multiply(sigmoid(multiply(raw, rates)), lowerBound)
    : multiply(softplus(raw), negate(rates));
}

/** A linear projection, or two of low rank: [batch, sequence, outputs]. */
export function projected(
  parameters: Parameters,
  name: string,
  x: Tensor,
  outputs: number,
  { rank, bias = false }: Projection,
): Tensor {
  if (rank === undefined) return parameters.within(`${name}_proj`, (p) => linear(p, x, outputs, { bias }));
  const low = parameters.within(`${name}_a_proj`, (p) => linear(p, x, rank));
  return parameters.within(`${name}_b_proj`, (p) => linear(p, low, outputs, { bias }));
}
