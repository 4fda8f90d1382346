/**
 * Symbolic tensors: an edge of a graph, with its type and the node that makes it. Nothing is computed here.
 *
 * An operator is defined once, with its facets: the rule for its results' types, its gradient, and how every target gets
 * it. Of a *primitive* each target has a lowering. A *composite* is an expansion into other operators, which serves every
 * target; where a target has a better kernel, the composite names it.
 */
import { HeddleError, ShapeError } from '../errors.js';
import type { DType } from './dtype.js';
import type { OnnxLowering } from './lower/onnx/builder.js';
import type { StableHloLowering } from './lower/stablehlo/builder.js';
import type { WasmLowering } from './lower/wasm/builder.js';
import { canonicalShape, formatShape, normalizeAxis, type Shape } from './shape.js';

/**
 * What is known of a tensor before it is computed; dimensions that are not numbers are names, or sums and products of
 * them.
 */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** A result of a node: the `index`-th of its outputs. */
export class Tensor implements TensorType {
  constructor(
    readonly node: Node,
    readonly index: number,
    readonly dtype: DType,
    readonly shape: Shape,
  ) {}

  get rank(): number {
    return this.shape.length;
  }
}

/** An operator applied to operands. */
export interface Node<Attributes = unknown> {
  readonly operator: Operator<Attributes>;
  /** Optional operands that were left out are undefined. */
  readonly inputs: readonly (Tensor | undefined)[];
  readonly attributes: Attributes;
  readonly outputs: readonly Tensor[];
  /** The layer in which it was built, such as `layers.3.mamba`. */
  readonly path: string;
  /** Nodes built later have higher ones. */
  readonly serial: number;
}

/** The inputs of a node; undefined for an optional one that is left out. */
export type Operands = readonly (Tensor | undefined)[];

/** What a gradient rule gets: the node, and dL/d(output) for each output (undefined where L does not depend on it). */
export interface GradientContext<Attributes> {
  readonly node: Node<Attributes>;
  readonly inputs: Operands;
  readonly outputs: readonly Tensor[];
  readonly attributes: Attributes;
  readonly outputGradients: readonly (Tensor | undefined)[];
  /** Whether dL/d(input i) is wanted, so that the costly ones are built only then. */
  needs(input: number): boolean;
}

/** What primitives and composites share. On its own it is the operator of what is fed, which needs no lowering. */
export interface Operator<Attributes = unknown> {
  readonly name: string;
  /** The results' types. Throws `ShapeError` (a plain message: the operator and operands are added). */
  infer(inputs: readonly (TensorType | undefined)[], attributes: Attributes): TensorType[];
  /**
   * dL/d(input) for each input. Without it no gradient flows through a primitive (comparisons, indices), and that of a
   * composite is its expansion's, as it is where this returns nothing.
   */
  gradient?(context: GradientContext<Attributes>): (Tensor | undefined)[] | undefined;
}

/** The targets, and how each gets an operator. A new target is a line here: then no primitive compiles without it. */
export interface Lowerings<Attributes> {
  readonly onnx: OnnxLowering<Attributes>;
  readonly wasm: WasmLowering<Attributes>;
  readonly stablehlo: StableHloLowering<Attributes>;
}

/** Kernels of the targets that have one; where one returns undefined, the composite is expanded. */
export type Kernels<Attributes> = {
  readonly [Target in keyof Lowerings<Attributes>]?: (
    ...context: Parameters<Lowerings<Attributes>[Target]>
  ) => ReturnType<Lowerings<Attributes>[Target]> | undefined;
};

/** An operator that every target can compute. */
export interface Primitive<Attributes = unknown> extends Operator<Attributes> {
  readonly lower: Lowerings<Attributes>;
}

/** An operator that is defined by other operators; a target without a kernel of its own runs the expansion. */
export interface Composite<Attributes = unknown> extends Operator<Attributes> {
  /** The results in terms of other operators. */
  expand(inputs: Operands, attributes: Attributes): Tensor[];
  readonly kernels?: Kernels<Attributes>;
}

/** Whether an operator is a primitive. */
export function isPrimitive<A>(operator: Operator<A>): operator is Primitive<A> {
  return 'lower' in operator;
}

/** Whether an operator is an expansion into others. */
export function isComposite<A>(operator: Operator<A>): operator is Composite<A> {
  return 'expand' in operator;
}

/** Whether a gradient flows through an operator: by a rule of its own, or by that of its expansion. */
export function isDifferentiable<A>(operator: Operator<A>): boolean {
  return operator.gradient !== undefined || isComposite(operator);
}

const registry = new Map<string, Operator<never>>();

/** Registers a primitive under its name, which must be new. */
export function definePrimitive<Attributes>(operator: Primitive<Attributes>): Primitive<Attributes> {
  return register(operator);
}

/** Registers a composite under its name, which must be new. */
export function defineComposite<Attributes>(operator: Composite<Attributes>): Composite<Attributes> {
  return register(operator);
}

