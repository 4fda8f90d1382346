/** Softmax, the cross-entropy loss and RMS normalisation: composites for which devices have fused operators. */

import { ShapeError } from '../../errors.js';
import { softmaxInWasm } from '../lower/wasm/layers.js';
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
    // (softmax - one-hot) g in three passes over the logits; they are the largest tensor of a training step.
    const column = reshape(g!, [-1, 1]);
    const probabilities = multiply(exp(logProbabilities!), column);
    return [scatterElements(probabilities, reshape(labels!, [-1, 1]), negate(column), 1), undefined];
  },
  expand([logits, labels]) {
    const logProbabilities = logSoftmax(logits!);
    const picked = gatherElements(logProbabilities, reshape(labels!, [-1, 1]), 1);
    return [negate(reshape(picked, [-1])), logProbabilities];
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
    // Rows and columns are summed as matrix products: they read what the sums would first have to write.
    const [x, weight] = inputs as [Tensor, Tensor];
    const size = weight.shape[0] as number;
    const inverse = outputs[1]!;
    const product = multiply(g!, x);
    const rows = reshape(product, [-1, size]);
    const gradientX = (): Tensor => {
      const projection = reshape(matmul(rows, reshape(weight, [size, 1])), inverse.shape);
      const cubed = multiply(multiply(inverse, inverse), multiply(inverse, 1 / size));
      const along = multiply(x, multiply(projection, cubed));
      return subtract(multiply(multiply(g!, weight), inverse), along);
    };
    const gradientWeight = (): Tensor =>
      reshape(matmul(reshape(inverse, [-1, 1]), rows, { transposeA: true }), [size]);
    return [needs(0) ? gradientX() : undefined, needs(1) ? gradientWeight() : undefined];
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
      builder.rmsNorm(x!, weight!, epsilon, builder.used.has(outputs[1]!)),
  },
  expand([x, weight], { epsilon }) {
    const inverse = divide(1, sqrt(add(mean(multiply(x!, x!), -1, { keepDims: true }), epsilon)));
    return [multiply(multiply(x!, inverse), weight!), inverse];
  },
});

/** x / sqrt(mean(x^2) + epsilon) * weight along the last axis (Zhang & Sennrich, 2019). x [..., size], weight [size]. */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon: number): Tensor {
  return apply(rmsNormOperator, [x, weight], { epsilon })[0]!;
}
