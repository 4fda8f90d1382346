/** Element-wise operators: binary with NumPy's broadcasting, unary, and selection. */

import { ShapeError } from '../../errors.js';
import type { DType } from '../dtype.js';
import { type OnnxBuilder, onnxNode } from '../lower/onnx/builder.js';
import {
  erf as erfInHlo,
  hloBinary,
  hloCast,
  hloComparison,
  hloFunction,
  hloUnary,
  hloWhere,
  softplus as softplusInHlo,
} from '../lower/stablehlo/elementwise.js';
import { castInWasm, wasmMap } from '../lower/wasm/operators.js';
import { broadcastShapes, sameShape } from '../shape.js';
import {
  applyOne,
  definePrimitive,
  type Lowerings,
  type Primitive,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { sumTo } from './broadcast.js';
import { lift } from './constant.js';
import { floatOnly } from './infer.js';

type Inputs = readonly (TensorType | undefined)[];
type Partial = (
  g: Tensor,
  a: Tensor,
  b: Tensor,
  output: Tensor,
) => [(() => Tensor) | undefined, (() => Tensor) | undefined];

function binary(
  name: string,
  lower: Lowerings<null>,
  result: DType | undefined,
  partial?: Partial,
): Primitive<null> {
  return definePrimitive<null>({
    name,
    infer(inputs: Inputs) {
      const [a, b] = inputs as [TensorType, TensorType];
      if (a.dtype !== b.dtype) throw new ShapeError('both operands must have the same dtype');
      const shape = broadcastShapes(a.shape, b.shape);
      if (!shape) throw new ShapeError('the shapes do not broadcast');
      return [{ dtype: result ?? a.dtype, shape }];
    },
    ...(partial && {
      gradient({ inputs, outputs, outputGradients: [g], needs }) {
        const [a, b] = inputs as [Tensor, Tensor];
        const parts = partial(g!, a, b, outputs[0]!);
        return [a, b].map((operand, i) => {
          const part = needs(i) ? parts[i]?.() : undefined;
          return part && !sameShape(part.shape, operand.shape) ? sumTo(part, operand.shape) : part;
        });
      },
    }),
    lower,
  });
}

type Value = Tensor | number;

function pair(operator: Primitive<null>): (a: Value, b: Value) => Tensor {
  return (a, b) => applyOne(operator, [lift(a, b), lift(b, a)], null);
}

/** a + b */
export const add = pair(
  binary(
    'add',
    { onnx: onnxNode('Add'), wasm: wasmMap('add'), stablehlo: hloBinary('add') },
    undefined,
    (g) => [() => g, () => g],
  ),
);

/** a - b */
export const subtract = pair(
  binary(
    'subtract',
    { onnx: onnxNode('Sub'), wasm: wasmMap('subtract'), stablehlo: hloBinary('subtract') },
    undefined,
    (g) => [() => g, () => negate(g)],
  ),
);

/** a * b */
export const multiply = pair(
  binary(
    'multiply',
    { onnx: onnxNode('Mul'), wasm: wasmMap('multiply'), stablehlo: hloBinary('multiply') },
    undefined,
    (g, a, b) => [() => multiply(g, b), () => multiply(g, a)],
  ),
);

const quotient = pair(
  binary(
    'divide',
    { onnx: onnxNode('Div'), wasm: wasmMap('divide'), stablehlo: hloBinary('divide') },
    undefined,
    (g, _, b, y) => [() => divide(g, b), () => negate(divide(multiply(g, y), b))],
  ),
);

/** a / b. For integers the quotient is rounded towards 0, and is 0 where b is 0. */
export function divide(a: Value, b: Value): Tensor {
  const [x, y] = [lift(a, b), lift(b, a)];
  const isWhole = INTEGERS.includes(x.dtype) && x.dtype === y.dtype;
  return isWhole && (typeof b !== 'number' || b === 0 || b === -1) ? wholeQuotient(x, y) : quotient(x, y);
}

const INTEGERS: readonly DType[] = ['int64', 'int32', 'int8', 'uint8'];

/** Integer division without the cases that raise a fatal exception on x86: division by 0, and the least integer divided by -1. */
function wholeQuotient(a: Tensor, b: Tensor): Tensor {
  const isZero = equal(b, 0);
  if (a.dtype === 'uint8') return where(isZero, 0, quotient(a, where(isZero, 1, b)));
  const turns = equal(b, -1);
  const plain = quotient(a, where(or(isZero, turns), 1, b));
  return where(isZero, 0, where(turns, subtract(0, a), plain));
}

/** a ** b for a > 0 */
export const power = pair(
  binary(
    'power',
    { onnx: onnxNode('Pow'), wasm: wasmMap('power'), stablehlo: hloBinary('power') },
    undefined,
    (g, a, b, y) => [
      () => multiply(g, multiply(b, power(a, subtract(b, 1)))),
      () => multiply(g, multiply(y, log(a))),
    ],
  ),
);

/** The larger of a and b; where they are equal the gradient goes to a. */
export const maximum = pair(
  binary(
    'maximum',
    { onnx: onnxNode('Max'), wasm: wasmMap('maximum'), stablehlo: hloBinary('maximum') },
    undefined,
    (g, a, b) => [() => where(greaterOrEqual(a, b), g, 0), () => where(greaterOrEqual(a, b), 0, g)],
  ),
);

/** The smaller of a and b; where they are equal the gradient goes to a. */
export const minimum = pair(
  binary(
    'minimum',
    { onnx: onnxNode('Min'), wasm: wasmMap('minimum'), stablehlo: hloBinary('minimum') },
    undefined,
    (g, a, b) => [() => where(lessOrEqual(a, b), g, 0), () => where(lessOrEqual(a, b), 0, g)],
  ),
);

/** a < b, element by element; operands broadcast. The result is bool. */
export const less = pair(
  binary(
    'less',
    { onnx: onnxNode('Less'), wasm: wasmMap('less', 'bool'), stablehlo: hloComparison('LT') },
    'bool',
  ),
);
/** a <= b, element by element; operands broadcast. The result is bool. */
export const lessOrEqual = pair(
  binary(
    'lessOrEqual',
    { onnx: onnxNode('LessOrEqual'), wasm: wasmMap('lessOrEqual', 'bool'), stablehlo: hloComparison('LE') },
    'bool',
  ),
);
/** a = b, element by element; operands broadcast. The result is bool. */
export const equal = pair(
  binary(
    'equal',
    { onnx: onnxNode('Equal'), wasm: wasmMap('equal', 'bool'), stablehlo: hloComparison('EQ') },
    'bool',
  ),
);
/** Whether both of two bools are true, with broadcasting. */
export const and = pair(
  binary('and', { onnx: onnxNode('And'), wasm: wasmMap('and'), stablehlo: hloBinary('and') }, 'bool'),
);
/** Whether one of two bools is true, with broadcasting. */
export const or = pair(
  binary('or', { onnx: onnxNode('Or'), wasm: wasmMap('or'), stablehlo: hloBinary('or') }, 'bool'),
);
/** a > b */
export const greater = (a: Value, b: Value): Tensor => less(b, a);
/** a >= b */
export const greaterOrEqual = (a: Value, b: Value): Tensor => lessOrEqual(b, a);

function unary(
  name: string,
  lower: Lowerings<null>,
  derivative: (g: Tensor, x: Tensor, y: Tensor) => Tensor,
): (x: Tensor) => Tensor {
  const operator: Primitive<null> = definePrimitive<null>({
    name,
    infer: floatOnly,
    gradient: ({ inputs, outputs, outputGradients: [g] }) => [derivative(g!, inputs[0]!, outputs[0]!)],
    lower,
  });
  return (x) => applyOne(operator, [x], null);
}

/** -x */
export const negate = unary(
  'negate',
  { onnx: onnxNode('Neg'), wasm: wasmMap('negate'), stablehlo: hloUnary('negate') },
  (g) => negate(g),
);
/** e^x */
export const exp = unary(
  'exp',
  { onnx: onnxNode('Exp'), wasm: wasmMap('exp'), stablehlo: hloFunction('exponential', true) },
  (g, _, y) => multiply(g, y),
);
/** The natural logarithm of x. */
export const log = unary(
  'log',
  { onnx: onnxNode('Log'), wasm: wasmMap('log'), stablehlo: hloFunction('log', true) },
  (g, x) => divide(g, x),
);
/** The square root of x. */
export const sqrt = unary(
  'sqrt',
  { onnx: onnxNode('Sqrt'), wasm: wasmMap('sqrt'), stablehlo: hloFunction('sqrt') },
  (g, _, y) => divide(multiply(g, 0.5), y),
);
/** The sine of x, in radians. */
export const sin = unary(
  'sin',
  { onnx: onnxNode('Sin'), wasm: wasmMap('sin'), stablehlo: hloFunction('sine') },
  (g, x) => multiply(g, cos(x)),
);
/** The cosine of x, in radians. */
export const cos = unary(
  'cos',
  { onnx: onnxNode('Cos'), wasm: wasmMap('cos'), stablehlo: hloFunction('cosine') },
  (g, x) => negate(multiply(g, sin(x))),
);
/** The hyperbolic tangent of x. */
export const tanh = unary(
  'tanh',
  { onnx: onnxNode('Tanh'), wasm: wasmMap('tanh'), stablehlo: hloFunction('tanh') },
  (g, _, y) => multiply(g, subtract(1, multiply(y, y))),
);
/** 1 / (1 + exp(-x)) */
export const sigmoid = unary(
  'sigmoid',
  { onnx: onnxNode('Sigmoid'), wasm: wasmMap('sigmoid'), stablehlo: hloFunction('logistic') },
  (g, _, y) => multiply(g, subtract(y, multiply(y, y))),
);
/**
 * max(x, 0) + log(1 + y) with y = exp(-|x|), since ONNX's Softplus takes twice as long on the CPU. The rounding error of 1 + y is corrected to
 * first order, so that small results keep all their digits.
 */
function softplusInOnnx(builder: OnnxBuilder, [x]: readonly string[]): string[] {
  const one = (operator: string, ...operands: string[]): string => builder.emit(operator, operands)[0]!;
  const [zero, unit] = [builder.scalar(0), builder.scalar(1)];
  const y = one('Exp', one('Neg', one('Abs', x!)));
  const sum = one('Add', y, unit);
  const lost = one('Div', one('Sub', y, one('Sub', sum, unit)), sum);
  return [one('Add', one('Max', x!, zero), one('Add', one('Log', sum), lost))];
}

/** log(1 + exp(x)) */
export const softplus = unary(
  'softplus',
  { onnx: softplusInOnnx, wasm: wasmMap('softplus'), stablehlo: hloFunction(softplusInHlo, true) },
  (g, x) => multiply(g, sigmoid(x)),
);
/** |x|; its derivative at 0 is taken as 1. */
export const absolute = unary(
  'absolute',
  { onnx: onnxNode('Abs'), wasm: wasmMap('absolute'), stablehlo: hloUnary('abs') },
  (g, x) => where(less(x, 0), negate(g), g),
);
/** The error function. */
export const erf = unary(
  'erf',
  { onnx: onnxNode('Erf'), wasm: wasmMap('erf'), stablehlo: hloFunction(erfInHlo) },
  (g, x) => multiply(g, multiply(2 / Math.sqrt(Math.PI), exp(negate(multiply(x, x))))),
);

const whereOperator = definePrimitive<null>({
  name: 'where',
  infer(inputs) {
    const [condition, a, b] = inputs as [TensorType, TensorType, TensorType];
    if (condition.dtype !== 'bool') throw new ShapeError('the condition must be bool');
    if (a.dtype !== b.dtype) throw new ShapeError('both branches must have the same dtype');
    const branches = broadcastShapes(a.shape, b.shape);
    const shape = branches && broadcastShapes(condition.shape, branches);
    if (!shape) throw new ShapeError('the shapes do not broadcast');
    return [{ dtype: a.dtype, shape }];
  },
  gradient({ inputs, outputGradients: [g], needs }) {
    const [condition, a, b] = inputs as [Tensor, Tensor, Tensor];
    return [
      undefined,
      needs(1) ? sumTo(where(condition, g!, 0), a.shape) : undefined,
      needs(2) ? sumTo(where(condition, 0, g!), b.shape) : undefined,
    ];
  },
  lower: { onnx: onnxNode('Where'), wasm: wasmMap('where'), stablehlo: hloWhere },
});

/** a where the condition holds, else b. */
export function where(condition: Tensor, a: Value, b: Value): Tensor {
  return applyOne(whereOperator, [condition, lift(a, b), lift(b, a)], null);
}

const notOperator = definePrimitive<null>({
  name: 'not',
  infer: ([x]) => [{ dtype: 'bool', shape: x!.shape }],
  lower: { onnx: onnxNode('Not'), wasm: wasmMap('not'), stablehlo: hloUnary('not') },
});

/** Logical negation. */
export function not(x: Tensor): Tensor {
  return applyOne(notOperator, [x], null);
}

const castOperator = definePrimitive<{ to: DType }>({
  name: 'cast',
  infer: ([x], { to }) => [{ dtype: to, shape: x!.shape }],
  lower: {
    onnx: (builder, [x], { attributes }) => [builder.cast(x!, attributes.to)],
    wasm: (builder, [x], { attributes }) => [castInWasm(builder, x!, attributes.to)],
    stablehlo: (builder, [x], { attributes }) => [hloCast(builder, x!, attributes.to)],
  },
});

/** Converts to another dtype, without a gradient, since integers and booleans have none. */
export function cast(x: Tensor, to: DType): Tensor {
  return x.dtype === to ? x : applyOne(castOperator, [x], { to });
}

const detachOperator = definePrimitive<null>({
  name: 'detach',
  infer: ([x]) => [{ dtype: x!.dtype, shape: x!.shape }],
  lower: { onnx: (_, inputs) => inputs, wasm: (_, [x]) => [x!], stablehlo: (_, [x]) => [x!] },
});

/** x without a gradient (stop-gradient). */
export function detach(x: Tensor): Tensor {
  return applyOne(detachOperator, [x], null);
}

/** A cast between the two precisions of a mixed-precision device; the identity on other devices. */
function precision(name: 'wide' | 'narrow', other: () => (x: Tensor) => Tensor): (x: Tensor) => Tensor {
  const operator = definePrimitive<null>({
    name,
    infer: floatOnly,
    gradient: ({ outputGradients: [g] }) => [other()(g!)],
    lower: {
      onnx: (_, inputs) => inputs,
      wasm: (_, [x]) => [x!],
      stablehlo: (builder, [x]) => [{ ...builder[name](x!), isWeak: false }],
    },
  });
  return (x) => applyOne(operator, [x], null);
}

/** x in float32: for results of products that must be precise, such as time steps. */
export const wide: (x: Tensor) => Tensor = precision('wide', () => narrow);

/** x in the precision of products: for large values that are multiplied next. */
export const narrow: (x: Tensor) => Tensor = precision('narrow', () => wide);
