/** Lowers a graph to the text of a StableHLO module, for given dimensions. */
import { ShapeError } from '../../../errors.js';
import { asMatrix } from '../../shape.js';
import {
  type Composite,
  expansionOf,
  inputName,
  isComposite,
  isPrimitive,
  type Node,
  type Primitive,
  type Tensor,
  topologicalOrder,
} from '../../tensor.js';
import { type Call, StableHloBuilder } from './builder.js';
import { appended } from './states.js';
import { shardingText, typeOf } from './text.js';
import { type Element, elementOf, type Plain, type Precision, type Value } from './value.js';
import { WRITING_RESULTS, writeTokens, writingArguments } from './writing.js';

/** A graph with states that stay on the device. */
export interface StableHloGraph {
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly states: readonly {
    readonly before: Tensor;
    readonly after: Tensor;
    /** The axis along which `after` is appended to the entries of each row. */
    readonly grows: number | undefined;
    readonly isBatched: boolean;
    /** Whether it is a parameter, which is converted to the precision of activations where it is used. */
    readonly isParameter: boolean;
  }[];
  /** int64 [batch]: the number of entries of the growing states of each row. */
  readonly lengths: Tensor | undefined;
  readonly inputs: readonly Tensor[];
  readonly weights: ReadonlyMap<string, HloWeight>;
  /** The value of a named dimension. */
  readonly sizes: (symbol: string) => number;
  readonly precision: Precision;
  /** The precision of nodes of some layers, by the nodes' paths. */
  readonly precisionOf?: ((path: string) => Precision | undefined) | undefined;
  /** The most bytes of float32 logits of attention at once; 256 MB by default. */
  readonly logitBytes?: number;
  /** Which custom calls may be made where there are kernels; none by default. */
  readonly calls?: ReadonlySet<Call>;
  /** Generates several tokens of each row in one run, by looping over the graph: see writing.ts. */
  readonly writing?: Writing;
  /** The sharding over several devices; one device by default. */
  readonly mesh?: Mesh;
}

/** The inputs and the output of a decoding graph, [rows, 1], [rows], [rows] and [rows, vocabulary]. */
export interface Writing {
  readonly steps: number;
  readonly ids: Tensor;
  readonly position: Tensor;
  /** The indices into the flattened ids of the logits: one for each row. */
  readonly places: Tensor;
  readonly logits: Tensor;
}

/** The form of a weight on the device. */
export type HloWeight =
  | { readonly kind: 'numbers'; readonly element: Element }
  | { readonly kind: 'packed'; readonly bits: 4 | 8; readonly block: number };

/** A one-dimensional mesh of devices, and the axis along which each argument is sharded, if any. */
export interface Mesh {
  readonly devices: number;
  readonly axisOf: (name: string, dims: readonly number[]) => number | undefined;
}

/** An argument of a program. */
export interface HloArgument {
  readonly name: string;
  readonly kind: 'weight' | 'codes' | 'scales' | 'state' | 'input' | 'lengths' | 'writing';
  readonly element: Element;
  readonly dims: readonly number[];
  /** The axis along which it is sharded. */
  readonly axis?: number;
}

/** A result of a program: the new states, in the memory of the old ones, then the outputs. */
export interface HloResult {
  readonly name: string;
  readonly kind: 'state' | 'output';
  readonly element: Element;
  readonly dims: readonly number[];
}

/** The text of a StableHLO module, with the arguments and results of its main function in order. */
export interface LoweredToHlo {
  readonly text: string;
  readonly arguments: readonly HloArgument[];
  readonly results: readonly HloResult[];
}

/** The name of the argument with the lengths, if the graph does not declare one. */
const LENGTHS = 'state/lengths';

