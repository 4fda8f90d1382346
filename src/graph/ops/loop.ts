/**
 * A loop inside the graph: the body runs `count` times with carried values, within one run of the engine. Loop-invariant values are computed
 * once, outside.
 */

import { ShapeError } from '../../errors.js';
import { valueInfo } from '../lower/onnx/builder.js';
import { hloLoop } from '../lower/stablehlo/loops.js';
import { loopInWasm } from '../lower/wasm/bodies.js';
import { type Dim, formatShape, namesIn, type Shape, sameShape } from '../shape.js';
import { apply, definePrimitive, input, type Node, type Tensor } from '../tensor.js';
import { type Body, bodyOf } from './body.js';
import { scalar } from './constant.js';

interface LoopAttributes {
  readonly count: Dim;
  /**
   * From the iteration (int64 []) and the carried values, computes the new carried values, the stacked values, and bool [], whether to continue.
   */
  readonly body: Body;
  /** The final shapes of the carried values, and the number of stacked iterations. */
  readonly final: readonly Shape[];
  readonly steps: Dim;
}

const loopOperator = definePrimitive<LoopAttributes>({
  name: 'loop',
  infer(initial, { body, final, steps }) {
    for (const [i, value] of body.inputs.slice(1).entries()) {
      const result = body.results[i]!;
      const varies = !sameShape(value.shape, initial[i]!.shape);
      const fits = varies ? value.shape.length === result.shape.length : sameShape(value.shape, result.shape);
      if (!fits || value.dtype !== result.dtype) {
        throw new ShapeError(
          `carried value ${i} enters as ${value.dtype}${formatShape(value.shape)} and leaves as ${result.dtype}${formatShape(result.shape)}`,
        );
      }
    }
    const stacked = body.results.slice(final.length, -1);
    return [
      ...final.map((shape, i) => ({ dtype: initial[i]!.dtype, shape })),
      ...stacked.map(({ dtype, shape }) => ({ dtype, shape: [steps, ...shape] })),
    ];
  },
  lower: {
    onnx(builder, operands, { attributes: { count, body, final }, outputs }) {
      const { input, output, ...rest } = builder.subgraph(body);
      const graph = {
        ...rest,
        input: [input[0]!, valueInfo(`${body.name}.condition`, 'bool', []), ...input.slice(1)],
        output: [output.at(-1)!, ...output.slice(0, -1)],
      };
      const trips = builder.emit('Squeeze', [builder.dim(count)])[0]!;
      return builder.emit('Loop', [trips, '', ...operands.slice(0, final.length)], {
        attributes: { body: { graph } },
        outputs: outputs.length,
      });
    },
    wasm: (builder, operands, node) => loopInWasm(builder, operands, node, node.attributes),
    stablehlo: (builder, operands, node) => hloLoop(builder, operands, node, node.attributes),
  },
});

let loops = 0;

/** What the body of a `loop` returns. */
export interface LoopSteps {
  readonly carried: readonly Tensor[];
  readonly stacked: readonly Tensor[];
  /** bool []: false ends the loop early. */
  readonly proceed?: Tensor;
}

/**
 * Runs `body(iteration, carried)` `count` times, starting from `initial`. The body returns the new carried values and values to stack. Returns the
 * final carried values and, for each stacked one, a tensor [count, ...]. A carried value whose shape changes needs an entry in `shapes`: its
 * shape inside the body, with new symbols for the changing sizes. Loops have no gradient.
 */
export function loop(
  count: Dim,
  initial: readonly Tensor[],
  body: (iteration: Tensor, carried: readonly Tensor[]) => LoopSteps,
  shapes: Readonly<Record<number, Shape>> = {},
): { carried: Tensor[]; stacked: Tensor[] } {
  const id = `loop${loops++}`;
  const iteration = input(`${id}.iteration`, 'int64', []);
  const carried = initial.map(({ dtype, shape }, i) => input(`${id}.carried${i}`, dtype, shapes[i] ?? shape));
  const built = body(iteration, carried);
  const proceed = built.proceed ?? scalar(1, 'bool');
  const results = [...built.carried, ...built.stacked, proceed];

  const known = new Set(initial.flatMap(({ shape }) => shape.flatMap(namesIn)));
  const local = new Set(
    Object.values(shapes).flatMap((shape) => shape.flatMap(namesIn).filter((symbol) => !known.has(symbol))),
  );
  const part = bodyOf(
    id,
    [iteration, ...carried],
    results,
    (node) => node === proceed.node || dependsOnSizes(node, local),
  );
  const outputs = apply(loopOperator, [...initial, ...part.captured], {
    count,
    body: part.body,
    final: initial.map(
      ({ shape }, i) =>
        shapes[i]?.map((dim, axis) => (sameShape([dim], [shape[axis]!]) ? dim : `${id}_end${i}_${axis}`)) ??
        shape,
    ),
    steps: built.proceed ? `${id}_steps` : count,
  });
  return { carried: outputs.slice(0, initial.length), stacked: outputs.slice(initial.length) };
}

/** Whether a node's results, or its dimension, have a size that is known only inside the body. */
function dependsOnSizes(node: Node, local: ReadonlySet<string>): boolean {
  if (local.size === 0) return false;
  const { dim } = (node.attributes ?? {}) as { dim?: Dim };
  const dims = [...node.outputs.flatMap(({ shape }) => shape), ...(dim === undefined ? [] : [dim])];
  return dims.some((size) => namesIn(size).some((symbol) => local.has(symbol)));
}
