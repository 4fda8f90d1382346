/**
 * A linear scan over states, the one place where time passes step by step: recurrences are cut into chunks, and the scan
 * carries the state from chunk to chunk. Its gradient is the same scan in the other direction.
 */
import { ShapeError } from '../../errors.js';
import { type OnnxBuilder, valueInfo } from '../lower/onnx/builder.js';
import { hloScan } from '../lower/stablehlo/loops.js';
import { linearScanInWasm } from '../lower/wasm/layers.js';
import { broadcastShapes, formatShape, sameShape } from '../shape.js';
import { apply, definePrimitive, type Node, type Tensor, type TensorType } from '../tensor.js';
import { sumTo } from './broadcast.js';
import { zeros } from './constant.js';
import { multiply } from './elementwise.js';
import { matmul } from './matmul.js';

export interface ScanAttributes {
  /** How a step's transition acts on the state: number by number, or as a matrix from the left, transposed or not. */
  readonly product: 'elements' | 'matrix' | 'transposed';
  /** From the last step to the first. */
  readonly reverse: boolean;
}

const scanOperator = definePrimitive<ScanAttributes>({
  name: 'scan',
  infer([transition, added, initial], { product }) {
    const [steps, ...state] = added!.shape;
    if (!sameShape(initial!.shape, state)) throw new ShapeError(`the state must be ${formatShape(state)}`);
    const { shape } = transition as TensorType;
    const rows = state.at(-2)!;
    const fits =
      product === 'elements'
        ? sameShape(broadcastShapes(shape, added!.shape) ?? [], added!.shape)
        : sameShape(shape, [steps!, ...state.slice(0, -1), rows]);
    if (!fits || shape[0] !== steps || shape.length !== added!.shape.length) {
      throw new ShapeError(`the transitions do not fit ${formatShape(added!.shape)}`);
    }
    return [
      { dtype: added!.dtype, shape: added!.shape },
      { dtype: added!.dtype, shape: state },
    ];
  },
  gradient({ inputs, outputs, attributes: { product, reverse }, outputGradients, needs }) {
    const [transition, added, initial] = inputs as [Tensor, Tensor, Tensor];
    const back = product === 'elements' ? product : product === 'matrix' ? 'transposed' : 'matrix';
    const { states: dAdded, last } = scan(
      transition,
      outputGradients[0] ?? zeros(added.shape),
      outputGradients[1] ?? zeros(initial.shape),
      { product: back, reverse: !reverse },
    );
    const before = outputs[0]!;
    const dTransition = (): Tensor => {
      if (product === 'elements') return sumTo(multiply(dAdded, before), transition.shape);
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

function scanInOnnx(
  builder: OnnxBuilder,
  [transitions, added, initial]: readonly string[],
  { inputs, outputs, attributes: { product, reverse } }: Node<ScanAttributes>,
): string[] {
  const body = builder.inner();
  const typeOf = (x: Tensor, name: string, from = 0) =>
    valueInfo(
      name,
      x.dtype,
      x.shape.slice(from).map((dim) => builder.resolve(dim)),
    );
  const id = `${transitions}/${added}/scan`;
  const [state, transition, row] = ['state', 'transition', 'added'].map((name) => `${id}/${name}`) as [
    string,
    string,
    string,
  ];
  const act = (): string => {
    if (product === 'elements') return body.emit('Mul', [transition, state])[0]!;
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
    input: [typeOf(last, state), typeOf(inputs[0]!, transition, 1), typeOf(inputs[1]!, row, 1)],
    output: [typeOf(last, next!), typeOf(last, before!)],
  };
  const direction = Number(reverse);
  const [end, states] = builder.emit('Scan', [initial!, transitions!, added!], {
    attributes: {
      body: { graph },
      num_scan_inputs: { int: 2 },
      scan_input_directions: { ints: [direction, direction] },
      scan_output_directions: { ints: [direction] },
    },
    outputs: 2,
  });
  return [states!, end!];
}

/**
 * S' = A_n S + B_n for each step n, from `initial` [...state] on. `added` (B) is [steps, ...state]; `transition` (A) is of
 * the same rank and broadcasts to it, or for the products of matrices [steps, ..., rows, rows]. Returns `states`
 * [steps, ...state], what the state is before each step, and the `last` state. Throws `ShapeError` where shapes do not fit.
 */
export function scan(
  transition: Tensor,
  added: Tensor,
  initial: Tensor,
  attributes: ScanAttributes,
): { states: Tensor; last: Tensor } {
  const [states, last] = apply(scanOperator, [transition, added, initial], attributes);
  return { states: states!, last: last! };
}