function register<Kind extends Operator<never>>(operator: Kind): Kind {
  if (registry.has(operator.name))
    throw new HeddleError('internal', `operator ${operator.name} is defined twice`);
  registry.set(operator.name, operator);
  return operator;
}

/** All operators by name. */
export function operators(): ReadonlyMap<string, Operator<never>> {
  return registry;
}

const path: string[] = [];
let built = 0;

/** Builds with `name` added to the layer path that nodes and shape errors carry; `''` adds nothing. */
export function scope<T>(name: string, build: () => T): T {
  if (name === '') return build();
  path.push(name);
  try {
    return build();
  } finally {
    path.pop();
  }
}

/** Runs a rule about shapes; to a `ShapeError` that it throws the operator, its operands and the layer path are added. */
export function withShapeContext<T>(operator: string, operands: Operands, rule: () => T): T {
  try {
    return rule();
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    const types = operands.map((operand) =>
      operand ? `${operand.dtype}${formatShape(operand.shape)}` : '-',
    );
    const place = path.length > 0 ? ` in ${path.join('.')}` : '';
    throw new ShapeError(`${operator}(${types.join(', ')})${place}: ${error.message}`);
  }
}

/** An axis of an operand, counted from the front; negative ones count from the back. */
export function axisOf(operator: string, x: Tensor, axis: number): number {
  return withShapeContext(operator, [x], () => normalizeAxis(axis, x.rank));
}

/** Adds a node to the graph. Throws `ShapeError` naming the operator, its operands and the layer path. */
export function apply<Attributes>(
  operator: Operator<Attributes>,
  inputs: Operands,
  attributes: Attributes,
): readonly Tensor[] {
  const types = withShapeContext(operator.name, inputs, () =>
    operator.infer(inputs, attributes).map(({ dtype, shape }) => ({ dtype, shape: canonicalShape(shape) })),
  );
  const outputs: Tensor[] = [];
  const node: Node<Attributes> = {
    operator,
    inputs,
    attributes,
    outputs,
    path: path.join('.'),
    serial: built++,
  };
  for (const [index, type] of types.entries()) {
    outputs.push(new Tensor(node as Node, index, type.dtype, type.shape));
  }
  return outputs;
}

/** The single result of an operator that has one. */
export function applyOne<Attributes>(
  operator: Operator<Attributes>,
  inputs: Operands,
  attributes: Attributes,
): Tensor {
  return apply(operator, inputs, attributes)[0]!;
}

interface InputAttributes extends TensorType {
  readonly name: string;
}

const inputOperator = register<Operator<InputAttributes>>({
  name: 'input',
  infer: (_, { dtype, shape }) => [{ dtype, shape }],
});

/** A value that is fed: data, a parameter, or a state. */
export function input(name: string, dtype: DType, shape: Shape): Tensor {
  return applyOne(inputOperator, [], { name, dtype, shape });
}

/** The name of a tensor made by `input`, else undefined. */
export function inputName(tensor: Tensor): string | undefined {
  return (tensor.node.operator as Operator<never>) === (inputOperator as unknown as Operator<never>)
    ? (tensor.node.attributes as InputAttributes).name
    : undefined;
}

const expansions = new WeakMap<Node, readonly Tensor[]>();

/** What a composite node stands for; built once, so that its lowering and its gradient share it. */
export function expansionOf(node: Node): readonly Tensor[] {
  let expansion = expansions.get(node);
  if (!expansion) {
    const composite = node.operator as Composite;
    // Wherever it is asked for, such as inside of a gradient, it belongs to the composite's layer.
    const place = path.splice(0);
    try {
      expansion = scope(node.path, () => composite.expand(node.inputs, node.attributes));
    } finally {
      path.push(...place);
    }
    expansions.set(node, expansion);
  }
  return expansion;
}

/** Whether `used` holds a value inside a composite's expansion, as it does where a gradient is taken through that. */
export function expansionIsUsed(node: Node, used: ReadonlySet<Tensor>): boolean {
  if (!expansions.has(node)) return false;
  const operands = new Set(node.inputs.flatMap((operand) => (operand ? [operand.node] : [])));
  return topologicalOrder(expansionOf(node), operands).some(
    (inside) => !operands.has(inside) && inside.outputs.some((output) => used.has(output)),
  );
}

/** Nodes on which `roots` depend, operands before their users. What `boundary` nodes depend on is left out. */
export function topologicalOrder(roots: readonly Tensor[], boundary?: ReadonlySet<Node>): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>();
  // An explicit stack: training graphs are deeper than the call stack.
  const stack: { node: Node; next: number }[] = [];
  const visit = (node: Node): void => {
    if (seen.has(node)) return;
    seen.add(node);
    stack.push({ node, next: 0 });
  };
  for (const root of roots) {
    visit(root.node);
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      if (top.next < top.node.inputs.length && !boundary?.has(top.node)) {
        const operand = top.node.inputs[top.next++];
        if (operand) visit(operand.node);
      } else {
        order.push(top.node);
        stack.pop();
      }
    }
  }
  return order;
}
