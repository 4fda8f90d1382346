/**
 * A loop inside the graph: the body runs `count` times with carried values, without leaving the engine.
 * What the body uses but does not change between iterations is computed once, outside.
 */
import { ShapeError } from '../../errors.js';
import { type Dim, dimTerms, formatShape, type Shape, sameShape } from '../shape.js';
import {
  apply,
  defineOperator,
  input,
  type Node,
  nextSerial,
  type Tensor,
  topologicalOrder,
} from '../tensor.js';

export interface LoopBody {
  /** int64 [] */
  readonly iteration: Tensor;
  readonly carried: readonly Tensor[];
  readonly results: readonly Tensor[];
  /** Values of each iteration that are kept, stacked. */
  readonly stacked: readonly Tensor[];
  /** bool []: whether another iteration follows; always, without it. */
  readonly proceed?: Tensor | undefined;
  /** The nodes that depend on the iteration, in order. */
  readonly nodes: readonly Node[];
}

interface LoopAttributes {
  readonly count: Dim;
  readonly body: LoopBody;
  /** What the carried values are in the end, and how many iterations are stacked. */
  readonly final: readonly Shape[];
  readonly steps: Dim;
}

const loopOperator = defineOperator<LoopAttributes>({
  name: 'loop',
  infer(initial, { body, final, steps }) {
    for (const [i, value] of body.carried.entries()) {
      const result = body.results[i]!;
      const varies = !sameShape(value.shape, initial[i]!.shape);
      const fits = varies ? value.shape.length === result.shape.length : sameShape(value.shape, result.shape);
      if (!fits || value.dtype !== result.dtype) {
        throw new ShapeError(
          `carried value ${i} enters as ${value.dtype}${formatShape(value.shape)} and leaves as ${result.dtype}${formatShape(result.shape)}`,
        );
      }
    }
    return [
      ...body.carried.map((_, i) => ({ dtype: initial[i]!.dtype, shape: final[i]! })),
      ...body.stacked.map(({ dtype, shape }) => ({ dtype, shape: [steps, ...shape] })),
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

export interface LoopSteps {
  readonly carried: readonly Tensor[];
  readonly stacked: readonly Tensor[];
  /** bool []: the loop ends early where it is false. */
  readonly proceed?: Tensor;
}

/**
 * Runs `body(iteration, carried)` `count` times, starting from `initial`. It returns the carried values' successors and
 * the values to stack. Returns the final carried values and, for each stacked one, a tensor [count, ...]. A carried value
 * whose shape changes has an entry in `shapes`: its shape inside, in which new names stand for the sizes that change.
 * There is no gradient through a loop.
 */
export function loop(
  count: Dim,
  initial: readonly Tensor[],
  body: (iteration: Tensor, carried: readonly Tensor[]) => LoopSteps,
  shapes: Readonly<Record<number, Shape>> = {},
): { carried: Tensor[]; stacked: Tensor[] } {
  return build(count, initial, body, shapes, false);
}

/**
 * What `compute` makes where the size `flag` is 1, or `otherwise` where it is 0. Unlike in a loop, all that `compute`
 * builds is computed in that case alone.
 */
export function when(flag: Dim, otherwise: Tensor, compute: () => Tensor): Tensor {
  return whenAll(flag, [otherwise], () => [compute()])[0]!;
}

/** `when` for several values. One whose shape is another than that of `otherwise` has an entry in `shapes`, as in a loop. */
export function whenAll(
  flag: Dim,
  otherwise: readonly Tensor[],
  compute: () => readonly Tensor[],
  shapes: Readonly<Record<number, Shape>> = {},
): Tensor[] {
  return build(flag, otherwise, () => ({ carried: compute(), stacked: [] }), shapes, true).carried;
}

function build(
  count: Dim,
  initial: readonly Tensor[],
  body: (iteration: Tensor, carried: readonly Tensor[]) => LoopSteps,
  shapes: Readonly<Record<number, Shape>>,
  keepAll: boolean,
): { carried: Tensor[]; stacked: Tensor[] } {
  const id = `loop${loops++}`;
  const iteration = input(`${id}.iteration`, 'int64', []);
  const carried = initial.map(({ dtype, shape }, i) => input(`${id}.carried${i}`, dtype, shapes[i] ?? shape));
  const first = nextSerial();
  const built = body(iteration, carried);
  const results = [...built.carried, ...built.stacked, ...(built.proceed ? [built.proceed] : [])];

  const known = new Set(initial.flatMap(({ shape }) => shape.flatMap(symbolsOf)));
  const local = new Set(
    Object.values(shapes).flatMap((shape) => shape.flatMap(symbolsOf).filter((symbol) => !known.has(symbol))),
  );
  const inside = new Set<Node>([iteration, ...carried].map((tensor) => tensor.node));
  const captured = new Set<Tensor>();
  const nodes: Node[] = [];
  const order = topologicalOrder(results);
  for (const node of order) {
    const depends =
      (keepAll && node.serial >= first) ||
      node.inputs.some((operand) => operand && inside.has(operand.node)) ||
      dependsOnSizes(node, local);
    if (inside.has(node) || !depends) continue;
    inside.add(node);
    nodes.push(node);
  }
  for (const node of nodes) {
    for (const operand of node.inputs) if (operand && !inside.has(operand.node)) captured.add(operand);
  }
  // A result that no iteration changes is captured too.
  for (const result of results) if (!inside.has(result.node)) captured.add(result);

  const outputs = apply(loopOperator, [...initial, ...captured], {
    count,
    body: {
      iteration,
      carried,
      results: built.carried,
      stacked: built.stacked,
      proceed: built.proceed,
      nodes,
    },
    final: initial.map(
      ({ shape }, i) =>
        shapes[i]?.map((dim, axis) => (sameShape([dim], [shape[axis]!]) ? dim : `${id}_end${i}_${axis}`)) ??
        shape,
    ),
    steps: built.proceed ? `${id}_steps` : count,
  });
  return { carried: outputs.slice(0, initial.length), stacked: outputs.slice(initial.length) };
}

function symbolsOf(dim: Dim): string[] {
  return dimTerms(dim).flatMap(({ symbols }) => symbols);
}

/** Whether a node without operands, such as a range, is as large as something that only the body knows. */
function dependsOnSizes(node: Node, local: ReadonlySet<string>): boolean {
  if (local.size === 0 || node.inputs.some((operand) => operand)) return false;
  const { dim } = node.attributes as { dim?: Dim };
  const dims = [...node.outputs.flatMap(({ shape }) => shape), ...(dim === undefined ? [] : [dim])];
  return dims.some((size) => symbolsOf(size).some((symbol) => local.has(symbol)));
}
