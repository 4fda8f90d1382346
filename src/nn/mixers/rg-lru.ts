/**
 * The recurrent block of Griffin (De et al., 2024, arXiv 2402.19427), as RecurrentGemma has it in transformers'
 * modeling_recurrent_gemma.py. Its core is the real-gated linear recurrent unit (RG-LRU), in which every channel has one
 * number for a state:
 *
 *     x = conv_1d(linear_x(u))      i, r = sigmoid(gates of x)      log a_t = -8 softplus(recurrent_param) r_t
 *     h_t = a_t h_(t-1) + sqrt(1 - a_t^2) (i_t * x_t)      y = linear_out(h * gelu(linear_y(u)))
 *
 * The root keeps the state's size the same however long it remembers; at the first position of a sequence, where there
 * is nothing to remember yet, it is 1. The gates' weights are block-diagonal.
 *
 * State for one sequence: `recurrent` [1, lruWidth] and `conv` [convKernel - 1, lruWidth].
 */
import { ConfigError } from '../../errors.js';
import {
  add,
  type Dim,
  detach,
  equal,
  exp,
  fill,
  geluTanh,
  iota,
  isFirstOfDocument,
  less,
  matmul,
  maximum,
  multiply,
  or,
  reshape,
  selectiveScan,
  sigmoid,
  softplus,
  sqrt,
  subtract,
  type Tensor,
  where,
} from '../../graph/index.js';
import { linear, mergeHeads, splitHeads } from '../layers.js';
import type { Mixer, MixerContext } from '../mixer.js';
import { constantly, fillWith, type Initializer, normal, type Parameters } from '../parameters.js';
import { convolve } from './short-convolution.js';

/** Sizes of a recurrent block of Griffin, with the RG-LRU inside. */
export interface RecurrentBlockConfig {
  hiddenSize: number;
  /** Channels of the recurrence. */
  lruWidth: number;
  /** Blocks on the diagonal of the gates' weights; divides lruWidth. */
  numBlocks: number;
  convKernel: number;
  outputDeviation: number;
}

/** The exponent of the decay where its gate is fully open. */
const DECAY_POWER = 8;

/** Upper bound of the square root's derivative, which is infinite at 0 (a decay of 1). */
const MAX_ROOT_DERIVATIVE = 1000;

/** exp(-softplus(param)) such that its square is uniform between those of 0.9 and 0.999. */
const initialDecay: Initializer = (random, shape) =>
  fillWith(shape, () => {
    const square = 0.9 ** 2 + random.uniform() * (0.999 ** 2 - 0.9 ** 2);
    return Math.log(Math.expm1(-0.5 * Math.log(square)));
  });

/** Throws ConfigError where the blocks do not divide the width. */
export function recurrentBlock(config: RecurrentBlockConfig): Mixer {
  const { hiddenSize, lruWidth, numBlocks, convKernel } = config;
  if (lruWidth % numBlocks !== 0) {
    throw new ConfigError(
      `${numBlocks} blocks cannot share ${lruWidth} channels evenly: lruWidth must be a multiple of numBlocks`,
    );
  }
  return {
    state: [
      { name: 'conv', dtype: 'float32', shape: ['batch', convKernel - 1, lruWidth], initial: 0 },
      { name: 'recurrent', dtype: 'float32', shape: ['batch', 1, lruWidth], initial: 0 },
    ],
    forward(parameters, u, context) {
      const to = (name: string): Tensor =>
        parameters.within(name, (p) => linear(p, u, lruWidth, { bias: true }));
      const gate = geluTanh(to('linear_y'));
      const x = to('linear_x');
      const convolution = parameters.within('conv_1d', (p) =>
        convolve(p, x, { convKernel, convBias: true }, context.state?.conv, context.documents),
      );
      const unit = parameters.within('rg_lru', (p) => rgLru(p, convolution.output, numBlocks, context));
      const output = parameters.within('linear_out', (p) =>
        linear(p, multiply(unit.output, gate), hiddenSize, {
          bias: true,
          initialize: normal(config.outputDeviation),
        }),
      );
      return { output, state: { conv: convolution.state, recurrent: unit.state } };
    },
  };
}

function rgLru(
  parameters: Parameters,
  x: Tensor,
  numBlocks: number,
  { state, position, documents, observe }: MixerContext,
): { output: Tensor; state: Tensor } {
  const [batch, sequence, width] = x.shape as [Dim, Dim, number];
  const inputGate = sigmoid(blockLinear(parameters, x, 'input_gate', numBlocks));
  const recurrentGate = sigmoid(blockLinear(parameters, x, 'recurrent_gate', numBlocks));
  const rate = multiply(softplus(parameters.get('recurrent_param', [width], initialDecay)), -DECAY_POWER);

  const isBeginning = equal(add(iota(sequence), reshape(position, [-1, 1])), 0);
  const isFirst = reshape(documents ? or(isBeginning, isFirstOfDocument(documents)) : isBeginning, [
    -1,
    sequence,
    1,
  ]);
  const forgotten = subtract(1, exp(multiply(multiply(recurrentGate, rate), 2)));
  const root = where(isFirst, 1, boundedSqrt(forgotten));
  const one = fill([batch, sequence, 1], 1);
  const operands = {
    value: multiply(multiply(x, inputGate), root),
    step: recurrentGate,
    rate: reshape(rate, [width, 1]),
    key: one,
    query: one,
    state: state?.recurrent,
    documents,
  };
  observe?.({ kind: 'scan', operands, factor: multiply(inputGate, root) });
  return selectiveScan(operands);
}

/** x W + b for each of `blocks` parts of x's channels on its own. */
function blockLinear(parameters: Parameters, x: Tensor, name: string, blocks: number): Tensor {
  const size = (x.shape.at(-1) as number) / blocks;
  const weight = parameters.get(`${name}_weight`, [blocks, size, size], normal(0.1 / Math.sqrt(size)));
  const bias = parameters.get(`${name}_bias`, [blocks, size], constantly(0), { decay: false });
  return mergeHeads(add(matmul(splitHeads(x, blocks), weight), reshape(bias, [blocks, 1, size])));
}

/** The square root of x >= 0, whose derivative is at most MAX_ROOT_DERIVATIVE. */
function boundedSqrt(x: Tensor): Tensor {
  const steep = 1 / (2 * MAX_ROOT_DERIVATIVE) ** 2;
  const bounded = add(detach(sqrt(x)), multiply(subtract(x, detach(x)), MAX_ROOT_DERIVATIVE));
  return where(less(x, steep), bounded, sqrt(maximum(x, steep)));
}
