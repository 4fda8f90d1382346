/** A graph as an ONNX model. */
import { HeddleError, ShapeError } from '../../errors.js';
import type { LoopBody } from '../ops/loop.js';
import type { Shape } from '../shape.js';
import {
  type DType,
  expansionOf,
  inputName,
  type Node,
  type Operator,
  type Tensor,
  type TensorType,
  topologicalOrder,
} from '../tensor.js';
import { type FusedOperators, OnnxBuilder, valueInfo } from './builder.js';
import { ELEMENT_TYPES, encodeModel, type GraphProto } from './proto.js';

export interface OnnxOptions {
  /** Fused operators that the device has; none by default. */
  fused?: FusedOperators;
  /** Symbolic dimensions that are fixed: ONNX Runtime plans memory ahead when all of them are. */
  dims?: Readonly<Record<string, number>>;
  /** Inputs that become constants of the model, whose bytes are handed over beside it under these names. */
  weights?: ReadonlySet<string>;
}

interface NamedType extends TensorType {
  readonly name: string;
}

export interface OnnxModel {
  readonly bytes: Uint8Array;
  readonly inputs: readonly NamedType[];
  /** The inputs that became constants. */
  readonly weights: readonly NamedType[];
  readonly outputs: readonly NamedType[];
}

/** Encodes what `outputs` depend on. Inputs keep their names. Throws `ShapeError` where two things have one name. */
export function toOnnx(outputs: Readonly<Record<string, Tensor>>, options: OnnxOptions = {}): OnnxModel {
  const builder = new OnnxBuilder(
    options.fused ?? new Set(),
    new Map(Object.entries(options.dims ?? {})),
    lowerBody,
  );
  const names = new Map<Tensor, string>();
  const inputs: NamedType[] = [];
  const weights: NamedType[] = [];
  const order = topologicalOrder(Object.values(outputs));
  const taken = new Set(Object.keys(outputs));

  for (const node of order) {
    const tensor = node.outputs[0]!;
    const name = inputName(tensor);
    if (name === undefined) continue;
    if (taken.has(name)) {
      const other = name in outputs ? 'an output' : 'another input';
      throw new ShapeError(
        `the input '${name}' has the name of ${other}: use other names, or one tensor twice`,
      );
    }
    taken.add(name);
    names.set(tensor, name);
    const type = { name, dtype: tensor.dtype, shape: tensor.shape.map((dim) => builder.resolve(dim)) };
    if (options.weights?.has(name)) {
      weights.push(type);
      builder.initializers.push({
        name,
        dims: type.shape as number[],
        dataType: ELEMENT_TYPES[tensor.dtype],
        externalData: [{ key: 'location', value: name }],
        dataLocation: 1,
      });
    } else {
      builder.input(name, tensor);
      inputs.push(type);
    }
  }
  lowerAll(builder, order, Object.values(outputs), names);

  const results = Object.entries(outputs).map(([name, tensor]) => {
    return { name, dtype: tensor.dtype, shape: tensor.shape.map((dim) => builder.resolve(dim)) };
  });
  nameOutputs(
    builder,
    Object.entries(outputs).map(([name, tensor]) => ({ name, value: names.get(tensor)! })),
  );
  const bytes = encodeModel({
    name: 'heddle',
    node: builder.nodes,
    initializer: builder.initializers,
    input: builder.inputs,
    output: results.map(({ name, dtype, shape }) => valueInfo(name, dtype, shape)),
  });
  return { bytes, inputs, weights, outputs: results };
}

/**
 * Gives a value the name of an output. The node that makes it takes that name over; where that is not possible (an
 * input, a constant, a value that is two outputs or that an inner graph uses) it is copied.
 */
function nameOutputs(builder: OnnxBuilder, outputs: readonly { value: string; name: string }[]): void {
  const produced = new Set(builder.nodes.flatMap(({ output }) => output));
  const fixed = new Set(
    builder.nodes.flatMap(({ attribute }) => attribute.flatMap(({ g }) => (g ? namesIn(g) : []))),
  );
  const renamed = new Map<string, string>();
  for (const { value, name } of outputs) {
    if (produced.has(value) && !fixed.has(value) && !renamed.has(value)) renamed.set(value, name);
  }
  const current = (name: string): string => renamed.get(name) ?? name;
  for (const node of builder.nodes) {
    node.input = node.input.map(current);
    node.output = node.output.map(current);
  }
  for (const { value, name } of outputs) {
    if (renamed.get(value) === name) continue;
    builder.nodes.push({
      name: `output/${name}`,
      opType: 'Identity',
      domain: '',
      input: [current(value)],
      output: [name],
      attribute: [],
    });
  }
}

function namesIn(graph: GraphProto): string[] {
  return graph.node.flatMap(({ input, attribute }) => [
    ...input,
    ...attribute.flatMap(({ g }) => (g ? namesIn(g) : [])),
  ]);
}

/** Lowerings of values that an inner graph may use: those of the graphs around it, by tensor. */
const lowered = new WeakMap<OnnxBuilder, Map<Tensor, string>>();

function lowerBody(outer: OnnxBuilder, body: LoopBody): GraphProto {
  const builder = outer.inner();
  const names = new Map(lowered.get(outer));
  const placeholders = [body.iteration, ...body.carried];
  for (const placeholder of placeholders) {
    const name = inputName(placeholder)!;
    names.set(placeholder, name);
    builder.input(name, placeholder);
  }
  const results = [...body.results, ...body.stacked];
  lowerAll(builder, body.nodes, results, names);

  const prefix = inputName(body.iteration)!;
  // ONNX's loop bodies take and return a condition; ours never end early.
  const proceed = builder.constant(new Uint8Array([1]), []);
  const outputs = [
    { name: `${prefix}.continue`, value: proceed, dtype: 'bool' as DType, shape: [] as Shape },
    ...results.map((tensor, i) => ({
      name: `${prefix}.result${i}`,
      value: names.get(tensor)!,
      dtype: tensor.dtype,
      shape: tensor.shape.map((dim) => builder.resolve(dim)),
    })),
  ];
  nameOutputs(builder, outputs);
  const [iteration, ...carried] = builder.inputs;
  return {
    name: prefix,
    node: builder.nodes,
    initializer: builder.initializers,
    input: [iteration!, valueInfo(`${prefix}.condition`, 'bool', []), ...carried],
    output: outputs.map(({ name, dtype, shape }) => valueInfo(name, dtype, shape)),
  };
}

function lowerAll(
  builder: OnnxBuilder,
  order: readonly Node[],
  results: readonly Tensor[],
  names: Map<Tensor, string>,
): void {
  lowered.set(builder, names);
  for (const tensor of results) builder.used.add(tensor);
  for (const node of order) for (const operand of node.inputs) if (operand) builder.used.add(operand);
  for (const node of order) {
    if (names.has(node.outputs[0]!)) continue;
    const operator = node.operator as Operator;
    builder.path = node.path;
    const operands = node.inputs.map((operand) => (operand ? names.get(operand)! : ''));
    const lowered = operator.lower?.(builder, operands, node);
    if (lowered) {
      for (const [i, output] of node.outputs.entries()) names.set(output, lowered[i]!);
      continue;
    }
    if (!operator.expand) throw new HeddleError('internal', `operator ${operator.name} has no ONNX lowering`);
    const expansion = expansionOf(node);
    const boundary = new Set(node.inputs.flatMap((operand) => (operand ? [operand.node] : [])));
    lowerAll(builder, topologicalOrder(expansion, boundary), expansion, names);
    for (const [i, output] of node.outputs.entries()) names.set(output, names.get(expansion[i]!)!);
  }
}
