/**
 * The short causal convolution with which many mixers let neighbouring tokens meet, and the mixer that LFM2 (Liquid AI,
 * 2025) makes of nothing else, as in transformers' modeling_lfm2.py: it is gated before and after,
 *
 *     B, C, x = in_proj(u)      y = out_proj(C * conv(B * x))
 *
 * State for one sequence: `conv` [convKernel - 1, hiddenSize].
 */
import { causalConvolution, multiply, split, type Tensor } from '../../graph/index.js';
import { linear } from '../layers.js';
import type { Mixer } from '../mixer.js';
import { type Initializer, normal, type Parameters, uniform } from '../parameters.js';

/** The causal convolution of a mixer, one kernel a channel. */
export interface ConvolutionConfig {
  /** Tokens that it covers, the present one included. */
  convKernel: number;
  convBias: boolean;
}

/**
 * The causal convolution of each channel of x [batch, sequence, channels] with `weight` [channels, 1, convKernel], after
 * the `state` of its last convKernel - 1 inputs (zeros by default), within `documents` where there are several.
 */
export function convolve(
  parameters: Parameters,
  x: Tensor,
  { convKernel, convBias }: ConvolutionConfig,
  state?: Tensor,
  documents?: Tensor,
): { output: Tensor; state: Tensor } {
  const channels = x.shape.at(-1) as number;
  const weight = convolutionWeight(parameters, channels, convKernel);
  const bias = convBias ? parameters.get('bias', [channels], initializer(convKernel)) : undefined;
  return causalConvolution(x, weight, bias, state, documents);
}

function convolutionWeight(parameters: Parameters, channels: number, kernel: number): Tensor {
  return parameters.get('weight', [channels, 1, kernel], initializer(kernel));
}

function initializer(kernel: number): Initializer {
  return uniform(1 / Math.sqrt(kernel));
}

/** Sizes of LFM2's gated short convolution. */
export interface ShortConvolutionConfig {
  hiddenSize: number;
  convKernel: number;
  /** Whether the projections and the convolution have biases. */
  bias: boolean;
  outputDeviation: number;
}

/** The mixer for u [batch, sequence, hiddenSize], by the equations at the head of this file. */
export function shortConvolution(config: ShortConvolutionConfig): Mixer {
  const { hiddenSize, convKernel, bias } = config;
  return {
    state: [{ name: 'conv', dtype: 'float32', shape: ['batch', convKernel - 1, hiddenSize], initial: 0 }],
    forward(parameters, u, { state, documents, observe }) {
      const projected = parameters.within('in_proj', (p) => linear(p, u, 3 * hiddenSize, { bias }));
      const [B, C, x] = split(projected, -1, [hiddenSize, hiddenSize, hiddenSize]) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const convolution = parameters.within('conv', (p) => {
        observe?.({
          kind: 'convolution',
          weight: convolutionWeight(p, hiddenSize, convKernel),
          before: B,
          after: C,
        });
        return convolve(p, multiply(B, x), { convKernel, convBias: bias }, state?.conv, documents);
      });
      const output = parameters.within('out_proj', (p) =>
        linear(p, multiply(C, convolution.output), hiddenSize, {
          bias,
          initialize: normal(config.outputDeviation),
        }),
      );
      return { output, state: { conv: convolution.state } };
    },
  };
}
