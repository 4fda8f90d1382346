/** The fewest bytes that a node of a grammar takes; Infinity where it has no end. */
import { childrenOf, type Node } from './node.js';
import type { Work } from './work.js';

export type Costs = ReadonlyMap<Node, number>;

const known = new WeakMap<Node, Costs>();

/** The costs of a grammar's nodes, found once for each grammar. Throws `WorkError` for a grammar that is too large. */
export function costsOf(root: Node, work?: Work): Costs {
  let costs = known.get(root);
  if (!costs) {
    costs = findCosts(root, work);
    known.set(root, costs);
  }
  return costs;
}

/** What a node costs from a place in it on. The place of a sequence is its next node, that of a repetition how many are done. */
export function costFrom(node: Node, at: number, costs: Costs): number {
  const cost = (child: Node): number => costs.get(child)!;
  switch (node.kind) {
    case 'bytes':
      return node.bytes.length - at;
    case 'terminal':
      return node.terminal.completion(node.terminal.start).length;
    case 'sequence': {
      let sum = 0;
      for (let i = at; i < node.nodes.length; i++) sum += cost(node.nodes[i]!);
      return sum;
    }
    case 'choice':
      return node.nodes.reduce((least, child) => Math.min(least, cost(child)), Infinity);
    case 'repeat': {
      const left = node.least - at;
      if (left <= 0) return 0;
      return at === 0 ? cost(node.node) + (left - 1) * cost(node.again) : left * cost(node.again);
    }
    case 'reference':
      return cost(node.get());
  }
}

function findCosts(root: Node, work: Work | undefined): Costs {
  const costs = new Map<Node, number>();
  const parents = new Map<Node, Node[]>();
  const nodes = [root];
  costs.set(root, Infinity);
  for (let i = 0; i < nodes.length; i++) {
    const node = nodes[i]!;
    for (const child of childrenOf(node)) {
      work?.spend(1);
      if (!costs.has(child)) {
        costs.set(child, Infinity);
        nodes.push(child);
      }
      const above = parents.get(child);
      if (above) above.push(node);
      else parents.set(child, [node]);
    }
  }
  // Leaves first: most are known after one round, and whoever holds one that became less is looked at again.
  const todo = nodes.reverse();
  const waits = new Set(todo);
  for (let i = 0; i < todo.length; i++) {
    const node = todo[i]!;
    waits.delete(node);
    work?.spend(1 + (node.kind === 'sequence' || node.kind === 'choice' ? node.nodes.length : 1));
    const cost = costFrom(node, 0, costs);
    // Nothing times Infinity is no number.
    if (Number.isNaN(cost) || cost >= costs.get(node)!) continue;
    costs.set(node, cost);
    for (const parent of parents.get(node) ?? []) {
      if (waits.has(parent)) continue;
      waits.add(parent);
      todo.push(parent);
    }
  }
  return costs;
}
