/**
 * A linear scan over states, the only operator that computes step by step: recurrences are cut into chunks, and the scan
 * carries the state from chunk to chunk. Its gradient is the same scan in the other direction.
 */
import { ShapeError } from '../../errors.js';
import { type OnnxBuilder, valueInfo } from '../lower/onnx/builder.js';
import { hloScan } from '../lower/stablehlo/loops.js';
import { linearScanInWasm } from '../lower/wasm/layers.js';
import { broadcastShapes, formatShape, sameShape } from '../shape.js';
import { apply, axisOf, definePrimitive, type Node, type Tensor, type TensorType } from '../tensor.js';
import { sumTo } from './broadcast.js';
import { zeros } from './constant.js';
import { add, multiply, negate, subtract } from './elementwise.js';
import { concat, split } from './layout.js';
import { matmul } from './matmul.js';

/** How a `scan` composes its steps. */
export interface ScanAttributes {
  /**
   * How a step's transition acts on the state: element-wise; as complex numbers, whose real and imaginary parts are along
   * the state's first axis, of size 2; or as a matrix from the left, transposed or not.
   */
  readonly product: 'elements' | 'complex' | 'matrix' | 'transposed';
  /** Whether the scan runs from the last step to the first. */
  readonly reverse: boolean;
  /** The axis of the steps; 0 by default. */
  readonly axis?: number;
  /** The transitions are decays, above 0: their products may be computed as sums of logarithms. */
  readonly decays?: boolean;
}

/** Attributes with the default axis filled in. */
export type CompleteScan = ScanAttributes & { readonly axis: number };

const scanOperator = definePrimitive<CompleteScan>({
  name: 'scan',
  infer([transition, added, initial], { product, axis }) {
    const state = added!.shape.filter((_, i) => i !== axis);
    if (!sameShape(initial!.shape, state)) throw new ShapeError(`the state must be ${formatShape(state)}`);
    const { shape } = transition as TensorType;
    const parts = partsAxis(axis);
    const fits =
      product === 'elements' || product === 'complex'
        ? (product === 'elements' || (shape[parts] === 2 && added!.shape[parts] === 2)) &&
          sameShape(broadcastShapes(shape, added!.shape) ?? [], added!.shape)
        : axis < added!.shape.length - 2 && sameShape(shape, [...added!.shape.slice(0, -1), state.at(-2)!]);
    if (!fits || shape[axis] !== added!.shape[axis] || shape.length !== added!.shape.length) {
      throw new ShapeError(`the transitions do not fit ${formatShape(added!.shape)}`);
    }
    return [
      { dtype: added!.dtype, shape: added!.shape },
      { dtype: added!.dtype, shape: state },
    ];
  },
  gradient({ inputs, outputs, attributes, outputGradients, needs }) {
    const [transition, added, initial] = inputs as [Tensor, Tensor, Tensor];
    const { product, reverse, axis } = attributes;
    const parts = partsAxis(axis);
    const back = product === 'matrix' ? 'transposed' : product === 'transposed' ? 'matrix' : product;
    const { states: dAdded, last } = scan(
      product === 'complex' ? conjugate(transition, parts) : transition,
      outputGradients[0] ?? zeros(added.shape),
      outputGradients[1] ?? zeros(initial.shape),
      { ...attributes, product: back, reverse: !reverse },
    );
    const before = outputs[0]!;
    const dTransition = (): Tensor => {
      if (product === 'elements') return sumTo(multiply(dAdded, before), transition.shape);
      if (product === 'complex')
        return sumTo(complexProduct(conjugate(before, parts), dAdded, parts), transition.shape);
      return product === 'matrix'
        ? matmul(dAdded, before, { transposeB: true })
        : matmul(before, dAdded, { transposeB: true });
    };
    return [needs(0) ? dTransition() : undefined, dAdded, last];
  },
  lower: {
    onnx: scanInOnnx,
    wasm: (builder, inputs, { attributes }) => linearScanInWasm(builder, inputs, attributes),
    stablehlo: hloScan,
  },
});

/** The first axis of the state, if the steps are along `axis`: the axis of the parts of complex numbers. */
function partsAxis(axis: number): number {
  return axis === 0 ? 1 : 0;
}

/** The complex conjugate of numbers whose parts are along an axis. */
function conjugate(x: Tensor, axis: number): Tensor {
  const [re, im] = split(x, axis, [1, 1]) as [Tensor, Tensor];
  return concat([re, negate(im)], axis);
}

