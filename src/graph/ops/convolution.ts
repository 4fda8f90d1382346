/** The short causal depthwise convolution of state-space layers, and its state. */

import { ShapeError } from '../../errors.js';
import type { OnnxBuilder } from '../lower/onnx/builder.js';
import { convolutionStep } from '../lower/stablehlo/layers.js';
import { convolutionInWasm } from '../lower/wasm/layers.js';
import { addDims, type Dim, sameShape } from '../shape.js';
import { apply, defineComposite, type Tensor } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { fill, zeros } from './constant.js';
import { keptTokens, lastDocument, sameDocument } from './documents.js';
import { add, multiply } from './elementwise.js';
import { concat, pad, reverse, slice, transpose } from './layout.js';
import { matmul } from './matmul.js';

const convolutionOperator = defineComposite<null>({
  name: 'causalConvolution',
  infer([x, weight, bias, state]) {
    const [batch, sequence, channels] = x!.shape;
    const width = weight!.shape[2];
    if (
      x!.shape.length !== 3 ||
      weight!.shape.length !== 3 ||
      weight!.shape[0] !== channels ||
      weight!.shape[1] !== 1
    ) {
      throw new ShapeError('expected x [batch, sequence, channels] and a weight [channels, 1, width]');
    }
    if (typeof width !== 'number') throw new ShapeError('the width of the weight must be a number');
    if (bias && (bias.shape.length !== 1 || bias.shape[0] !== channels)) {
      throw new ShapeError(`the bias must be [${channels}]`);
    }
    const stateShape = [batch!, width - 1, channels!];
    if (state && !sameShape(state.shape, stateShape)) {
      throw new ShapeError(`the state must be [${stateShape}]`);
    }
    return [
      { dtype: 'float32', shape: [batch!, sequence!, channels!] },
      { dtype: 'float32', shape: stateShape },
    ];
  },
  gradient({ inputs, outputs, outputGradients: [outputGradient, stateGradient], needs }) {
    const [x, weight, bias, state] = inputs as [Tensor, Tensor, Tensor | undefined, Tensor | undefined];
    const g = outputGradient ?? zeros(outputs[0]!.shape);
    const width = weight.shape[2] as number;
    const sequence = x.shape[1]!;
    const padded = withPast(x, state, width);
    const gradientPadded = (): Tensor => {
      // The gradient is also a causal convolution: of g, padded with zeros at the end, with the reversed weight.
      const through = causalConvolution(pad(g, 1, 0, width - 1), reverse(weight, 2)).output;
      return stateGradient ? add(through, pad(stateGradient, 1, sequence, 0)) : through;
    };
    const gradientWeight = (): Tensor =>
      concat(
        Array.from({ length: width }, (_, k) =>
          reshape(sum(multiply(g, slice(padded, 1, k, addDims(k, sequence))), [0, 1]), [-1, 1, 1]),
        ),
        2,
      );
    const dPadded = needs(0) || needs(3) ? gradientPadded() : undefined;
    return [
      needs(0) ? slice(dPadded!, 1, width - 1, dPadded!.shape[1]!) : undefined,
      needs(1) ? gradientWeight() : undefined,
      bias && needs(2) ? sum(g, [0, 1]) : undefined,
      state && needs(3) ? slice(dPadded!, 1, 0, width - 1) : undefined,
    ];
  },
  kernels: {
    onnx(builder, inputs, { inputs: [x, weight], outputs }) {
      const [channels] = weight!.shape;
      const width = weight!.shape[2] as number;
      // With width 1 the state is empty, which makes WebGPU's kernel abort the process, as may zero channels, since both kernels divide by their
      // number.
      if (width === 1 || channels === 0) return undefined;
      const isToken = x!.shape[1] === 1;
      if (builder.fused.has(isToken ? 'CausalConvWithState+token' : 'CausalConvWithState')) {
        return builder.emit('CausalConvWithState', inputs, {
          domain: 'com.microsoft',
          attributes: { channels_last: { int: 1 } },
          outputs: 2,
        });
      }
      // Without an initial state the operator pads with zeros itself, and returns no state.
      if (isToken || !builder.fused.has('Conv') || (!inputs[3] && builder.used.has(outputs[1]!)))
        return undefined;
      // The operator needs the number of channels as an attribute.
      return typeof channels === 'number' ? convInOnnx(builder, inputs, width, channels) : undefined;
    },
    wasm: convolutionInWasm,
    stablehlo: (builder, operands, { inputs }) =>
      builder.resolve(inputs[0]!.shape[1]!) === 1 ? convolutionStep(builder, operands) : undefined,
  },
  expand([x, weight, bias, state]) {
    const width = weight!.shape[2] as number;
    const sequence = x!.shape[1]!;
    const padded = withPast(x!, state, width);
    if (sequence === 1) {
      const taps = transpose(reshape(weight!, [-1, width]), [1, 0]);
      // The sum over rows is computed as a product with ones, which is faster.
      const mixed = matmul(fill([1, width], 1), multiply(padded, taps));
      return [bias ? add(mixed, bias) : mixed, slice(padded, 1, 1, width)];
    }
    const taps = Array.from({ length: width }, (_, k) =>
      multiply(slice(padded, 1, k, addDims(k, sequence)), reshape(slice(weight!, 2, k, k + 1), [-1])),
    );
    const output = [...taps, ...(bias ? [bias] : [])].reduce((total, term) => add(total, term));
    return [output, slice(padded, 1, sequence, padded.shape[1]!)];
  },
});

