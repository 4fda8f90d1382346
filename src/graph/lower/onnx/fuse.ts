/**
 * Fuses adjacent ONNX nodes for which a device has one kernel, after lowering: patterns that cross layers, such as the sum of a residual
 * connection and the norm of the next block. Values that other nodes or subgraphs use are kept.
 */
import type { Shape } from '../../shape.js';
import { sameShape } from '../../shape.js';
import type { FusedOperators } from './builder.js';
import { ATTRIBUTE_TYPES, type NodeProto } from './proto.js';

/** The context of the nodes that are fused. */
export interface Surroundings {
  readonly fused: FusedOperators;
  /** Values that must keep their names: outputs, and values that subgraphs use. */
  readonly kept: ReadonlySet<string>;
  /** Known shapes of values. */
  readonly shapes: ReadonlyMap<string, Shape>;
  /** Names of scalar constants. */
  readonly scalars: ReadonlySet<string>;
}

/** The nodes after fusion. */
export function fuseNodes(nodes: readonly NodeProto[], surroundings: Surroundings): NodeProto[] {
  const graph = new Nodes(nodes, surroundings);
  if (surroundings.fused.has('CausalConvWithState+silu'))
    for (const node of nodes) activateConvolution(graph, node);
  for (const node of nodes) scaleMatrix(graph, node);
  if (surroundings.fused.has('SkipSimplifiedLayerNormalization'))
    for (const node of nodes) normSum(graph, node);
  return graph.result();
}

/** A list of nodes, with replacements and removals. */
class Nodes {
  private readonly producer = new Map<string, number>();
  private readonly users = new Map<string, number[]>();
  private readonly replaced = new Map<number, readonly NodeProto[]>();
  private readonly index = new Map<NodeProto, number>();

  constructor(
    private readonly nodes: readonly NodeProto[],
    readonly surroundings: Surroundings,
  ) {
    for (const [i, node] of nodes.entries()) {
      this.index.set(node, i);
      for (const name of node.output) this.producer.set(name, i);
      for (const name of node.input) this.users.set(name, [...(this.users.get(name) ?? []), i]);
    }
  }

  /** The node that computes a value, unless it was replaced. */
  makerOf(name: string): NodeProto | undefined {
    const i = this.producer.get(name);
    return i === undefined || this.replaced.has(i) ? undefined : this.nodes[i];
  }

  /** Whether a value is available before a node: computed earlier, or not by any of these nodes. */
  isBefore(name: string, node: NodeProto): boolean {
    const i = this.producer.get(name);
    return i === undefined || i < this.index.get(node)!;
  }

  isFresh(node: NodeProto): boolean {
    return !this.replaced.has(this.index.get(node)!);
  }

  /** Whether exactly one node uses a value. */
  usedOnce(name: string): boolean {
    return this.users.get(name)?.length === 1 && !this.surroundings.kept.has(name);
  }

  replace(node: NodeProto, by: readonly NodeProto[]): void {
    this.replaced.set(this.index.get(node)!, by);
  }

  result(): NodeProto[] {
    return this.nodes.flatMap((node, i) => this.replaced.get(i) ?? [node]);
  }
}

/** silu(convolution): moves the activation into the convolution's kernel. */
function activateConvolution(graph: Nodes, node: NodeProto): void {
  if (node.opType !== 'QuickGelu' || !graph.isFresh(node)) return;
  const convolution = graph.makerOf(node.input[0]!);
  if (convolution?.opType !== 'CausalConvWithState' || convolution.output[0] !== node.input[0]) return;
  if (!graph.usedOnce(node.input[0]!)) return;
  const activation = {
    name: 'activation',
    type: ATTRIBUTE_TYPES.string,
    s: new TextEncoder().encode('silu'),
  };
  graph.replace(convolution, [
    {
      ...convolution,
      output: [node.output[0]!, ...convolution.output.slice(1)],
      attribute: [...convolution.attribute, activation],
    },
  ]);
  graph.replace(node, []);
}

/** scalar * (x W^T) with quantized W: multiplies the constant scales by the scalar. */
function scaleMatrix(graph: Nodes, node: NodeProto): void {
  if (node.opType !== 'Mul' || !graph.isFresh(node)) return;
  const { scalars } = graph.surroundings;
  const place = node.input.findIndex((name) => scalars.has(name));
  if (place < 0) return;
  const product = node.input[1 - place]!;
  const matrix = graph.makerOf(product);
  if (matrix?.opType !== 'MatMulNBits' || !graph.usedOnce(product)) return;
  const scales = `${node.output[0]!}/scales`;
  graph.replace(matrix, [
    {
      name: scales,
      opType: 'Mul',
      domain: '',
      input: [matrix.input[2]!, node.input[place]!],
      output: [scales],
      attribute: [],
    },
    {
      ...matrix,
      input: [matrix.input[0]!, matrix.input[1]!, scales, ...matrix.input.slice(3)],
      output: [node.output[0]!],
    },
  ]);
  graph.replace(node, []);
}

/** norm(a + b), also with the sum as an output for the residual connection. */
function normSum(graph: Nodes, node: NodeProto): void {
  if (node.opType !== 'SimplifiedLayerNormalization' || node.output.length > 1 || !graph.isFresh(node))
    return;
  const [sum, weight] = node.input as [string, string];
  const add = graph.makerOf(sum);
  if (add?.opType !== 'Add' || !graph.isBefore(weight, add)) return;
  const { shapes } = graph.surroundings;
  const [a, b] = add.input.map((name) => shapes.get(name));
  if (!a || !b || !sameShape(a, b) || a.length !== 3) return;
  graph.replace(add, [
    {
      name: node.name,
      opType: 'SkipSimplifiedLayerNormalization',
      domain: 'com.microsoft',
      input: [...add.input, weight],
      output: [node.output[0]!, '', '', sum],
      attribute: node.attribute.filter(({ name }) => name === 'epsilon'),
    },
  ]);
  graph.replace(node, []);
}
