/**
 * Heads of compressed convolutional attention (Zyphra, 2025, arXiv 2510.04476), as ZAYA1 has them in transformers'
 * modeling_zaya.py. Queries and keys of neighbouring tokens meet in two causal convolutions, the second of which mixes the
 * channels of a head; what was projected goes around them, each query head with the key head that it reads; and half of
 * the values are those of the token before:
 *
 *     [q | k] = conv_grouped(conv_depthwise([q0 | k0])) + [r | mean of r over the queries of a key],  r = (q0 + k0) / 2
 *     q = sqrt(headDim) q / |q|      k = temp_h sqrt(headDim) k / |k|      v_t = [x_t Wc | x_(t-1) Wd]
 *
 * State for one sequence, beside that of the attention: `depthwise` [depthwiseKernel - 1, channels] and `grouped`
 * [groupedKernel - 1, channels], the last inputs of the two convolutions, and `delayed` [1, values / 2], all without biases:
 * those are added behind the shift, so that zeros stand before the first token.
 */
import {
  add,
  causalConvolution,
  concat,
  constant,
  type Dim,
  fill,
  matmul,
  mean,
  multiply,
  rmsNorm as normalize,
  reshape,
  split,
  sum,
  type Tensor,
  transpose,
} from '../../graph/index.js';
import { linear, splitHeads } from '../layers.js';
import { constantly, type Initializer, type Parameters, uniform } from '../parameters.js';
import { rotate } from '../rope.js';
import type { AttentionConfig, HeadMaker } from './attention.js';

/** Heads that are made through convolutions over the tokens before, as in Zaya. */
export interface ConvolvedHeadsConfig
  extends Pick<AttentionConfig, 'numHeads' | 'numKeyValueHeads' | 'headDim' | 'rope' | 'inputBias'> {
  /** Tokens that the convolution of each channel covers, and that which mixes the channels of a head. */
  depthwiseKernel: number;
  groupedKernel: number;
}

/** Far below the squared length of any head: one of zeros stays so. */
const SMALLEST_SQUARE = 2 ** -46;

/** For `AttentionConfig.heads`. */
export function convolvedHeads(config: ConvolvedHeadsConfig): HeadMaker {
  const { numHeads, numKeyValueHeads, headDim, rope, inputBias: bias = false } = config;
  const [queries, keys] = [numHeads * headDim, numKeyValueHeads * headDim];
  const state = (name: string, rows: number, width: number) =>
    ({ name, dtype: 'float32', shape: ['batch', rows, width], initial: 0 }) as const;
  return {
    state: [
      state('depthwise', config.depthwiseKernel - 1, queries + keys),
      state('grouped', config.groupedKernel - 1, queries + keys),
      state('delayed', 1, keys / 2),
    ],
    make(parameters, x, { state: before, position, documents }) {
      const [batch, sequence] = x.shape as [Dim, Dim, Dim];
      const heads = parameters.within('qkv_proj', (p) => {
        const project = (name: string, width: number): Tensor =>
          p.within(name, (inner) => linear(inner, x, width, { bias }));
        const query = project('q_proj', queries);
        const key = project('k_proj', keys);
        const convolved = convolve(p, concat([query, key], -1), config, before, documents);
        const [mixedQuery, mixedKey] = split(convolved.output, -1, [queries, keys]) as [Tensor, Tensor];
        const around = residuals(splitHeads(query, numHeads), splitHeads(key, numKeyValueHeads));
        const delayed = p.within('v_proj_delayed', (inner) =>
          delay(inner, x, keys / 2, bias, before?.delayed, documents),
        );
        const value = concat([project('v_proj_current', keys / 2), delayed.output], -1);
        return {
          query: add(splitHeads(mixedQuery, numHeads), around.query),
          key: add(splitHeads(mixedKey, numKeyValueHeads), around.key),
          value: splitHeads(reshape(value, [batch, sequence, keys]), numKeyValueHeads),
          state: { ...convolved.state, delayed: delayed.state },
        };
      });
      const temperature = parameters.within('qk_norm', (p) =>
        p.get('temp', [numKeyValueHeads], constantly(1), { decay: false }),
      );
      const turn = (h: Tensor): Tensor => (rope ? rotate(h, position, rope) : h);
      const key = multiply(unit(heads.key, headDim), reshape(temperature, [numKeyValueHeads, 1, 1]));
      return { ...heads, query: turn(unit(heads.query, headDim)), key: turn(key) };
    },
  };
}

