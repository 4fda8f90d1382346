/** Subgraphs of a node: the body of a loop, or a branch. They may capture values from outside. */
import { type Node, type Tensor, topologicalOrder } from '../tensor.js';

/** A subgraph of an operator, such as the body of a loop. Its nodes may use tensors of the enclosing graph. */
export interface Body {
  /** Makes its names unique. */
  readonly name: string;
  /** Its inputs, if any. */
  readonly inputs: readonly Tensor[];
  readonly results: readonly Tensor[];
  /** The nodes inside, in order. */
  readonly nodes: readonly Node[];
}

/**
 * Builds a body with these results, and the tensors that it captures. `isInside` marks its own nodes; nodes that depend on them are its own,
 * too.
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
  // A result from outside is captured, too.
  for (const result of results) if (!inside.has(result.node)) captured.add(result);
  return { body: { name, inputs, results, nodes }, captured: [...captured] };
}
