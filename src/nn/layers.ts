/** The layers that act on each token alone: linear maps, the embedding, norms, the MLP. */
import {
  add,
  type Dim,
  fill,
  gather,
  matmul,
  multiply,
  rmsNorm as normalize,
  reshape,
  silu,
  split,
  type Tensor,
  transpose,
} from '../graph/index.js';
import type { Mixer } from './mixer.js';
import { constantly, type Initializer, normal, type Parameters } from './parameters.js';

/** Standard deviation of new weights, as GPT-2's and Mamba's. */
export const INITIAL_DEVIATION = 0.02;

export interface LinearOptions {
  bias?: boolean;
  initialize?: Initializer;
}

/** x W^T + b with `weight` [outputs, inputs]: x [..., inputs] -> [..., outputs]. */
export function linear(
  parameters: Parameters,
  x: Tensor,
  outputs: number,
  options: LinearOptions = {},
): Tensor {
  const inputs = x.shape.at(-1) as number;
  const weight = parameters.get('weight', [outputs, inputs], options.initialize ?? normal(INITIAL_DEVIATION));
  const product = project(x, weight);
  return options.bias ? add(product, parameters.get('bias', [outputs], constantly(0))) : product;
}

/** x W^T: x [..., inputs], weight [outputs, inputs] -> [..., outputs]. */
export function project(x: Tensor, weight: Tensor): Tensor {
  return matmul(x, weight, { transposeB: true });
}

/** Rows of `weight` [vocabulary, size] by token: int64 ids [...] -> [..., size]. */
export function embedding(parameters: Parameters, ids: Tensor, vocabulary: number, size: number): Tensor {
  return gather(embeddingTable(parameters, vocabulary, size), ids);
}

/** The table alone: tied models project onto it again at the end. */
export function embeddingTable(parameters: Parameters, vocabulary: number, size: number): Tensor {
  return parameters.get('weight', [vocabulary, size], normal(INITIAL_DEVIATION));
}

export interface RmsNormOptions {
  epsilon: number;
  /** Normalises this many equal parts of the last axis, each on its own. */
  groups?: number;
}

/** x / rms(x) * weight over the last axis. */
export function rmsNorm(parameters: Parameters, x: Tensor, { epsilon, groups = 1 }: RmsNormOptions): Tensor {
  const size = x.shape.at(-1) as number;
  const weight = parameters.get('weight', [size], constantly(1));
  if (groups === 1) return normalize(x, weight, epsilon);
  const parts = reshape(x, [...x.shape.slice(0, -1), groups, size / groups]);
  return multiply(reshape(normalize(parts, fill([size / groups], 1), epsilon), x.shape), weight);
}

/** rmsNorm(x * silu(gate)): Mamba-2's norm, in which the gate comes before the norm. */
export function gatedRmsNorm(
  parameters: Parameters,
  x: Tensor,
  gate: Tensor,
  options: RmsNormOptions,
): Tensor {
  return rmsNorm(parameters, multiply(x, silu(gate)), options);
}

export interface MlpConfig {
  hiddenSize: number;
  intermediateSize: number;
  /** Of the output projection; smaller in deep models, since their residual branches add up. */
  outputDeviation: number;
}

/** The SwiGLU feed-forward layer (Shazeer, 2020); gate and value come from one projection. It keeps no state. */
export function mlp(config: MlpConfig): Mixer {
  const { hiddenSize, intermediateSize, outputDeviation } = config;
  return {
    state: [],
    forward(parameters, x) {
      const both = parameters.within('input_linear', (p) => linear(p, x, 2 * intermediateSize));
      const [gate, value] = split(both, -1, [intermediateSize, intermediateSize]) as [Tensor, Tensor];
      const output = parameters.within('output_linear', (p) =>
        linear(p, multiply(silu(gate), value), hiddenSize, { initialize: normal(outputDeviation) }),
      );
      return { output, state: {} };
    },
  };
}

/** [batch, sequence, heads * size] -> [batch, heads, sequence, size] */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, sequence, width] = x.shape as [Dim, Dim, number];
  return transpose(reshape(x, [batch, sequence, heads, width / heads]), [0, 2, 1, 3]);
}

/** [batch, heads, sequence, size] -> [batch, sequence, heads * size] */
export function mergeHeads(x: Tensor): Tensor {
  const [batch, heads, sequence, size] = x.shape as [Dim, number, Dim, number];
  return reshape(transpose(x, [0, 2, 1, 3]), [batch, sequence, heads * size]);
}
