/** 2D convolution, dense or depthwise. */
import { ShapeError } from '../../errors.js';
import type { OnnxBuilder } from '../lower/onnx/builder.js';
import { type Dim, multiplyDims } from '../shape.js';
import { applyOne, defineComposite, type Tensor, type TensorType } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { causalConvolution } from './convolution.js';
import { depthToSpace } from './depth.js';
import { add, multiply } from './elementwise.js';
import { concat, pad, reverse, slice, transpose } from './layout.js';
import { matmul } from './matmul.js';

interface ConvolutionAttributes {
  /** The stride of rows and columns. */
  readonly stride: number;
  /** Zero padding, in ONNX's order: top, left, bottom, right. */
  readonly pads: readonly [top: number, left: number, bottom: number, right: number];
}

/** The sizes of the operands, which must all be known except for the batch. */
interface Sizes {
  readonly batch: Dim;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly outputs: number;
  readonly kernel: readonly [rows: number, columns: number];
  readonly isDepthwise: boolean;
  /** The rows and columns of the result. */
  readonly rows: number;
  readonly columns: number;
}

const convolution2dOperator = defineComposite<ConvolutionAttributes>({
  name: 'convolution2d',
  infer([x, weight], attributes) {
    const { batch, rows, columns, outputs } = sizesOf(x!, weight!, attributes);
    if (rows < 1 || columns < 1) throw new ShapeError('the image is smaller than the kernel');
    return [{ dtype: 'float32', shape: [batch, rows, columns, outputs] }];
  },
  gradient({ inputs: [x, weight], attributes, outputGradients: [g], needs }) {
    const sizes = sizesOf(x!, weight!, attributes);
    return [
      needs(0) ? gradientOfImage(g!, weight!, sizes, attributes) : undefined,
      needs(1) ? gradientOfWeight(g!, x!, sizes, attributes) : undefined,
    ];
  },
  kernels: {
    onnx(builder, [x, weight], { inputs, attributes }) {
      const sizes = sizesOf(inputs[0]!, inputs[1]!, attributes);
      // ONNX Runtime divides by the number of channels, so 0 would crash the process.
      if (!builder.fused.has('Conv') || sizes.channels === 0 || sizes.outputs === 0) return undefined;
      return [convInOnnx(builder, x!, weight!, sizes, attributes)];
    },
  },
  expand([x, weight], attributes) {
    const sizes = sizesOf(x!, weight!, attributes);
    if (!sizes.isDepthwise) {
      const { channels, outputs, kernel } = sizes;
      const matrix = transpose(weight!, [2, 3, 1, 0]);
      return [
        matmul(
          concat(tapsOf(x!, sizes, attributes), -1),
          reshape(matrix, [kernel[0] * kernel[1] * channels, outputs]),
        ),
      ];
    }
    return [
      attributes.stride === 1
        ? depthwiseByRows(x!, weight!, sizes, attributes)
        : depthwiseByTaps(x!, weight!, sizes, attributes),
    ];
  },
});

function sizesOf(x: TensorType, weight: TensorType, { stride, pads }: ConvolutionAttributes): Sizes {
  const [batch, height, width, channels] = x.shape;
  const [outputs, inner, ...kernel] = weight.shape;
  const known = [height, width, channels, outputs, inner, ...kernel];
  if (x.shape.length !== 4 || weight.shape.length !== 4 || known.some((dim) => typeof dim !== 'number')) {
    throw new ShapeError(
      'expected x [batch, height, width, channels] and a weight [outputs, channels, rows, columns], all known but the batch',
    );
  }
  const isDepthwise = inner === 1 && channels !== 1;
  if (isDepthwise ? outputs !== channels : inner !== channels) {
    throw new ShapeError(
      `the weight must be [outputs, ${channels}, rows, columns], or [${channels}, 1, rows, columns] for each channel on its own`,
    );
  }
  const places = (size: number, before: number, after: number, span: number): number =>
    Math.floor((size + before + after - span) / stride) + 1;
  const [rows, columns] = kernel as [number, number];
  return {
    batch: batch!,
    height: height as number,
    width: width as number,
    channels: channels as number,
    outputs: outputs as number,
    kernel: [rows, columns],
    isDepthwise,
    rows: places(height as number, pads[0], pads[2], rows),
    columns: places(width as number, pads[1], pads[3], columns),
  };
}

