/** The least number of bytes of a grammar's nodes; Infinity for a node without a finite text. */
import { childrenOf, type Node, type RepeatNode } from './node.js';
import { type Seen, shortTexts } from './seen.js';
import type { Terminal } from './terminal.js';
import type { Work } from './work.js';

/** The least number of bytes of each node. */
export type Costs = ReadonlyMap<Node, number>;

const known = new WeakMap<Node, Costs>();

/** The costs of a grammar's nodes, computed once for each grammar. Throws `WorkError` for a grammar that is too large. */
export function costsOf(root: Node, work?: Work): Costs {
  let costs = known.get(root);
  if (!costs) {
    costs = findCosts(root, work);
    known.set(root, costs);
  }
  return costs;
}

/** The cost of the rest of a node from a position: in a sequence the index of the next node, in a repetition the number of completed ones. */
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
      if (node.distinct) return costsOfDistinct(node, costs)[at]!;
      return at === 0 ? cost(node.node) + (left - 1) * cost(node.again) : left * cost(node.again);
    }
    case 'reference':
      return cost(node.get());
  }
}

/** [completed repetitions]: an upper bound of the cost of the remaining required repetitions of distinct nodes, whatever was captured before. */
export function costsOfDistinct({ node, again, least }: RepeatNode, costs: Costs): Float64Array {
  const left = new Float64Array(least + 1);
  for (let i = least - 1; i >= 0; i--) {
    const child = i === 0 ? node : again;
    // Among more texts than were captured, at least one differs. If no part has that many, the remaining one may be the longest.
    const texts = (of: Terminal): readonly string[] => shortTexts(of, i + 1);
    let cost = costDiffering(child, costs, (of) => texts(of)[i]?.length ?? Infinity);
    if (cost === Infinity) {
      cost = costDiffering(child, costs, (of) => texts(of).at(-1)!.length, Math.max);
    }
    left[i] = left[i + 1]! + cost;
  }
  return left;
}

/** The cost of a node whose captured part must differ from some texts; Infinity if that is impossible. */
export function costBeside(node: Node, seen: Seen, costs: Costs): number {
  return costDiffering(node, costs, (of) => seen.other(of)?.length ?? Infinity);
}

/** The cost of a node if its captured terminal has another cost. */
function costDiffering(
  node: Node,
  costs: Costs,
  captured: (terminal: Terminal) => number,
  pick: (a: number, b: number) => number = Math.min,
): number {
  if (!captures(node)) return costs.get(node)!;
  const cost = (child: Node): number => costDiffering(child, costs, captured, pick);
  switch (node.kind) {
    case 'terminal':
      return captured(node.terminal);
    case 'sequence':
      return node.nodes.reduce((sum, child) => sum + cost(child), 0);
    case 'choice':
      return node.nodes.map(cost).reduce((a, b) => pick(a, b));
    default:
      return costs.get(node)!;
  }
}

const capturing = new WeakMap<Node, boolean>();

/** Whether a node has a captured part that belongs to the nearest enclosing repetition of distinct nodes. */
export function captures(node: Node): boolean {
  if (node.kind === 'terminal') return node.captured;
  if (node.kind !== 'sequence' && node.kind !== 'choice') return false;
  let answer = capturing.get(node);
  if (answer === undefined) {
    answer = node.nodes.some(captures);
    capturing.set(node, answer);
  }
  return answer;
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
  // Leaves first: most costs are final after one pass. If a cost decreases, the nodes that contain it are queued again.
  const todo = nodes.reverse();
  const waits = new Set(todo);
  for (let i = 0; i < todo.length; i++) {
    const node = todo[i]!;
    waits.delete(node);
    work?.spend(1 + effort(node));
    const cost = costFrom(node, 0, costs);
    // 0 * Infinity is NaN.
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

function effort(node: Node): number {
  if (node.kind === 'sequence' || node.kind === 'choice') return node.nodes.length;
  return node.kind === 'repeat' && node.distinct ? 10 * node.least : 1;
}
