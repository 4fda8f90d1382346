/** The fewest bytes that a node of a grammar takes; Infinity where it has no end. */
import { childrenOf, type Node, type RepeatNode } from './node.js';
import { type Seen, shortTexts } from './seen.js';
import type { Terminal } from './terminal.js';
import type { Work } from './work.js';

/** The fewest bytes in which each node can be written. */
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
      if (node.distinct) return costsOfDistinct(node, costs)[at]!;
      return at === 0 ? cost(node.node) + (left - 1) * cost(node.again) : left * cost(node.again);
    }
    case 'reference':
      return cost(node.get());
  }
}

/** [how many are done]: what the others of a repetition of distinct nodes cost at most, up to its least, whatever was captured before. */
export function costsOfDistinct({ node, again, least }: RepeatNode, costs: Costs): Float64Array {
  const left = new Float64Array(least + 1);
  for (let i = least - 1; i >= 0; i--) {
    const child = i === 0 ? node : again;
    // Of more texts than there are before one is another. Where no part has so many, one that is left may be the longest.
    const texts = (of: Terminal): readonly string[] => shortTexts(of, i + 1);
    let cost = costDiffering(child, costs, (of) => texts(of)[i]?.length ?? Infinity);
    if (cost === Infinity) {
      cost = costDiffering(child, costs, (of) => texts(of).at(-1)!.length, Math.max);
    }
    left[i] = left[i + 1]! + cost;
  }
  return left;
}

/** What a node costs whose captured part must be none of some texts; Infinity where it cannot. */
export function costBeside(node: Node, seen: Seen, costs: Costs): number {
  return costDiffering(node, costs, (of) => seen.other(of)?.length ?? Infinity);
}

/** What a node costs in which a captured terminal costs something else. */
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

/** Whether a part of a node is captured, for the nearest repetition of distinct nodes around it. */
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
  // Leaves first: most are known after one round, and whoever holds one that became less is looked at again.
  const todo = nodes.reverse();
  const waits = new Set(todo);
  for (let i = 0; i < todo.length; i++) {
    const node = todo[i]!;
    waits.delete(node);
    work?.spend(1 + effort(node));
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

function effort(node: Node): number {
  if (node.kind === 'sequence' || node.kind === 'choice') return node.nodes.length;
  return node.kind === 'repeat' && node.distinct ? 10 * node.least : 1;
}