/** For each tap of the kernel, in row-major order, its inputs: [batch, rows, columns, channels]. */
function tapsOf(
  x: Tensor,
  { height, width, channels, batch, kernel, rows, columns }: Sizes,
  { stride, pads }: ConvolutionAttributes,
): Tensor[] {
  // The image is padded at the bottom and right so that the last tap can be sliced in whole strides.
  const room = (size: number, before: number, after: number, span: number, count: number): number =>
    Math.max(after, span - 1 + stride * count - size - before);
  const [top, left, bottom, right] = pads;
  const padded = pad(
    pad(x, 1, top, room(height, top, bottom, kernel[0], rows)),
    2,
    left,
    room(width, left, right, kernel[1], columns),
  );
  const all = padded.shape[2] as number;
  return Array.from({ length: kernel[0] }, (_, i) => {
    const band = slice(padded, 1, i, i + stride * rows);
    const own = stride === 1 ? band : firstOf(band, [batch, rows, stride, all, channels]);
    return Array.from({ length: kernel[1] }, (_, j) => {
      const part = slice(own, 2, j, j + stride * columns);
      return stride === 1
        ? part
        : reshape(firstOf(part, [batch, rows, columns, stride, channels], 3), [
            batch,
            rows,
            columns,
            channels,
          ]);
    });
  }).flat();
}

/** The first element of each stride along an axis, which is removed. */
function firstOf(x: Tensor, shape: readonly Dim[], axis = 2): Tensor {
  const first = slice(reshape(x, shape), axis, 0, 1);
  return reshape(
    first,
    shape.filter((_, i) => i !== axis),
  );
}

/** A depthwise convolution as a sum over taps, each with one factor for each channel. */
function depthwiseByTaps(x: Tensor, weight: Tensor, sizes: Sizes, attributes: ConvolutionAttributes): Tensor {
  const { channels, kernel } = sizes;
  const factors = reshape(weight, [channels, kernel[0] * kernel[1]]);
  return tapsOf(x, sizes, attributes)
    .map((tap, i) => multiply(tap, reshape(slice(factors, 1, i, i + 1), [channels])))
    .reduce((total, term) => add(total, term));
}

/** A depthwise convolution as a sum over the kernel's rows, each a 1D causal convolution, for which targets have kernels. */
function depthwiseByRows(
  x: Tensor,
  weight: Tensor,
  { batch, channels, kernel, rows, columns }: Sizes,
  { pads: [top, left, bottom, right] }: ConvolutionAttributes,
): Tensor {
  const padded = pad(pad(x, 1, top, bottom), 2, left, right);
  const all = padded.shape[2] as number;
  return Array.from({ length: kernel[0] }, (_, i) => {
    const lines = reshape(slice(padded, 1, i, i + rows), [multiplyDims([batch, rows]), all, channels]);
    const own = reshape(slice(weight, 2, i, i + 1), [channels, 1, kernel[1]]);
    // The first results see zero padding.
    const { output } = causalConvolution(lines, own);
    return slice(output, 1, kernel[1] - 1, kernel[1] - 1 + columns);
  })
    .map((each) => reshape(each, [batch, rows, columns, channels]))
    .reduce((total, term) => add(total, term));
}

/**
 * dL/dx: a convolution of the output gradient with the flipped kernel. With a stride, the rows and the columns of the image fall into classes by
 * their remainder, each reached by other taps of the kernel: the convolution returns the classes as channels. A gradient that is dilated with
 * zeros would take up to stride * stride times as many products.
 */
