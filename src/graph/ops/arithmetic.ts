/** Element-wise operators of two operands, with NumPy's broadcasting. */
import { ShapeError } from '../../errors.js';
import { broadcastShapes, sameShape } from '../shape.js';
import {
  applyOne,
  type DType,
  defineOperator,
  type Operator,
  type Tensor,
  type TensorType,
} from '../tensor.js';
import { lift } from './constant.js';
import { log, negate } from './elementwise.js';
import { sumTo } from './reduce.js';

type Inputs = readonly (TensorType | undefined)[];
type Partial = (
  g: Tensor,
  a: Tensor,
  b: Tensor,
  output: Tensor,
) => [(() => Tensor) | undefined, (() => Tensor) | undefined];

function binary(name: string, onnx: string, result: DType | undefined, partial?: Partial): Operator<null> {
  return defineOperator<null>({
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
    lower: (builder, inputs) => builder.emit(onnx, inputs),
  });
}

type Value = Tensor | number;

function pair(operator: Operator<null>): (a: Value, b: Value) => Tensor {
  return (a, b) => applyOne(operator, [lift(a, b), lift(b, a)], null);
}

/** a + b */
export const add = pair(binary('add', 'Add', undefined, (g) => [() => g, () => g]));

/** a - b */
export const subtract = pair(binary('subtract', 'Sub', undefined, (g) => [() => g, () => negate(g)]));

/** a * b */
export const multiply = pair(
  binary('multiply', 'Mul', undefined, (g, a, b) => [() => multiply(g, b), () => multiply(g, a)]),
);

/** a / b */
export const divide = pair(
  binary('divide', 'Div', undefined, (g, _, b, y) => [
    () => divide(g, b),
    () => negate(divide(multiply(g, y), b)),
  ]),
);

/** a ** b for a > 0 */
export const power = pair(
  binary('power', 'Pow', undefined, (g, a, b, y) => [
    () => multiply(g, multiply(b, power(a, subtract(b, 1)))),
    () => multiply(g, multiply(y, log(a))),
  ]),
);

/** The larger of a and b; where they are equal the gradient goes to a. */
export const maximum = pair(
  binary('maximum', 'Max', undefined, (g, a, b) => [
    () => where(greaterOrEqual(a, b), g, 0),
    () => where(greaterOrEqual(a, b), 0, g),
  ]),
);

/** The smaller of a and b; where they are equal the gradient goes to a. */
export const minimum = pair(
  binary('minimum', 'Min', undefined, (g, a, b) => [
    () => where(lessOrEqual(a, b), g, 0),
    () => where(lessOrEqual(a, b), 0, g),
  ]),
);

export const less = pair(binary('less', 'Less', 'bool'));
export const lessOrEqual = pair(binary('lessOrEqual', 'LessOrEqual', 'bool'));
export const equal = pair(binary('equal', 'Equal', 'bool'));
export const and = pair(binary('and', 'And', 'bool'));
export const or = pair(binary('or', 'Or', 'bool'));
/** a > b */
export const greater = (a: Value, b: Value): Tensor => less(b, a);
/** a >= b */
export const greaterOrEqual = (a: Value, b: Value): Tensor => lessOrEqual(b, a);

const whereOperator = defineOperator<null>({
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
  lower: (builder, inputs) => builder.emit('Where', inputs),
});

/** a where the condition holds, else b. */
export function where(condition: Tensor, a: Value, b: Value): Tensor {
  return applyOne(whereOperator, [condition, lift(a, b), lift(b, a)], null);
}