/** Each head [..., headDim] scaled to the length sqrt(headDim). */
function unit(heads: Tensor, headDim: number): Tensor {
  return normalize(heads, fill([headDim], 1), SMALLEST_SQUARE / headDim);
}

/** What goes around the convolutions: query [batch, heads, sequence, headDim] with the key that it reads, and the mean back. */
function residuals(query: Tensor, key: Tensor): { query: Tensor; key: Tensor } {
  const [batch, numHeads, sequence, size] = query.shape as [Dim, number, Dim, number];
  const groups = key.shape[1] as number;
  const grouped = reshape(query, [batch, groups, numHeads / groups, sequence, size]);
  const both = multiply(add(grouped, reshape(key, [batch, groups, 1, sequence, size])), 0.5);
  return { query: reshape(both, query.shape), key: mean(both, 2) };
}

/** Both convolutions of x [batch, sequence, channels]. */
function convolve(
  parameters: Parameters,
  x: Tensor,
  { headDim, depthwiseKernel, groupedKernel }: ConvolvedHeadsConfig,
  before: Readonly<Record<string, Tensor>> | undefined,
  documents: Tensor | undefined,
): { output: Tensor; state: { depthwise: Tensor; grouped: Tensor } } {
  const channels = x.shape[2] as number;
  const convolution = (name: string, shape: readonly number[]) =>
    parameters.within(name, (p) => {
      const initialize: Initializer = uniform(1 / Math.sqrt(shape[1]! * shape[2]!));
      return { weight: p.get('weight', shape, initialize), bias: p.get('bias', [channels], initialize) };
    });
  const first = convolution('conv_qk_depthwise', [channels, 1, depthwiseKernel]);
  const depthwise = causalConvolution(x, first.weight, undefined, before?.depthwise, documents);
  const second = convolution('conv_qk_grouped', [channels, headDim, groupedKernel]);
  // [heads, headDim, kernel * headDim], for what the kernel covers side by side.
  const heads = channels / headDim;
  const taps = transpose(reshape(second.weight, [heads, headDim, headDim, groupedKernel]), [0, 1, 3, 2]);
  const matrix = reshape(taps, [heads, headDim, groupedKernel * headDim]);
  const shifts = Array.from({ length: groupedKernel }, (_, tap) =>
    shift(depthwise.output, groupedKernel, tap, before?.grouped, documents),
  );
  const covered = concat(
    shifts.map(({ output }) => splitHeads(output, heads)),
    -1,
  );
  const [batch, sequence] = x.shape as [Dim, Dim, Dim];
  const mixed = matmul(covered, matrix, { transposeB: true });
  const output = reshape(transpose(mixed, [0, 2, 1, 3]), [batch, sequence, channels]);
  // The first bias goes through the second convolution, before the first token too.
  const through = matmul(sum(taps, 2), reshape(first.bias, [heads, headDim, 1]));
  return {
    output: add(output, add(reshape(through, [channels]), second.bias)),
    state: { depthwise: depthwise.state, grouped: shifts[0]!.state },
  };
}

/** What a convolution of `kernel` tokens sees at one of its places, the last of which is the present token. */
function shift(
  x: Tensor,
  kernel: number,
  place: number,
  state: Tensor | undefined,
  documents: Tensor | undefined,
) {
  const channels = x.shape[2] as number;
  const weight = new Float32Array(channels * kernel);
  for (let c = 0; c < channels; c++) weight[c * kernel + place] = 1;
  return causalConvolution(x, constant(weight, [channels, 1, kernel]), undefined, state, documents);
}

/** A linear map of the token before; before the first one stand zeros. */
function delay(
  parameters: Parameters,
  x: Tensor,
  width: number,
  bias: boolean,
  state: Tensor | undefined,
  documents: Tensor | undefined,
) {
  const { output, state: last } = shift(linear(parameters, x, width), 2, 0, state, documents);
  return { output: bias ? add(output, parameters.get('bias', [width], constantly(0))) : output, state: last };
}
