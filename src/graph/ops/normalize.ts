/** Softmax, the cross-entropy loss and RMS normalisation: composites for which devices have fused operators. */

import { ShapeError } from '../../errors.js';
import * as hlo from '../lower/stablehlo/layers.js';
import { softmaxInWasm } from '../lower/wasm/along-axis.js';
import { apply, applyOne, defineComposite, type Tensor, type TensorType } from '../tensor.js';
import { reshape, sum } from './broadcast.js';
import { add, divide, exp, log, multiply, negate, sqrt, subtract } from './elementwise.js';
import { gatherElements, scatterElements } from './indexing.js';
import { matmul } from './matmul.js';
import { max, mean } from './reduce.js';

const lastAxis = { attributes: { axis: { int: -1 } } };

function sameType(inputs: readonly (TensorType | undefined)[]): TensorType[] {
  const x = inputs[0]!;
  if (x.dtype !== 'float32' || x.shape.length === 0)
    throw new ShapeError('the operand must be a float32 vector or more');
  return [{ dtype: x.dtype, shape: x.shape }];
}

const softmaxOperator = defineComposite<null>({
  name: 'softmax',
  infer: sameType,
  gradient({ outputs: [y], outputGradients: [g] }) {
    const weighted = multiply(g!, y!);
    return [subtract(weighted, multiply(y!, sum(weighted, -1, { keepDims: true })))];
  },
  kernels: {
    onnx: (builder, inputs) =>
      builder.fused.has('Softmax') ? builder.emit('Softmax', inputs, lastAxis) : undefined,
    wasm: (builder, [x]) => [softmaxInWasm(builder, x!, false)],
    stablehlo: (builder, [x]) => [hlo.softmax(builder, x!)],
  },
  expand([x]) {
    const shares = exp(subtract(x!, max(x!, -1, { keepDims: true })));
    return [divide(shares, sum(shares, -1, { keepDims: true }))];
  },
});

/** exp(x) / sum(exp(x)) along the last axis. */
export function softmax(x: Tensor): Tensor {
  return applyOne(softmaxOperator, [x], null);
}

const logSoftmaxOperator = defineComposite<null>({
  name: 'logSoftmax',
  infer: sameType,
  gradient: ({ outputs: [y], outputGradients: [g] }) => [
    subtract(g!, multiply(exp(y!), sum(g!, -1, { keepDims: true }))),
  ],
  kernels: {
    onnx: (builder, inputs) =>
      builder.fused.has('LogSoftmax') ? builder.emit('LogSoftmax', inputs, lastAxis) : undefined,
    wasm: (builder, [x]) => [softmaxInWasm(builder, x!, true)],
    stablehlo: (builder, [x]) => [hlo.logSoftmax(builder, x!)],
  },
  expand: ([x]) => [subtract(x!, reshape(logSumExp(x!), [...x!.shape.slice(0, -1), 1]))],
});

/** log(softmax(x)) along the last axis. */
export function logSoftmax(x: Tensor): Tensor {
  return applyOne(logSoftmaxOperator, [x], null);
}

/** log(sum(exp(x))) along the last axis, without overflow. */
export function logSumExp(x: Tensor): Tensor {
  const largest = max(x, -1, { keepDims: true });
  return add(log(sum(exp(subtract(x, largest)), -1)), reshape(largest, x.shape.slice(0, -1)));
}

const crossEntropyOperator = defineComposite<null>({
  name: 'crossEntropy',
  infer([logits, labels]) {
    const [rows, vocabulary] = logits!.shape;
    if (logits!.shape.length !== 2 || labels!.shape.length !== 1 || labels!.shape[0] !== rows) {
      throw new ShapeError('expected logits [tokens, vocabulary] and labels [tokens]');
    }
    return [
      { dtype: 'float32', shape: [rows!] },
      { dtype: 'float32', shape: [rows!, vocabulary!] },
    ];
  },
  gradient({ inputs: [, labels], outputs: [, logProbabilities], outputGradients: [g] }) {
    return [applyOne(crossEntropyGradientOperator, [logProbabilities, labels, g], null), undefined];
  },
  kernels: { stablehlo: (builder, inputs) => hlo.crossEntropy(builder, inputs) },
  expand([logits, labels]) {
    const logProbabilities = logSoftmax(logits!);
    const picked = gatherElements(logProbabilities, reshape(labels!, [-1, 1]), 1);
    return [negate(reshape(picked, [-1])), logProbabilities];
  },
});

/** (softmax - one-hot) g, from log probabilities, labels and g. */
const crossEntropyGradientOperator = defineComposite<null>({
  name: 'crossEntropyGradient',
  infer: ([logProbabilities]) => [{ dtype: 'float32', shape: logProbabilities!.shape }],
  kernels: { stablehlo: (builder, inputs) => [hlo.crossEntropyGradient(builder, inputs)] },
  expand([logProbabilities, labels, g]) {
    // In three passes over the logits, which are the largest tensor of a training step.
    const column = reshape(g!, [-1, 1]);
    const probabilities = multiply(exp(logProbabilities!), column);
    return [scatterElements(probabilities, reshape(labels!, [-1, 1]), negate(column), 1)];
  },
});

