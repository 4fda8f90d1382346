/**
 * Gated DeltaNet (Yang, Kautz & Hatamizadeh, 2024, arXiv 2412.06464), as Qwen3-Next, Qwen3.5 and OLMo Hybrid have it in
 * transformers. A linear attention whose memory forgets by a gate, and which replaces what it held under a key instead
 * of adding to it:
 *
 *     q, k, v = silu(conv1d(qkv))     q, k of length 1 per head, q / sqrt(keyHeadDim)
 *     beta = sigmoid(b)               g = -exp(A_log) softplus(a + dt_bias)
 *     S_t = D_t + k_t (beta_t (v_t - D_t^T k_t))^T, D_t = exp(g_t) S_(t-1)
 *     o_t = S_t^T q_t                 out(norm(o) * silu(z))
 *
 * with a state for each value head; consecutive value heads share a query and a key. The norm is over each head on its
 * own and comes before the gate z, unlike Mamba-2's. The families differ in how they lay out the projections (`layout`).
 *
 * State for one sequence: `recurrent` [numValueHeads, keyHeadDim, valueHeadDim] and `conv` [convKernel - 1, channels],
 * whose channels are those of all queries, then all keys, then all values.
 */
import { ConfigError } from '../../errors.js';
import {
  add,
  concat,
  type Dim,
  exp,
  linearRecurrence,
  multiply,
  negate,
  reshape,
  sigmoid,
  silu,
  softplus,
  split,
  type Tensor,
} from '../../graph/index.js';
import { linear } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { fillWith, type Initializer, normal, type Parameters } from '../parameters.js';
import {
  type ConvolutionParts,
  convolvedQkv,
  normalizedHeads,
  SEPARATE_CONVOLUTIONS,
  withLength,
} from './delta-net.js';
import { initialTimeStep } from './mamba2.js';

/** Sizes of a gated delta net, and how its checkpoints arrange the projections. */
export interface GatedDeltaNetConfig {
  hiddenSize: number;
  /** Heads of the queries and of the keys; divides numValueHeads. */
  numKeyHeads: number;
  numValueHeads: number;
  keyHeadDim: number;
  valueHeadDim: number;
  convKernel: number;
  /** How the projections are laid out and named, see `LAYOUTS`. */
  layout: GatedDeltaNetLayout;
  /** beta in (0, 2) instead of (0, 1): the state's eigenvalues can then be negative (arXiv 2411.12537). */
  negativeEigenvalues: boolean;
  normEpsilon: number;
  outputDeviation: number;
}

interface Projections {
  /** [batch, sequence, channels]: queries, keys and values before the convolution. */
  qkv: Tensor;
  /** [batch, sequence, numValueHeads * valueHeadDim] */
  z: Tensor;
  /** [batch, sequence, numValueHeads] */
  b: Tensor;
  a: Tensor;
}

interface Layout {
  readonly project: (parameters: Parameters, x: Tensor, config: GatedDeltaNetConfig) => Projections;
  readonly norm: string;
  readonly output: string;
  readonly convolutionParts?: ConvolutionParts;
}

/**
 * `interleaved` (Qwen3-Next): in_proj_qkvz and in_proj_ba, in which each key head is stored next to its value heads.
 * `joined` (Qwen3.5): in_proj_qkv, in_proj_z, in_proj_b and in_proj_a.
 * `separate` (OLMo Hybrid): {q,k,v,g,b,a}_proj, with g for z, and a convolution stored in three parts.
 */
const LAYOUTS = {
  interleaved: { project: interleaved, norm: 'norm', output: 'out_proj' },
  joined: { project: joined, norm: 'norm', output: 'out_proj' },
  separate: {
    project: separate,
    norm: 'o_norm',
    output: 'o_proj',
    convolutionParts: SEPARATE_CONVOLUTIONS,
  },
} satisfies Record<string, Layout>;

/** How a family names and joins the projections: Qwen3-Next's, Qwen3.5's, OLMo-Hybrid's or our own. */
export type GatedDeltaNetLayout = keyof typeof LAYOUTS;

/** A uniform in (0, 16], kept as its logarithm. */
export const initialDecay: Initializer = (random, shape) =>
  fillWith(shape, () => Math.log(16 * (1 - random.uniform())));

