/** Norms, softmax, losses and the convolution of one token: computed in float32, even for narrower inputs and outputs. */
import type { StableHloBuilder } from './builder.js';
import type { Plain, Value } from './value.js';

/** exp(x) / sum(exp(x)) along the last axis, in the operand's type. */
export function softmax(builder: StableHloBuilder, value: Value): Plain {
  const x = builder.plain(value);
  const { shifted } = shiftedFromTop(builder, x);
  const shares = builder.unary('exponential', shifted);
  return builder.as(builder.binary('divide', shares, sumOfLast(builder, shares)), x.element);
}

/** Its logarithm, in float32. */
export function logSoftmax(builder: StableHloBuilder, value: Value): Plain {
  const { shifted } = shiftedFromTop(builder, builder.plain(value));
  const total = sumOfLast(builder, builder.unary('exponential', shifted));
  return builder.binary('subtract', shifted, builder.unary('log', total));
}

function shiftedFromTop(builder: StableHloBuilder, x: Plain): { shifted: Plain } {
  const last = x.dims.length - 1;
  const wide = builder.wide(x);
  const top = builder.reshape(builder.reduce('maximum', wide, [last]), [...x.dims.slice(0, -1), 1]);
  return { shifted: builder.binary('subtract', wide, top) };
}

function sumOfLast(builder: StableHloBuilder, x: Plain): Plain {
  return builder.reshape(builder.reduce('add', x, [x.dims.length - 1]), [...x.dims.slice(0, -1), 1]);
}

/** The loss of each token [tokens], and the log probabilities [tokens, vocabulary]. */
export function crossEntropy(
  builder: StableHloBuilder,
  [logits, labels]: readonly (Value | undefined)[],
): [Plain, Plain] {
  const logProbabilities = logSoftmax(builder, logits!);
  // A masked sum fuses with the other reductions over the vocabulary; a gather would be a separate pass.
  const chosen = builder.select(
    isLabel(builder, logProbabilities, labels!),
    logProbabilities,
    builder.splat(0, 'f32'),
  );
  return [builder.unary('negate', builder.reduce('add', chosen, [1])), logProbabilities];
}

/** dL/d(logits): (softmax - one-hot) g, in the precision of activations. */
export function crossEntropyGradient(
  builder: StableHloBuilder,
  [logProbabilities, labels, g]: readonly (Value | undefined)[],
): Plain {
  const x = builder.wide(logProbabilities!);
  const column = builder.reshape(builder.wide(g!), [x.dims[0]!, 1]);
  const oneHot = builder.as(isLabel(builder, x, labels!), 'f32');
  const difference = builder.binary('subtract', builder.unary('exponential', x), oneHot);
  return builder.narrow(builder.binary('multiply', difference, column));
}

/** [tokens, vocabulary]: whether a column is the token's label. */
function isLabel(builder: StableHloBuilder, { dims }: Plain, labels: Value): Plain {
  const label = builder.reshape(builder.as(builder.plain(labels), 'i32'), [dims[0]!, 1]);
  return builder.compare('EQ', builder.iota([1, dims[1]!], 1, 'i32'), label);
}

/** x / rms(x) * weight along the last axis, in x's type, and the inverse 1 / rms(x) [..., 1]. */
export function rmsNorm(
  builder: StableHloBuilder,
  [x, weight]: readonly (Value | undefined)[],
  epsilon: number,
): [Plain, Plain] {
  const given = builder.plain(x!);
  const wide = builder.wide(given);
  const squares = sumOfLast(builder, builder.binary('multiply', wide, wide));
  const mean = builder.binary('multiply', squares, builder.splat(1 / given.dims.at(-1)!, 'f32'));
  const inverse = builder.unary('rsqrt', builder.binary('add', mean, builder.splat(epsilon, 'f32')));
  const normal = builder.binary('multiply', builder.binary('multiply', wide, inverse), builder.wide(weight!));
  return [builder.as(normal, given.element), inverse];
}

/** Its dL/dx, from x, weight, the inverse and dL/dy, in x's type. */
export function rmsNormGradient(builder: StableHloBuilder, inputs: readonly (Value | undefined)[]): Plain {
  const [x, weight, inverse, g] = inputs.map((value) => builder.wide(value!)) as [Plain, Plain, Plain, Plain];
  const multiply = (a: Plain, b: Plain): Plain => builder.binary('multiply', a, b);
  const weighed = multiply(g, weight);
  const projection = sumOfLast(builder, multiply(weighed, x));
  const size = builder.splat(1 / x.dims.at(-1)!, 'f32');
  const along = multiply(
    x,
    multiply(projection, multiply(multiply(inverse, inverse), multiply(inverse, size))),
  );
  return builder.as(
    builder.binary('subtract', multiply(weighed, inverse), along),
    builder.plain(inputs[0]!).element,
  );
}

/** Its dL/d(weight), from x, the inverse and dL/dy, in float32. */
export function rmsNormWeightGradient(
  builder: StableHloBuilder,
  inputs: readonly (Value | undefined)[],
): Plain {
  const [x, inverse, g] = inputs.map((value) => builder.wide(value!)) as [Plain, Plain, Plain];
  const product = builder.binary('multiply', builder.binary('multiply', x, inverse), g);
  return builder.reduce(
    'add',
    product,
    product.dims.slice(0, -1).map((_, axis) => axis),
  );
}

/** The causal convolution of one token: output [batch, 1, channels], and the new state [batch, width - 1, channels]. */
export function convolutionStep(
  builder: StableHloBuilder,
  [x, weight, bias, state]: readonly (Value | undefined)[],
): [Plain, Plain] {
  const given = builder.plain(x!);
  const [batch, , channels] = given.dims as [number, number, number];
  const taps = builder.wide(weight!);
  const width = taps.dims[2]!;
  const past = state ? builder.wide(state) : builder.splat(0, 'f32', [batch, width - 1, channels]);
  const all = width === 1 ? builder.wide(given) : builder.concat([past, builder.wide(given)], 1);
  const byTap = builder.transpose(builder.reshape(taps, [channels, width]), [1, 0]);
  const mixed = builder.reduce('add', builder.binary('multiply', all, byTap), [1]);
  const sum = bias ? builder.binary('add', mixed, builder.wide(bias)) : mixed;
  const output = builder.reshape(builder.as(sum, given.element), [batch, 1, channels]);
  return [output, builder.slice(all, 1, 1, width)];
}