/** Throws `DeviceError` for operations that this target does not support, and `ShapeError` for an unknown dimension. */
export function lowerToStableHlo(graph: StableHloGraph): LoweredToHlo {
  const { outputs, states, weights, mesh } = graph;
  const builder = new StableHloBuilder(
    graph.sizes,
    graph.precision,
    graph.logitBytes,
    graph.calls,
    graph.precisionOf,
    mesh?.devices,
  );
  const values = new Map<Tensor, Value>();
  const parameters: Parameter[] = [];
  const add = (
    name: string,
    kind: HloArgument['kind'],
    element: Element,
    dims: readonly number[],
    isWeak = false,
  ): Plain => {
    const id = `%arg${parameters.length}`;
    const axis = mesh?.axisOf(name, dims);
    parameters.push({ id, name, kind, element, dims, ...(axis !== undefined && { axis }) });
    return builder.argument(element, dims, isWeak, id);
  };

  const changed = states.filter(({ before, after }) => before !== after);
  const roots = [...Object.values(outputs), ...changed.map(({ after }) => after)];
  const order = topologicalOrder(roots);
  for (const { before, isParameter } of states) {
    const dims = builder.dims(before.shape);
    values.set(before, add(inputName(before)!, 'state', elementOf(before.dtype), dims, isParameter));
  }
  const { writing } = graph;
  for (const input of graph.inputs) {
    if (input === writing?.places) continue;
    values.set(input, add(inputName(input)!, 'input', elementOf(input.dtype), builder.dims(input.shape)));
  }
  let lengths: Plain | undefined;
  if (writing || graph.lengths || changed.some(({ grows }) => grows !== undefined)) {
    const name = graph.lengths ? inputName(graph.lengths)! : LENGTHS;
    const growing = changed.find(({ grows }) => grows !== undefined);
    const dims = graph.lengths
      ? builder.dims(graph.lengths.shape)
      : writing
        ? builder.dims(writing.position.shape)
        : [builder.dims(growing!.before.shape)[0]!];
    lengths = add(name, 'lengths', 'i64', dims);
    if (graph.lengths) values.set(graph.lengths, lengths);
  }
  for (const node of order) {
    const tensor = node.outputs[0]!;
    const name = inputName(tensor);
    const weight = name === undefined ? undefined : weights.get(name);
    if (name === undefined || !weight || values.has(tensor)) continue;
    const dims = builder.dims(tensor.shape);
    if (weight.kind === 'numbers') {
      values.set(tensor, add(name, 'weight', weight.element, dims, true));
      continue;
    }
    const { bits, block } = weight;
    const [rows, columns] = asMatrix(dims);
    const blocks = Math.ceil(columns / block);
    const codes = add(name, 'codes', 'ui8', [rows, (blocks * block * bits) / 8]);
    const scales = add(name, 'scales', 'f32', [rows, blocks], true);
    values.set(tensor, { kind: 'packed', dims, bits, block, codes, scales });
  }

  /** The states after the graph, given the number of entries of each row before. */
  const after = (scope: Map<Tensor, Value>, held: Plain | undefined): Plain[] => {
    lowerAll(builder, order, roots, scope);
    return changed.map(({ before, after: tensor, grows, isBatched }) => {
      const old = scope.get(before) as Plain;
      const made = builder.as(builder.plain(scope.get(tensor)!), old.element);
      return grows === undefined ? made : appended(builder, old, made, grows, held!, isBatched);
    });
  };
  const outputOf = (scope: Map<Tensor, Value>, tensor: Tensor): Plain =>
    builder.as(builder.plain(scope.get(tensor)!), elementOf(tensor.dtype));

  const results: Result[] = [];
  const donated = new Map<string, number>();
  const giveState = (i: number, value: Plain): void => {
    const { before } = changed[i]!;
    const name = inputName(before)!;
    const { id } = values.get(before) as Plain;
    donated.set(name, results.length);
    const { axis } = parameters.find((parameter) => parameter.id === id)!;
    results.push({ name, kind: 'state', element: value.element, dims: value.dims, value, axis });
  };
  const giveOutput = (name: string, value: Plain): void => {
    results.push({ name, kind: 'output', element: value.element, dims: value.dims, value, axis: undefined });
  };
  if (!writing) {
    for (const [i, value] of after(values, lengths).entries()) giveState(i, value);
    for (const [name, tensor] of Object.entries(outputs)) giveOutput(name, outputOf(values, tensor));
    return moduleOf(builder, parameters, results, donated, mesh);
  }

  const [rows, vocabulary] = builder.dims(writing.logits.shape) as [number, number];
  const given = writingArguments(writing.steps, rows).map(({ name, element, dims }) =>
    add(name, 'writing', element, dims),
  );
  const [uniforms, settings, stops, counts] = given as [Plain, Plain, Plain, Plain];
  const [ids, position] = [writing.ids, writing.position].map((tensor) => values.get(tensor) as Plain);
  const written = writeTokens(
    builder,
    writing.steps,
    vocabulary,
    {
      standing: { ids: ids!, position: position!, lengths: lengths! },
      states: changed.map(({ before }) => values.get(before) as Plain),
    },
    { uniforms, settings, stops, counts },
    changed.map(({ grows }) => grows !== undefined),
    (standing, states) => {
      const scope = new Map(values);
      scope.set(writing.ids, standing.ids);
      scope.set(writing.position, standing.position);
      scope.set(writing.places, builder.iota([rows], 0, 'i64'));
      if (graph.lengths) scope.set(graph.lengths, standing.lengths);
      for (const [i, { before }] of changed.entries()) scope.set(before, states[i]!);
      const made = after(scope, standing.lengths);
      return { states: made, logits: outputOf(scope, writing.logits) };
    },
  );
  for (const [i, value] of written.states.entries()) giveState(i, value);
  for (const name of Object.values(WRITING_RESULTS)) giveOutput(name, written[name]);
  return moduleOf(builder, parameters, results, donated, mesh);
}