/** -log softmax(logits)[label] for each token: logits [tokens, vocabulary], int64 labels [tokens] -> [tokens], in nats. */
export function crossEntropy(logits: Tensor, labels: Tensor): Tensor {
  return apply(crossEntropyOperator, [logits, labels], null)[0]!;
}

const rmsNormOperator = defineComposite<{ epsilon: number }>({
  name: 'rmsNorm',
  infer([x, weight]) {
    if (weight!.shape.length !== 1 || weight!.shape[0] !== x!.shape.at(-1)) {
      throw new ShapeError('the weight must be a vector of the size of the last axis');
    }
    return [
      { dtype: x!.dtype, shape: x!.shape },
      { dtype: x!.dtype, shape: [...x!.shape.slice(0, -1), 1] },
    ];
  },
  gradient({ inputs, outputs, outputGradients: [g], needs }) {
    const [x, weight] = inputs as [Tensor, Tensor];
    const inverse = outputs[1]!;
    // Used by both gradients.
    const product = multiply(g!, x);
    return [
      needs(0) ? applyOne(rmsNormGradientOperator, [x, weight, inverse, g, product], null) : undefined,
      needs(1) ? applyOne(rmsNormWeightGradientOperator, [x, inverse, g, product], null) : undefined,
    ];
  },
  kernels: {
    onnx(builder, inputs, { attributes: { epsilon }, outputs }) {
      const name = builder.used.has(outputs[1]!)
        ? 'SimplifiedLayerNormalization+inverse'
        : 'SimplifiedLayerNormalization';
      if (!builder.fused.has(name)) return undefined;
      return builder.emit('SimplifiedLayerNormalization', inputs, {
        attributes: { axis: { int: -1 }, epsilon: { float: epsilon }, stash_type: { int: 1 } },
        outputs: builder.used.has(outputs[1]!) ? 2 : 1,
      });
    },
    wasm: (builder, [x, weight], { attributes: { epsilon }, outputs }) =>
      builder.products.rmsNorm(x!, weight!, epsilon, builder.used.has(outputs[1]!)),
    stablehlo: (builder, inputs, { attributes: { epsilon } }) => hlo.rmsNorm(builder, inputs, epsilon),
  },
  expand([x, weight], { epsilon }) {
    const inverse = divide(1, sqrt(add(mean(multiply(x!, x!), -1, { keepDims: true }), epsilon)));
    return [multiply(multiply(x!, inverse), weight!), inverse];
  },
});

/**
 * dL/dx, from x, the weight, the inverse, g = dL/dy, and g x. The sum of g x weight over a row is a matrix product of g x and the weight,
 * which needs no further intermediate.
 */
const rmsNormGradientOperator = defineComposite<null>({
  name: 'rmsNormGradient',
  infer: ([x]) => [{ dtype: 'float32', shape: x!.shape }],
  kernels: { stablehlo: (builder, inputs) => [hlo.rmsNormGradient(builder, inputs.slice(0, 4))] },
  expand(inputs) {
    const [x, weight, inverse, g, product] = inputs as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const size = weight.shape[0] as number;
    const rows = reshape(product, [-1, size]);
    const projection = reshape(matmul(rows, reshape(weight, [size, 1])), inverse.shape);
    const cubed = multiply(multiply(inverse, inverse), multiply(inverse, 1 / size));
    const along = multiply(x, multiply(projection, cubed));
    return [subtract(multiply(multiply(g, weight), inverse), along)];
  },
});

/** dL/d(weight), from x, the inverse, g and g x: columns are summed in the same way. */
const rmsNormWeightGradientOperator = defineComposite<null>({
  name: 'rmsNormWeightGradient',
  infer: ([x]) => [{ dtype: 'float32', shape: [x!.shape.at(-1)!] }],
  kernels: { stablehlo: (builder, inputs) => [hlo.rmsNormWeightGradient(builder, inputs.slice(0, 3))] },
  expand(inputs) {
    const [x, inverse, , product] = inputs as [Tensor, Tensor, Tensor, Tensor];
    const size = x.shape.at(-1)!;
    const rows = reshape(product, [-1, size]);
    return [reshape(matmul(reshape(inverse, [-1, 1]), rows, { transposeA: true }), [size])];
  },
});

/** x / sqrt(mean(x^2) + epsilon) * weight along the last axis (Zhang & Sennrich, 2019). x [..., size], weight [size]. */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  return apply(rmsNormOperator, [x, weight], { epsilon })[0]!;
}