function gradientOfImage(
  g: Tensor,
  weight: Tensor,
  sizes: Sizes,
  { stride, pads: [top, left] }: ConvolutionAttributes,
): Tensor {
  const { height, width, channels, kernel, rows, columns, isDepthwise } = sizes;
  const [outputs, inner] = weight.shape as [number, number];
  const [tall, wide] = kernel.map((size) => Math.ceil(size / stride)) as [number, number];
  const whole = pad(pad(weight, 2, 0, tall * stride - kernel[0]), 3, 0, wide * stride - kernel[1]);
  const taps = reshape(whole, [outputs, inner, tall, stride, wide, stride]);
  const ordered = transpose(taps, isDepthwise ? [3, 5, 0, 1, 2, 4] : [3, 5, 1, 0, 2, 4]);
  const perClass = reshape(ordered, [stride ** 2 * channels, isDepthwise ? 1 : outputs, tall, wide]);
  // In strides of the padded image, the image begins within (up, before), and ends before (down, across).
  const [up, before] = [Math.floor(top / stride), Math.floor(left / stride)];
  const [down, across] = [Math.ceil((height + top) / stride), Math.ceil((width + left) / stride)];
  const classes = applyOne(
    convolution2dOperator,
    [
      isDepthwise && stride > 1 ? concat(new Array<Tensor>(stride ** 2).fill(g), -1) : g,
      reverse(reverse(perClass, 2), 3),
    ],
    { stride: 1, pads: [tall - 1 - up, wide - 1 - before, down - rows, across - columns] },
  );
  if (stride === 1) return classes;
  const image = depthToSpace(classes, stride);
  const [first, start] = [top - up * stride, left - before * stride];
  return slice(slice(image, 1, first, first + height), 2, start, start + width);
}

function gradientOfWeight(g: Tensor, x: Tensor, sizes: Sizes, attributes: ConvolutionAttributes): Tensor {
  const { batch, channels, outputs, kernel, rows, columns, isDepthwise } = sizes;
  const taps = tapsOf(x, sizes, attributes);
  if (isDepthwise) {
    const each = taps.map((tap) => reshape(sum(multiply(tap, g), [0, 1, 2]), [channels, 1]));
    return reshape(concat(each, 1), [channels, 1, ...kernel]);
  }
  const places = multiplyDims([batch, rows, columns]);
  const patches = reshape(concat(taps, -1), [places, kernel[0] * kernel[1] * channels]);
  const matrix = matmul(patches, reshape(g, [places, outputs]), { transposeA: true });
  return transpose(reshape(matrix, [...kernel, channels, outputs]), [3, 2, 0, 1]);
}

/** ONNX's Conv, whose layout has channels before rows. */
function convInOnnx(
  builder: OnnxBuilder,
  x: string,
  weight: string,
  { channels, kernel, isDepthwise }: Sizes,
  { stride, pads }: ConvolutionAttributes,
): string {
  const ordered = (value: string, perm: number[]): string =>
    builder.emit('Transpose', [value], { attributes: { perm: { ints: perm } } })[0]!;
  const [result] = builder.emit('Conv', [ordered(x, [0, 3, 1, 2]), weight], {
    attributes: {
      group: { int: isDepthwise ? channels : 1 },
      kernel_shape: { ints: [...kernel] },
      strides: { ints: [stride, stride] },
      pads: { ints: [...pads] },
    },
  });
  return ordered(result!, [0, 2, 3, 1]);
}

/**
 * y[b, r, c, o] = sum over i, j, k of weight[o, k, i, j] * x[b, r * stride + i - p, c * stride + j - q, k], with zeros around the image
 * so that a kernel with odd sides is centred: p and q are half of its sides, rounded down. x is
 * [batch, height, width, channels], weight [outputs, channels, rows, columns] as in PyTorch; a weight [channels, 1, rows, columns] is
 * depthwise. Returns [batch, ceil(height / stride), ceil(width / stride), outputs] for odd kernels. Throws
 * `ShapeError`.
 */
export function convolution2d(x: Tensor, weight: Tensor, { stride = 1 }: { stride?: number } = {}): Tensor {
  const [rows, columns] = weight.shape.slice(2).map((dim) => Math.floor(((dim as number) - 1) / 2));
  const pads = [rows ?? 0, columns ?? 0, rows ?? 0, columns ?? 0] as const;
  return applyOne(convolution2dOperator, [x, weight], { stride, pads });
}
