/**
 * A loop inside the graph: the body runs `count` times with carried values, without leaving the engine.
 * What the body uses but does not change between iterations is computed once, outside.
 */
import { ShapeError } from '../../errors.js';
import { type Dim, formatShape, sameShape } from '../shape.js';
import { apply, defineOperator, input, type Node, type Tensor, topologicalOrder } from '../tensor.js';

export interface LoopBody {
  /** int64 [] */
  readonly iteration: Tensor;
  readonly carried: readonly Tensor[];
  readonly results: readonly Tensor[];
  /** Values of each iteration that are kept, stacked. */
  readonly stacked: readonly Tensor[];
  /** The nodes that depend on the iteration, in order. */
  readonly nodes: readonly Node[];
}

interface LoopAttributes {
  readonly count: Dim;
  readonly body: LoopBody;
}

const loopOperator = defineOperator<LoopAttributes>({
  name: 'loop',
  infer(initial, { count, body }) {
    for (const [i, value] of body.carried.entries()) {
      const result = body.results[i]!;
      if (!sameShape(value.shape, result.shape) || value.dtype !== result.dtype) {
        throw new ShapeError(
          `carried value ${i} enters as ${value.dtype}${formatShape(value.shape)} and leaves as ${result.dtype}${formatShape(result.shape)}`,
        );
      }
    }
    return [
      ...body.carried.map((_, i) => ({ dtype: initial[i]!.dtype, shape: initial[i]!.shape })),
      ...body.stacked.map(({ dtype, shape }) => ({ dtype, shape: [count, ...shape] })),
    ];
  },
  lower(builder, operands, { attributes: { count, body } }) {
    const carried = body.carried.length;
    const graph = builder.subgraph(body);
    const trips = builder.emit('Squeeze', [builder.dim(count)])[0]!;
    return builder.emit('Loop', [trips, '', ...operands.slice(0, carried)], {
      attributes: { body: { graph } },
      outputs: carried + body.stacked.length,
    });
  },
});

let loops = 0;

/**
 * Runs `body(iteration, carried)` `count` times, starting from `initial`. It returns the carried values' successors and
 * the values to stack. Returns the final carried values and, for each stacked one, a tensor [count, ...]. There is no
 * gradient through a loop.
 */
export function loop(
  count: Dim,
  initial: readonly Tensor[],
  body: (
    iteration: Tensor,
    carried: readonly Tensor[],
  ) => { carried: readonly Tensor[]; stacked: readonly Tensor[] },
): { carried: Tensor[]; stacked: Tensor[] } {
  const id = `loop${loops++}`;
  const iteration = input(`${id}.iteration`, 'int64', []);
  const carried = initial.map(({ dtype, shape }, i) => input(`${id}.carried${i}`, dtype, shape));
  const built = body(iteration, carried);

  const inside = new Set<Node>([iteration, ...carried].map((tensor) => tensor.node));
  const captured = new Set<Tensor>();
  const nodes: Node[] = [];
  const order = topologicalOrder([...built.carried, ...built.stacked]);
  for (const node of order) {
    if (inside.has(node) || !node.inputs.some((operand) => operand && inside.has(operand.node))) continue;
    inside.add(node);
    nodes.push(node);
  }
  for (const node of nodes) {
    for (const operand of node.inputs) if (operand && !inside.has(operand.node)) captured.add(operand);
  }
  // A result that no iteration changes is captured too.
  for (const result of [...built.carried, ...built.stacked])
    if (!inside.has(result.node)) captured.add(result);

  const outputs = apply(loopOperator, [...initial, ...captured], {
    count,
    body: { iteration, carried, results: built.carried, stacked: built.stacked, nodes },
  });
  return { carried: outputs.slice(0, initial.length), stacked: outputs.slice(initial.length) };
}
