/** Element-wise operators of one operand. */
import { ShapeError } from '../../errors.js';
import { ELEMENT_TYPES } from '../onnx/proto.js';
import {
  applyOne,
  type DType,
  defineOperator,
  expansionIsUsed,
  type Node,
  type Operator,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { add, divide, less, maximum, multiply, subtract, where } from './arithmetic.js';

function unary(
  name: string,
  onnx: string,
  derivative: (g: Tensor, x: Tensor, y: Tensor) => Tensor,
): (x: Tensor) => Tensor {
  const operator: Operator<null> = defineOperator<null>({
    name,
    infer: floatOnly,
    gradient: ({ inputs, outputs, outputGradients: [g] }) => [derivative(g!, inputs[0]!, outputs[0]!)],
    lower: (builder, inputs) => builder.emit(onnx, inputs),
  });
  return (x) => applyOne(operator, [x], null);
}

function floatOnly(inputs: readonly (TensorType | undefined)[]): TensorType[] {
  const x = inputs[0]!;
  if (x.dtype !== 'float32') throw new ShapeError('the operand must be float32');
  return [{ dtype: x.dtype, shape: x.shape }];
}

export const negate = unary('negate', 'Neg', (g) => negate(g));
export const exp = unary('exp', 'Exp', (g, _, y) => multiply(g, y));
export const log = unary('log', 'Log', (g, x) => divide(g, x));
export const sqrt = unary('sqrt', 'Sqrt', (g, _, y) => divide(multiply(g, 0.5), y));
export const sin = unary('sin', 'Sin', (g, x) => multiply(g, cos(x)));
export const cos = unary('cos', 'Cos', (g, x) => negate(multiply(g, sin(x))));
export const tanh = unary('tanh', 'Tanh', (g, _, y) => multiply(g, subtract(1, multiply(y, y))));
/** 1 / (1 + exp(-x)) */
export const sigmoid = unary('sigmoid', 'Sigmoid', (g, _, y) => multiply(g, subtract(y, multiply(y, y))));
/** log(1 + exp(x)) */
export const softplus = unary('softplus', 'Softplus', (g, x) => multiply(g, sigmoid(x)));
/** |x|; its derivative at 0 is taken as 1. */
export const absolute = unary('absolute', 'Abs', (g, x) => where(less(x, 0), negate(g), g));
/** The error function. */
export const erf = unary('erf', 'Erf', (g, x) =>
  multiply(g, multiply(2 / Math.sqrt(Math.PI), exp(negate(multiply(x, x))))),
);

const notOperator = defineOperator<null>({
  name: 'not',
  infer: ([x]) => [{ dtype: 'bool', shape: x!.shape }],
  lower: (builder, inputs) => builder.emit('Not', inputs),
});

/** Logical negation. */
export function not(x: Tensor): Tensor {
  return applyOne(notOperator, [x], null);
}

const castOperator = defineOperator<{ to: DType }>({
  name: 'cast',
  infer: ([x], { to }) => [{ dtype: to, shape: x!.shape }],
  lower: (builder, inputs, { attributes }) =>
    builder.emit('Cast', inputs, { attributes: { to: { int: ELEMENT_TYPES[attributes.to] } } }),
});

/** Converts to another dtype. No gradient flows: integers and truth values have none. */
export function cast(x: Tensor, to: DType): Tensor {
  return x.dtype === to ? x : applyOne(castOperator, [x], { to });
}

const detachOperator = defineOperator<null>({
  name: 'detach',
  infer: ([x]) => [{ dtype: x!.dtype, shape: x!.shape }],
  lower: (_, inputs) => inputs,
});

/** x, through which no gradient flows. */
export function detach(x: Tensor): Tensor {
  return applyOne(detachOperator, [x], null);
}

const siluOperator = defineOperator<null>({
  name: 'silu',
  infer: floatOnly,
  gradient({ inputs, outputs, outputGradients: [g] }) {
    // (x s)' = s + x s (1 - s) with s = sigmoid(x): what the output already holds is not computed again.
    const s = sigmoid(inputs[0]!);
    const y = outputs[0]!;
    return [multiply(g!, add(s, subtract(y, multiply(y, s))))];
  },
  lower(builder, inputs) {
    if (!builder.fused.has('QuickGelu')) return undefined;
    return builder.emit('QuickGelu', inputs, {
      domain: 'com.microsoft',
      attributes: { alpha: { float: 1 } },
    });
  },
  expand: ([x]) => [multiply(x!, sigmoid(x!))],
});

/** x * sigmoid(x) */
export function silu(x: Tensor): Tensor {
  return applyOne(siluOperator, [x], null);
}

/** max(x, 0); its derivative at 0 is taken as 1. */
export function relu(x: Tensor): Tensor {
  return maximum(x, 0);
}

/** max(x, 0)^2 (So et al., 2021) */
export function relu2(x: Tensor): Tensor {
  const positive = relu(x);
  return multiply(positive, positive);
}

/** x * P(z < x) for a standard normal z (Hendrycks & Gimpel, 2016), exactly. */
export function gelu(x: Tensor): Tensor {
  // ONNX Runtime knows this form, and computes it in one pass.
  return multiply(multiply(x, 0.5), add(erf(divide(x, Math.SQRT2)), 1));
}

const geluTanhOperator = defineOperator<null>({
  name: 'geluTanh',
  infer: floatOnly,
  lower(builder, inputs, node) {
    // The kernel takes no scalars.
    const fits = builder.fused.has('FastGelu') && node.outputs[0]!.rank > 0;
    if (!fits || expansionIsUsed(node as Node, builder.used)) return undefined;
    return builder.emit('FastGelu', inputs, { domain: 'com.microsoft' });
  },
  expand([x]) {
    const cubic = add(x!, multiply(multiply(x!, multiply(x!, x!)), 0.044715));
    return [multiply(multiply(x!, 0.5), add(tanh(multiply(cubic, Math.sqrt(2 / Math.PI))), 1))];
  },
});

/** `gelu` approximated with a tanh, as some checkpoints were trained. */
export function geluTanh(x: Tensor): Tensor {
  return applyOne(geluTanhOperator, [x], null);
}
