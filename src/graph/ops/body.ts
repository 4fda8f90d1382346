/** Parts of a graph that run inside a node: the body of a loop, or a branch. They may use values from outside. */
import { type Node, type Tensor, topologicalOrder } from '../tensor.js';

/** A graph inside an operator, such as the body of a loop. Its nodes may use tensors of the graph around it. */
export interface Body {
  /** Sets its names apart from those around it. */
  readonly name: string;
  /** What it is given, if anything. */
  readonly inputs: readonly Tensor[];
  readonly results: readonly Tensor[];
  /** The nodes inside, in order. */
  readonly nodes: readonly Node[];
}

/**
 * A body of these results, and what it uses of the graph outside. `isInside` says which nodes are its own; so is all that needs one of
 * them.
 */
export function bodyOf(
  name: string,
  inputs: readonly Tensor[],
  results: readonly Tensor[],
  isInside: (node: Node) => boolean,
): { body: Body; captured: Tensor[] } {
  const inside = new Set<Node>(inputs.map((tensor) => tensor.node));
  const nodes: Node[] = [];
  for (const node of topologicalOrder(results)) {
    if (inside.has(node)) continue;
    if (!isInside(node) && !node.inputs.some((operand) => operand && inside.has(operand.node))) continue;
    inside.add(node);
    nodes.push(node);
  }
  const captured = new Set<Tensor>();
  for (const node of nodes) {
    for (const operand of node.inputs) if (operand && !inside.has(operand.node)) captured.add(operand);
  }
  // A result that comes from outside is captured too.
  for (const result of results) if (!inside.has(result.node)) captured.add(result);
  return { body: { name, inputs, results, nodes }, captured: [...captured] };
}
