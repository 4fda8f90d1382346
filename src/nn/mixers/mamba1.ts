/**
 * Mamba (Gu & Dao, 2023, arXiv 2312.00752), as in transformers' modeling_mamba.py, modeling_falcon_mamba.py and
 * modeling_jamba.py:
 *
 *     x, z = in_proj(u)      x = silu(conv1d(x))      dt, B, C = x_proj(x)      dt = softplus(dt_proj(dt))
 *     h_t = exp(dt A) h_(t-1) + B_t dt x_t      y_t = C_t . h_t + D x_t      out_proj(y * silu(z))
 *
 * with A = -exp(A_log) [innerSize, stateSize]. Unlike in Mamba-2 every channel is a head, and every number of its state
 * decays at a rate of its own. Falcon-Mamba and Jamba normalise dt (before dt_proj), B and C.
 *
 * State for one sequence: `ssm` [stateSize, innerSize] and `conv` [convKernel - 1, innerSize].
 */
import {
  add,
  exp,
  fill,
  multiply,
  negate,
  rmsNorm as normalize,
  selectiveScan,
  silu,
  softplus,
  split,
  type Tensor,
} from '../../graph/index.js';
import { linear, project, rmsNorm } from '../layers.js';
import type { Mixer, MixerContext } from '../mixer.js';
import { constantly, fillWith, type Initializer, normal, type Parameters, uniform } from '../parameters.js';
import { initialTimeStep } from './mamba2.js';
import { convolve } from './short-convolution.js';

/** Sizes of a Mamba layer, and what Falcon-Mamba and Jamba change in it. */
export interface Mamba1Config {
  hiddenSize: number;
  innerSize: number;
  stateSize: number;
  /** Size of what the innerSize time steps of a token are made from. */
  timeStepRank: number;
  convKernel: number;
  convBias: boolean;
  projectionBias: boolean;
  /** RMS norms of dt, B and C: Jamba's have weights, Falcon-Mamba's have none, Mamba has no norms. */
  norm?: { epsilon: number; weights: boolean } | undefined;
  outputDeviation: number;
}

/** A = 1, 2, ..., stateSize in every channel, kept as its logarithm. */
const initialDecay: Initializer = (_, shape) => {
  let i = 0;
  return fillWith(shape, () => Math.log(1 + (i++ % shape[1]!)));
};

/** The mixer for u [batch, sequence, hiddenSize], by the equations at the head of this file. */
export function mamba1(config: Mamba1Config): Mixer {
  const { hiddenSize, innerSize, stateSize, convKernel } = config;
  return {
    state: [
      { name: 'conv', dtype: 'float32', shape: ['batch', convKernel - 1, innerSize], initial: 0 },
      { name: 'ssm', dtype: 'float32', shape: ['batch', stateSize, innerSize], initial: 0 },
    ],
    forward(parameters, u, { state, documents, observe }) {
      const projected = parameters.within('in_proj', (p) =>
        linear(p, u, 2 * innerSize, { bias: config.projectionBias }),
      );
      const [xRaw, z] = split(projected, -1, [innerSize, innerSize]) as [Tensor, Tensor];
      const convolution = parameters.within('conv1d', (p) =>
        convolve(p, xRaw, config, state?.conv, documents),
      );
      const x = silu(convolution.output);

      const scan = selectiveStateSpace(parameters, x, config, { state: state?.ssm, documents, observe });
      const output = parameters.within('out_proj', (p) =>
        linear(p, multiply(scan.output, silu(z)), hiddenSize, {
          bias: config.projectionBias,
          initialize: normal(config.outputDeviation),
        }),
      );
      return { output, state: { conv: convolution.state, ssm: scan.state } };
    },
  };
}

/**
 * What is selective in Mamba: x [batch, sequence, innerSize], from which dt, B and C are made, through the state space, and past it
 * by D. The state that follows is [batch, stateSize, innerSize].
 */
export function selectiveStateSpace(
  parameters: Parameters,
  x: Tensor,
  config: Pick<Mamba1Config, 'innerSize' | 'stateSize' | 'timeStepRank' | 'norm'>,
  {
    state,
    documents,
    observe,
  }: Partial<Pick<MixerContext, 'documents' | 'observe'>> & { state?: Tensor | undefined } = {},
): { output: Tensor; state: Tensor } {
  const { innerSize, stateSize, timeStepRank } = config;
  const selected = parameters.within('x_proj', (p) => linear(p, x, timeStepRank + 2 * stateSize));
  const [dtRaw, B, C] = split(selected, -1, [timeStepRank, stateSize, stateSize]).map((part, i) =>
    normalized(parameters, (['dt', 'b', 'c'] as const)[i]!, part, config),
  ) as [Tensor, Tensor, Tensor];
  const dt = parameters.within('dt_proj', (p) => {
    const initialize = uniform(1 / Math.sqrt(timeStepRank));
    // It sets time scales, as the decays do.
    const weight = p.get('weight', [innerSize, timeStepRank], initialize, { isMatrix: false });
    return softplus(add(project(dtRaw, weight), p.get('bias', [innerSize], initialTimeStep)));
  });
  const A = negate(exp(parameters.get('A_log', [innerSize, stateSize], initialDecay, { decay: false })));
  const operands = {
    value: multiply(dt, x),
    step: dt,
    rate: A,
    key: B,
    query: C,
    state,
    documents,
  };
  observe?.({ kind: 'scan', operands, factor: dt });
  const scan = selectiveScan(operands);
  const D = parameters.get('D', [innerSize], constantly(1), { decay: false });
  return { output: add(scan.output, multiply(x, D)), state: scan.state };
}

function normalized(
  parameters: Parameters,
  name: 'dt' | 'b' | 'c',
  x: Tensor,
  { norm }: Pick<Mamba1Config, 'norm'>,
): Tensor {
  if (!norm) return x;
  if (!norm.weights) return normalize(x, fill([x.shape.at(-1)!], 1), norm.epsilon);
  return parameters.within(`${name}_layernorm`, (p) => rmsNorm(p, x, norm));
}