/** The same as a 2D convolution of height 1, whose kernel processes blocks of channels. */
function convInOnnx(
  builder: OnnxBuilder,
  [x, weight, bias = '', state = '']: readonly string[],
  width: number,
  channels: number,
): string[] {
  const one = (operator: string, operands: string[], attributes = {}): string =>
    builder.emit(operator, operands, { attributes })[0]!;
  const ordered = (value: string, perm: number[]): string =>
    one('Transpose', [value], { perm: { ints: perm } });
  const padded = state === '' ? x! : one('Concat', [state, x!], { axis: { int: 1 } });
  const image = one('Unsqueeze', [padded, builder.ints([1])]);
  const kernel = one('Unsqueeze', [weight!, builder.ints([2])]);
  const mixed = one('Conv', [ordered(image, [0, 3, 1, 2]), kernel, ...(bias === '' ? [] : [bias])], {
    group: { int: channels },
    kernel_shape: { ints: [1, width] },
    pads: { ints: [0, state === '' ? width - 1 : 0, 0, 0] },
  });
  const output = one('Squeeze', [ordered(mixed, [0, 2, 3, 1]), builder.ints([1])]);
  if (state === '') return [output, ''];
  const [from, end, axis] = [[1 - width], [2 ** 31], [1]].map((numbers) => builder.ints(numbers));
  return [output, one('Slice', [padded, from!, end!, axis!])];
}

function withPast(x: Tensor, state: Tensor | undefined, width: number): Tensor {
  const [batch, , channels] = x.shape as [Dim, Dim, Dim];
  return concat([state ?? zeros([batch, width - 1, channels]), x], 1);
}

/**
 * y_t = bias + sum_k weight[:, 0, k] * x_(t - width + 1 + k), each channel on its own. x [batch, sequence, channels],
 * weight [channels, 1, width], bias [channels], and the state: the last width - 1 inputs [batch, width - 1, channels]
 * (zeros by default). Returns `output`, shaped as x, and the new `state`. With `documents` int64 [batch, sequence] (documents.ts) inputs
 * of another document count as 0.
 */
export function causalConvolution(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  state?: Tensor,
  documents?: Tensor,
): { output: Tensor; state: Tensor } {
  if (documents) return withinDocuments(x, weight, bias, state, documents);
  const [output, newState] = apply(convolutionOperator, [x, weight, bias, state], null);
  return { output: output!, state: newState! };
}

/** One tap at a time, with inputs of other documents masked. */
function withinDocuments(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  state: Tensor | undefined,
  documents: Tensor,
): { output: Tensor; state: Tensor } {
  const width = weight.shape[2] as number;
  const sequence = x.shape[1]!;
  const padded = withPast(x, state, width);
  const numbers = pad(documents, 1, width - 1, 0);
  const taps = Array.from({ length: width }, (_, k) => {
    const tap = reshape(slice(weight, 2, k, k + 1), [-1]);
    const isSeen = sameDocument(slice(numbers, 1, k, addDims(sequence, k)), documents);
    return multiply(keptTokens(slice(padded, 1, k, addDims(sequence, k)), isSeen), tap);
  });
  const end = addDims(sequence, width - 1);
  const isLast = sameDocument(slice(numbers, 1, sequence, end), lastDocument(documents));
  return {
    output: [...taps, ...(bias ? [bias] : [])].reduce((total, term) => add(total, term)),
    state: keptTokens(slice(padded, 1, sequence, end), isLast),
  };
}