/** Throws ConfigError where the value heads cannot share the key heads evenly. */
export function gatedDeltaNet(config: GatedDeltaNetConfig): Mixer {
  const { hiddenSize, numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim, convKernel } = config;
  if (numValueHeads % numKeyHeads !== 0) {
    throw new ConfigError(
      `${numValueHeads} value heads cannot share ${numKeyHeads} key heads evenly: numValueHeads must be a multiple of numKeyHeads`,
    );
  }
  const { keys, values, channels } = widths(config);
  const widthsOfQkv = [keys, keys, values] as const;
  const layout: Layout = LAYOUTS[config.layout];
  return {
    state: [
      { name: 'conv', dtype: 'float32', shape: ['batch', convKernel - 1, channels], initial: 0 },
      {
        name: 'recurrent',
        dtype: 'float32',
        shape: ['batch', numValueHeads, keyHeadDim, valueHeadDim],
        initial: 0,
      },
    ],
    forward(parameters, x, { state, documents, observe }) {
      const { qkv, z, b, a } = layout.project(parameters, x, config);
      const { query, key, value, ...convolution } = convolvedQkv(
        parameters,
        qkv,
        widthsOfQkv,
        { convKernel, parts: layout.convolutionParts },
        state?.conv,
        documents,
      );

      const beta = sigmoid(b);
      const timeStep = softplus(add(a, parameters.get('dt_bias', [numValueHeads], initialTimeStep)));
      const A = negate(exp(parameters.get('A_log', [numValueHeads], initialDecay)));
      const operands = {
        query: withLength(query, keyHeadDim, 1 / Math.sqrt(keyHeadDim)),
        key: withLength(key, keyHeadDim, 1),
        value,
        gate: multiply(timeStep, A),
        beta: config.negativeEigenvalues ? multiply(beta, 2) : beta,
        state: state?.recurrent,
        documents,
      };
      const counts = { query: numKeyHeads, key: numKeyHeads, value: numValueHeads };
      observe?.({ kind: 'recurrence', operands, heads: counts });
      const recurrence = linearRecurrence(operands, counts);

      const normalized = parameters.within(layout.norm, (p) =>
        normalizedHeads(p, recurrence.output, valueHeadDim, config.normEpsilon),
      );
      const gated = multiply(normalized, silu(z));
      const output = parameters.within(layout.output, (p) =>
        linear(p, gated, hiddenSize, { initialize: normal(config.outputDeviation) }),
      );
      return { output, state: { conv: convolution.state, recurrent: recurrence.state } };
    },
  };
}

function widths({ numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim }: GatedDeltaNetConfig) {
  const keys = numKeyHeads * keyHeadDim;
  const values = numValueHeads * valueHeadDim;
  return { keys, values, channels: 2 * keys + values };
}

function interleaved(parameters: Parameters, x: Tensor, config: GatedDeltaNetConfig): Projections {
  const { numKeyHeads, numValueHeads, keyHeadDim } = config;
  const perKeyHead = (name: string, sizes: readonly number[]): Tensor[] => {
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const joint = parameters.within(name, (p) => linear(p, x, numKeyHeads * total));
    const [batch, sequence] = joint.shape as [Dim, Dim, Dim];
    return split(reshape(joint, [batch, sequence, numKeyHeads, total]), -1, sizes).map((part) =>
      reshape(part, [batch, sequence, numKeyHeads * (part.shape.at(-1) as number)]),
    );
  };
  const headsEach = numValueHeads / numKeyHeads;
  const valuesEach = headsEach * config.valueHeadDim;
  const [q, k, v, z] = perKeyHead('in_proj_qkvz', [keyHeadDim, keyHeadDim, valuesEach, valuesEach]) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const [b, a] = perKeyHead('in_proj_ba', [headsEach, headsEach]) as [Tensor, Tensor];
  return { qkv: concat([q, k, v], -1), z, b, a };
}

function joined(parameters: Parameters, x: Tensor, config: GatedDeltaNetConfig): Projections {
  const { values, channels } = widths(config);
  const to = (name: string, outputs: number): Tensor =>
    parameters.within(`in_proj_${name}`, (p) => linear(p, x, outputs));
  return {
    qkv: to('qkv', channels),
    z: to('z', values),
    b: to('b', config.numValueHeads),
    a: to('a', config.numValueHeads),
  };
}

function separate(parameters: Parameters, x: Tensor, config: GatedDeltaNetConfig): Projections {
  const { keys, values } = widths(config);
  const to = (name: string, outputs: number): Tensor =>
    parameters.within(`${name}_proj`, (p) => linear(p, x, outputs));
  return {
    qkv: concat([to('q', keys), to('k', keys), to('v', values)], -1),
    z: to('g', values),
    b: to('b', config.numValueHeads),
    a: to('a', config.numValueHeads),
  };
}
