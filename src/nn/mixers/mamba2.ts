/**
 * Mamba-2 (Dao & Gu, 2024, arXiv 2405.21060), as in transformers' modeling_mamba2.py:
 *
 *     z, xBC, dt = in_proj(u)      x, B, C = silu(conv1d(xBC))      dt = clamp(softplus(dt + dt_bias))
 *     S_t = exp(dt A) S_(t-1) + B_t (dt x_t)^T      y_t = S_t^T C_t + D x_t      out_proj(norm(y * silu(z)))
 *
 * State for one sequence: `ssm` [numHeads, stateSize, headDim] and `conv` [convKernel - 1, channels].
 */
import {
  add,
  causalConvolution,
  concat,
  type Dim,
  exp,
  fill,
  linearRecurrence,
  maximum,
  minimum,
  multiply,
  negate,
  reshape,
  silu,
  softplus,
  split,
  type Tensor,
  wide,
} from '../../graph/index.js';
import { linear, rmsNorm } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { constantly, fillWith, type Initializer, normal, type Parameters, uniform } from '../parameters.js';

/** Sizes of a Mamba-2 layer, and what the families change in it. The inner width is numHeads * headDim. */
export interface Mamba2Config {
  hiddenSize: number;
  numHeads: number;
  headDim: number;
  stateSize: number;
  /** Heads in a group share B and C. */
  numGroups: number;
  convKernel: number;
  convBias: boolean;
  projectionBias: boolean;
  /** Whether the output projection has a bias, where it differs from `projectionBias`. */
  outputBias?: boolean;
  /** Bounds of dt after softplus. */
  timeStepLimit: readonly [number, number];
  /** Where y is normed, before or after the gate silu(z): norm(y * silu(z)) by default. */
  norm?: 'after gate' | 'before gate' | 'none';
  /** Parts of the inner width that are normalised on their own. */
  normGroups: number;
  normEpsilon: number;
  /** Multiply u, and what in_proj makes of it: z, x, B, C and dt (muP). */
  inputFactor?: number;
  projectionFactors?: readonly [number, number, number, number, number];
  outputDeviation: number;
}

/** A uniform in [1, 16], kept as its logarithm. */
const initialDecay: Initializer = (random, shape) =>
  fillWith(shape, () => Math.log(1 + 15 * random.uniform()));

/** dt log-uniform in [0.001, 0.1], kept as softplus's inverse of it. */
export const initialTimeStep: Initializer = (random, shape) =>
  fillWith(shape, () => {
    const step = Math.exp(Math.log(1e-3) + random.uniform() * (Math.log(1e-1) - Math.log(1e-3)));
    return step + Math.log(-Math.expm1(-step));
  });

/** The mixer for u [batch, sequence, hiddenSize], by the equations at the head of this file. */
export function mamba2(config: Mamba2Config): Mixer {
  const { hiddenSize, numHeads, headDim, stateSize, numGroups, convKernel } = config;
  const inner = numHeads * headDim;
  const shared = numGroups * stateSize;
  const channels = inner + 2 * shared;
  return {
    state: [
      { name: 'conv', dtype: 'float32', shape: ['batch', convKernel - 1, channels], initial: 0 },
      { name: 'ssm', dtype: 'float32', shape: ['batch', numHeads, stateSize, headDim], initial: 0 },
    ],
    forward(parameters, u, { state, documents, observe }) {
      const [batch, sequence] = u.shape as [Dim, Dim, Dim];
      const input = factor(u, config.inputFactor);
      const projected = parameters.within('in_proj', (p) =>
        linear(p, input, inner + channels + numHeads, { bias: config.projectionBias }),
      );
      const widths = [inner, inner, shared, shared, numHeads];
      const factors = config.projectionFactors?.map((value, i) => fill([widths[i]!], value));
      const weighed = factors ? multiply(projected, concat(factors, 0)) : projected;
      const [z, xBC, dtRaw] = split(weighed, -1, [inner, channels, numHeads]) as [Tensor, Tensor, Tensor];

      const convolution = parameters.within('conv1d', (p) => {
        const bound = 1 / Math.sqrt(convKernel);
        const weight = p.get('weight', [channels, 1, convKernel], uniform(bound));
        const bias = config.convBias ? p.get('bias', [channels], uniform(bound)) : undefined;
        return causalConvolution(xBC, weight, bias, state?.conv, documents);
      });
      const [x, B, C] = split(silu(convolution.output), -1, [inner, shared, shared]) as [
        Tensor,
        Tensor,
        Tensor,
      ];

      const dt = clamp(
        softplus(add(wide(dtRaw), parameters.get('dt_bias', [numHeads], initialTimeStep, { decay: false }))),
        config.timeStepLimit,
      );
      const A = negate(exp(parameters.get('A_log', [numHeads], initialDecay, { decay: false })));
      const perHead = (values: Tensor): Tensor => reshape(values, [...values.shape, 1]);
      const heads = reshape(x, [batch, sequence, numHeads, headDim]);
      const operands = {
        query: C,
        key: B,
        value: reshape(multiply(heads, perHead(dt)), [batch, sequence, inner]),
        gate: multiply(dt, A),
        state: state?.ssm,
        documents,
      };
      const counts = { query: numGroups, key: numGroups, value: numHeads };
      observe?.({ kind: 'recurrence', operands, heads: counts, factor: dt });
      const recurrence = linearRecurrence(operands, counts);
      const D = perHead(parameters.get('D', [numHeads], constantly(1), { decay: false }));
      const skip = multiply(x, reshape(multiply(fill([headDim], 1), D), [inner]));
      const y = add(recurrence.output, skip);
      const gated = outputGate(parameters, y, z, config);
      const output = parameters.within('out_proj', (p) =>
        linear(p, gated, hiddenSize, {
          bias: config.outputBias ?? config.projectionBias,
          initialize: normal(config.outputDeviation),
        }),
      );
      return { output, state: { conv: convolution.state, ssm: recurrence.state } };
    },
  };
}

function outputGate(parameters: Parameters, y: Tensor, z: Tensor, config: Mamba2Config): Tensor {
  const normalize = (x: Tensor): Tensor =>
    parameters.within('norm', (p) =>
      rmsNorm(p, x, { epsilon: config.normEpsilon, groups: config.normGroups }),
    );
  if (config.norm === 'none') return multiply(y, silu(z));
  return config.norm === 'before gate' ? multiply(normalize(y), silu(z)) : normalize(multiply(y, silu(z)));
}

function factor(x: Tensor, value = 1): Tensor {
  return value === 1 ? x : multiply(x, value);
}

function clamp(x: Tensor, [low, high]: readonly [number, number]): Tensor {
  const above = low > 0 ? maximum(x, low) : x;
  return Number.isFinite(high) ? minimum(above, high) : above;
}