/** An argument under its name in the text. */
export interface Parameter extends HloArgument {
  readonly id: string;
}

/** A result of the function, with the value that it returns. */
export interface Result extends HloResult {
  readonly value: Plain;
  /** The axis along which it is sharded. */
  readonly axis: number | undefined;
}

/** The module of a function with these arguments and results; `donated` are the results that reuse an argument's memory. */
export function moduleOf(
  builder: StableHloBuilder,
  parameters: readonly Parameter[],
  results: readonly Result[],
  donated: ReadonlyMap<string, number>,
  mesh: Mesh | undefined,
): LoweredToHlo {
  const signature = parameters.map((parameter) => {
    const attributes: string[] = [];
    const result = parameter.kind === 'state' ? donated.get(parameter.name) : undefined;
    if (result !== undefined) attributes.push(`tf.aliasing_output = ${result} : i32`);
    if (mesh) attributes.push(shardingOf(parameter.dims, parameter.axis));
    return `${parameter.id}: ${typeOf(parameter)}${attributes.length > 0 ? ` {${attributes.join(', ')}}` : ''}`;
  });
  const types = results.map(({ value, axis }) =>
    mesh ? `${typeOf(value)} {${shardingOf(value.dims, axis)}}` : typeOf(value),
  );
  const ids = results.map(({ value }) => value.id).join(', ');
  const text = [
    `module @heddle attributes {mhlo.num_partitions = ${mesh?.devices ?? 1} : i32, mhlo.num_replicas = 1 : i32} {`,
    ...(mesh ? [`sdy.mesh @mesh = <["devices"=${mesh.devices}]>`] : []),
    `func.func public @main(${signature.join(', ')}) -> (${types.join(', ')}) {`,
    ...builder.lines,
    results.length === 0
      ? 'return'
      : `return ${ids} : ${results.map(({ value }) => typeOf(value)).join(', ')}`,
    '}',
    '}',
  ].join('\n');
  return {
    text: `${text}\n`,
    arguments: parameters.map(({ id: _, ...argument }) => argument),
    results: results.map(({ value: _, axis: __, ...result }) => result),
  };
}

/** The Shardy annotation of a tensor that is sharded along an axis. */
function shardingOf(dims: readonly number[], axis: number | undefined): string {
  return `sdy.sharding = #sdy.sharding${shardingText(dims, axis)}`;
}

/** Lowers nodes in order. */
export function lowerAll(
  builder: StableHloBuilder,
  order: readonly Node[],
  roots: readonly Tensor[],
  values: Map<Tensor, Value>,
): void {
  for (const tensor of roots) builder.used.add(tensor);
  for (const node of order) for (const operand of node.inputs) if (operand) builder.used.add(operand);
  for (const node of order) {
    if (values.has(node.outputs[0]!)) continue;
    const operands = node.inputs.map((operand) => (operand ? values.get(operand)! : undefined));
    const made = builder.inLayer(node.path, () => lowerNode(builder, node, operands, values));
    for (const [i, tensor] of node.outputs.entries()) if (made[i]) values.set(tensor, made[i]);
  }
}

function lowerNode(
  builder: StableHloBuilder,
  node: Node,
  operands: readonly (Value | undefined)[],
  values: Map<Tensor, Value>,
): readonly (Value | undefined)[] {
  const { operator } = node;
  builder.values = values;
  if (isPrimitive(operator)) return (operator as Primitive).lower.stablehlo(builder, operands, node);
  if (!isComposite(operator)) {
    throw new ShapeError(`the input '${inputName(node.outputs[0]!)}' is not one of the program's`);
  }
  const made = (operator as Composite).kernels?.stablehlo?.(builder, operands, node);
  if (made) return made;
  const expansion = expansionOf(node);
  const boundary = new Set(node.inputs.flatMap((operand) => (operand ? [operand.node] : [])));
  lowerAll(builder, topologicalOrder(expansion, boundary), expansion, values);
  return expansion.map((tensor) => values.get(tensor)!);
}
