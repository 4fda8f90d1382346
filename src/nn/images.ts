/**
 * Layers for images. Pixels or patches are positions in row-major order, [batch, height * width, channels]; layers that need the grid are told its
 * size. They are not causal and have no state.
 */
import {
  add,
  convolution2d,
  type Dim,
  depthToSpace,
  geluTanh,
  multiplyDims,
  pad,
  relu,
  reshape,
  slice,
  spaceToDepth,
  type Tensor,
} from '../graph/index.js';
import { batchNorm } from './batch-norm.js';
import { stateless } from './compose.js';
import type { Mixer } from './mixer.js';
import { separableAttention } from './mixers/separable-attention.js';
import { constantly, type Parameters, uniform } from './parameters.js';

/** The rows and columns of a grid of positions. */
export interface Grid {
  readonly height: number;
  readonly width: number;
}

/** The options of `convolutionLayer`. */
export interface ConvolutionLayerOptions {
  /** The kernel size, which is odd. */
  readonly kernel: number;
  readonly stride?: number;
  /** Depthwise: each channel separately. */
  readonly depthwise?: boolean;
  readonly bias?: boolean;
}

/** `weight` [outputs, channels, kernel, kernel], named and initialised as PyTorch's Conv2d: x [batch, height, width, channels]. */
export function convolutionLayer(
  parameters: Parameters,
  x: Tensor,
  outputs: number,
  { kernel, stride = 1, depthwise = false, bias = false }: ConvolutionLayerOptions,
): Tensor {
  const inputs = depthwise ? 1 : (x.shape.at(-1) as number);
  const initialize = uniform(1 / Math.sqrt(inputs * kernel ** 2));
  const weight = parameters.get('weight', [outputs, inputs, kernel, kernel], initialize, { precise: true });
  const y = convolution2d(x, weight, { stride });
  return bias ? add(y, parameters.get('bias', [outputs], constantly(0))) : y;
}

/** A convolution named `conv<name>` and its batch norm, `norm<name>`. */
function normedConvolution(
  parameters: Parameters,
  x: Tensor,
  outputs: number,
  options: ConvolutionLayerOptions,
  { name, epsilon }: { name: number | string; epsilon?: number },
): Tensor {
  const y = parameters.within(`conv${name}`, (p) => convolutionLayer(p, x, outputs, options));
  return parameters.within(`norm${name}`, (p) =>
    batchNorm(p, y, { ...(epsilon !== undefined && { epsilon }) }),
  );
}

/** The channels between the convolutions of a stem. */
const STEM_CHANNELS = 32;

/**
 * A convolutional stem: 3x3 convolutions, each with a batch norm and relu, that halve pixels [batch, height, width, colours] until
 * `reduction` of them, a power of two, are one place. With 4 it is that of MambaVision.
 */
export function convolutionalStem(
  parameters: Parameters,
  pixels: Tensor,
  outputs: number,
  reduction: number,
): Tensor {
  const count = Math.max(1, Math.log2(reduction));
  return Array.from({ length: count }, (_, i) => i).reduce((x, i) => {
    const options = { kernel: 3, stride: reduction === 1 ? 1 : 2 };
    const channels = i === count - 1 ? outputs : STEM_CHANNELS;
    return relu(normedConvolution(parameters, x, channels, options, { name: i + 1, epsilon: 1e-4 }));
  }, pixels);
}

/** The grid of an image's patches. */
export interface PlacesConfig {
  readonly hiddenSize: number;
  readonly grid: Grid;
}

/**
 * The branch of MambaVision's convolutional block (Hatamizadeh & Kautz, 2024, arXiv 2407.08083): norm2(conv2(gelu(norm1(conv1(x))))) with 3x3
 * convolutions, batch norms, and the tanh approximation of gelu.
 */
export function convolutionalBlock({ hiddenSize, grid }: PlacesConfig): Mixer {
  return stateless((parameters, x) => {
    const convolved = (image: Tensor, name: number): Tensor =>
      normedConvolution(parameters, image, hiddenSize, { kernel: 3 }, { name });
    return inARow(convolved(geluTanh(convolved(onGrid(x, grid), 1)), 2));
  });
}

/**
 * The branch of VMINet's block (arXiv 2501.02040; the authors' vminet.py): separable self-attention of norm(conv(x)) with a 7x7 depthwise
 * convolution, followed by a batch norm. It has no other norm and no MLP.
 */
export function separableBlock(
  config: PlacesConfig & { readonly expansion: number; readonly outputDeviation: number },
): Mixer {
  const { hiddenSize, grid, expansion, outputDeviation } = config;
  const places = grid.height * grid.width;
  const attention = separableAttention({ hiddenSize, expansion, places, outputDeviation });
  return {
    state: [],
    forward(parameters, x, context) {
      const options = { kernel: 7, depthwise: true, bias: true };
      const local = normedConvolution(parameters, onGrid(x, grid), hiddenSize, options, { name: '' });
      const { output } = attention.forward(parameters, inARow(local), context);
      return { output: parameters.within('out_norm', (p) => batchNorm(p, output)), state: {} };
    },
  };
}

/** The grid after downsampling by 2. */
export function halvedGrid({ height, width }: Grid): Grid {
  return { height: Math.ceil(height / 2), width: Math.ceil(width / 2) };
}

/**
 * Downsampling between stages, as in VMINet: halves rows and columns and doubles the channels, by a 3x3 convolution and a batch norm.
 */
export function halving({ hiddenSize, grid }: PlacesConfig): Mixer {
  return stateless((parameters, x) =>
    inARow(
      normedConvolution(parameters, onGrid(x, grid), 2 * hiddenSize, { kernel: 3, stride: 2 }, { name: '' }),
    ),
  );
}

/**
 * Applies `mixer` separately to windows of `side` x `side` positions (Swin: Liu et al., 2021, arXiv 2103.14030), without shifts. Windows that
 * exceed the image are padded with zeros.
 */
export function inWindows(mixer: Mixer, grid: Grid, side: number): Mixer {
  const { height, width } = grid;
  if (height <= side && width <= side) return mixer;
  const [rows, columns] = [Math.ceil(height / side), Math.ceil(width / side)];
  return {
    state: mixer.state,
    forward(parameters, x, context) {
      const [batch, , channels] = x.shape as [Dim, Dim, number];
      const image = pad(pad(onGrid(x, grid), 1, 0, rows * side - height), 2, 0, columns * side - width);
      const windows = reshape(spaceToDepth(image, side), [
        multiplyDims([batch, rows * columns]),
        side * side,
        channels,
      ]);
      const { output } = mixer.forward(parameters, windows, context);
      const whole = depthToSpace(reshape(output, [batch, rows, columns, side * side * channels]), side);
      return { output: inARow(slice(slice(whole, 1, 0, height), 2, 0, width)), state: {} };
    },
  };
}

/** [batch, height * width, channels] -> [batch, height, width, channels] */
function onGrid(x: Tensor, { height, width }: Grid): Tensor {
  const [batch, , channels] = x.shape as [Dim, Dim, number];
  return reshape(x, [batch, height, width, channels]);
}

/** [batch, height, width, channels] -> [batch, height * width, channels] */
export function inARow(x: Tensor): Tensor {
  const [batch, height, width, channels] = x.shape as [Dim, number, number, number];
  return reshape(x, [batch, height * width, channels]);
}