/** The product of complex numbers whose parts are along an axis. */
function complexProduct(a: Tensor, b: Tensor, axis: number): Tensor {
  const [aRe, aIm] = split(a, axis, [1, 1]) as [Tensor, Tensor];
  const [bRe, bIm] = split(b, axis, [1, 1]) as [Tensor, Tensor];
  return concat(
    [subtract(multiply(aRe, bRe), multiply(aIm, bIm)), add(multiply(aRe, bIm), multiply(aIm, bRe))],
    axis,
  );
}

function scanInOnnx(
  builder: OnnxBuilder,
  [transitions, added, initial]: readonly string[],
  { inputs, outputs, attributes: { product, reverse, axis } }: Node<CompleteScan>,
): string[] {
  // ONNX Runtime crashes with a division by zero when it transposes empty inputs of Scan (axes other than 0).
  if (inputs[1]!.shape.includes(0)) return [added!, initial!];
  const body = builder.inner();
  const typeOf = (x: Tensor, name: string, shape = x.shape) =>
    valueInfo(
      name,
      x.dtype,
      shape.map((dim) => builder.resolve(dim)),
    );
  const ofStep = (x: Tensor, name: string) =>
    typeOf(
      x,
      name,
      x.shape.filter((_, i) => i !== axis),
    );
  const id = `${transitions}/${added}/scan`;
  const [state, transition, row] = ['state', 'transition', 'added'].map((name) => `${id}/${name}`) as [
    string,
    string,
    string,
  ];
  const act = (): string => {
    if (product === 'elements') return body.emit('Mul', [transition, state])[0]!;
    if (product === 'complex') return complexInOnnx(body, transition, state);
    const rank = outputs[1]!.rank;
    const swapped = [...Array(rank - 2).keys(), rank - 1, rank - 2];
    const matrix =
      product === 'matrix'
        ? transition
        : body.emit('Transpose', [transition], { attributes: { perm: { ints: swapped } } })[0]!;
    return body.emit('MatMul', [matrix, state])[0]!;
  };
  const [next] = body.emit('Add', [act(), row]);
  const [before] = body.emit('Identity', [state]);
  const last = outputs[1]!;
  const graph = {
    name: id,
    node: body.nodes,
    initializer: body.initializers,
    input: [typeOf(last, state), ofStep(inputs[0]!, transition), ofStep(inputs[1]!, row)],
    output: [typeOf(last, next!), typeOf(last, before!)],
  };
  const direction = Number(reverse);
  const [end, states] = builder.emit('Scan', [initial!, transitions!, added!], {
    attributes: {
      body: { graph },
      num_scan_inputs: { int: 2 },
      scan_input_axes: { ints: [axis, axis] },
      scan_output_axes: { ints: [axis] },
      scan_input_directions: { ints: [direction, direction] },
      scan_output_directions: { ints: [direction] },
    },
    outputs: 2,
  });
  return [states!, end!];
}

function complexInOnnx(body: OnnxBuilder, a: string, b: string): string {
  const one = (operator: string, operands: string[], attributes = {}): string =>
    body.emit(operator, operands, { attributes })[0]!;
  const axis = { axis: { int: 0 } };
  const halves = (x: string) =>
    body.emit('Split', [x, body.ints([1, 1])], { attributes: axis, outputs: 2 }) as [string, string];
  const [aRe, aIm] = halves(a);
  const [bRe, bIm] = halves(b);
  const re = one('Sub', [one('Mul', [aRe, bRe]), one('Mul', [aIm, bIm])]);
  const im = one('Add', [one('Mul', [aRe, bIm]), one('Mul', [aIm, bRe])]);
  return one('Concat', [re, im], axis);
}

/**
 * S' = A_n S + B_n for each step n, starting from `initial` [...state]. `added` (B) is [steps, ...state], or has its steps along another
 * `axis`; `transition` (A) has the same rank and broadcasts to it, or is [steps, ..., rows, rows] for matrix products.
 * Returns `states`, the state before each step, with the shape of `added`, and the `last` state. Throws `ShapeError` for shapes that
 * do not fit.
 */
export function scan(
  transition: Tensor,
  added: Tensor,
  initial: Tensor,
  attributes: ScanAttributes,
): { states: Tensor; last: Tensor } {
  const [states, last] = apply(scanOperator, [transition, added, initial], {
    ...attributes,
    axis: axisOf('scan', added, attributes.axis ?? 0),
  });
  return { states: states!, last: last! };
}
