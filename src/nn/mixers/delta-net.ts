/**
 * What the delta nets share (gated delta net, KDA and their kin): queries, keys and values pass through one short causal
 * convolution and SiLU; queries and keys of each head are scaled to a fixed length, so that the delta rule neither
 * overshoots nor falls short; and the output of each head is normalised separately.
 */
import {
  causalConvolution,
  type Dim,
  fill,
  rmsNorm as normalize,
  reshape,
  silu,
  split,
  type Tensor,
} from '../../graph/index.js';
import { rmsNorm } from '../layers.js';
import { type Parameters, uniform } from '../parameters.js';

/** Names under which the convolution's weight is stored in parts: of the queries, the keys and the values. */
export type ConvolutionParts = readonly [string, string, string];

/** The convolutions' parameters where queries, keys and values have one each. */
export const SEPARATE_CONVOLUTIONS: ConvolutionParts = [
  'q_conv1d.weight',
  'k_conv1d.weight',
  'v_conv1d.weight',
];

/**
 * Queries, keys and values of the given widths from `qkv` [batch, sequence, channels], in which they stand in this order,
 * after the convolution and SiLU; `state` is the convolution's, and `documents` those of the tokens. The weight is called `conv1d.weight`.
 */
export function convolvedQkv(
  parameters: Parameters,
  qkv: Tensor,
  widths: readonly [number, number, number],
  { convKernel, parts }: { convKernel: number; parts?: ConvolutionParts | undefined },
  state: Tensor | undefined,
  documents: Tensor | undefined,
): { query: Tensor; key: Tensor; value: Tensor; state: Tensor } {
  const weight = parameters.get(
    'conv1d.weight',
    [qkv.shape[2] as number, 1, convKernel],
    uniform(1 / Math.sqrt(convKernel)),
    parts && { parts: parts.map((name, i) => ({ name, shape: [widths[i]!, 1, convKernel] })) },
  );
  const convolution = causalConvolution(qkv, weight, undefined, state, documents);
  const [query, key, value] = split(silu(convolution.output), -1, widths) as [Tensor, Tensor, Tensor];
  return { query, key, value, state: convolution.state };
}

/** Added to the squared length of a query or key: one of zeros stays so. */
const LENGTH_EPSILON = 1e-6;

/** Each head of x [batch, sequence, heads * size] scaled to the given length: RMS normalisation in other units. */
export function withLength(x: Tensor, size: number, length: number): Tensor {
  const [batch, sequence, width] = x.shape as [Dim, Dim, number];
  const heads = reshape(x, [batch, sequence, width / size, size]);
  const scaled = normalize(heads, fill([size], length / Math.sqrt(size)), LENGTH_EPSILON / size);
  return reshape(scaled, x.shape);
}

/** Each head of x [batch, sequence, heads * size] normalised on its own, with one weight [size] for all. */
export function normalizedHeads(parameters: Parameters, x: Tensor, size: number, epsilon: number): Tensor {
  const [batch, sequence, width] = x.shape as [Dim, Dim, number];
  const heads = reshape(x, [batch, sequence, width / size, size]);
  return reshape(rmsNorm(parameters, heads, { epsilon }), x.shape);
}
