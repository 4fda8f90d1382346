/** Lowers a graph to the steps of a schedule, for given dimensions. */
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
import { WasmBuilder } from './builder.js';
import { Element, Kernel } from './codes.js';
import { resultKey } from './common-subexpressions.js';
import { finished } from './fuse.js';
import type { Step } from './step.js';
import { Buffer, count, ELEMENT_BYTES, type HeldWeight, type Kept, type Value, type View } from './value.js';

/** A graph with states. */
export interface WasmGraph {
  readonly outputs: Readonly<Record<string, Tensor>>;
  readonly states: readonly {
    readonly before: Tensor;
    readonly after: Tensor;
    readonly grows: number | undefined;
    readonly isBatched: boolean;
  }[];
  /** int64 [batch]: the number of entries of growing states, if the graph has this input. */
  readonly lengths: Tensor | undefined;
  /** The number of rows of the states. */
  readonly rows: number;
  readonly weights: ReadonlyMap<string, HeldWeight>;
  /** The value of a named dimension. */
  readonly sizes: (symbol: string) => number;
  readonly threads: number;
}

/** The steps in order, and the buffers of inputs and outputs. */
export interface Lowered {
  readonly once: readonly Step[];
  readonly steps: readonly Step[];
  readonly inputs: ReadonlyMap<string, Buffer>;
  readonly outputs: ReadonlyMap<string, View>;
  /** The number of entries that a run appends to each state; undefined for states that do not grow or do not change. */
  readonly appended: readonly (number | undefined)[];
}

/** The name of the lengths' input, if the graph does not declare one. */
export const LENGTHS = 'state/lengths';

/** Throws `DeviceError` for operations that this target does not support, and `ShapeError` for an unknown dimension. */
export function lowerToWasm(graph: WasmGraph): Lowered {
  const { outputs, states, weights } = graph;
  const inputs = new Map<string, Buffer>();
  const values = new Map<Tensor, Value>();
  const kept = new Map(states.map((state, index) => [state.before, { ...state, index }]));
  const changed = states.flatMap(({ before, after }, index) => (before === after ? [] : [{ after, index }]));
  const roots = [...Object.values(outputs), ...changed.map(({ after }) => after)];
  const order = topologicalOrder(roots);

  // If a node's result is used only as the new value of a state, its kernel writes it in place.
  const uses = new Map<Tensor, number>();
  for (const { inputs } of order) for (const x of inputs) if (x) uses.set(x, (uses.get(x) ?? 0) + 1);
  for (const root of roots) uses.set(root, (uses.get(root) ?? 0) + 1);
  const successors = new Map(
    changed.flatMap(({ after, index }) =>
      uses.get(after) === 1 && states[index]!.grows === undefined && states[index]!.isBatched
        ? [[after, index] as const]
        : [],
    ),
  );
  const lengths = lengthsBuffer();
  const builder = new WasmBuilder(graph.sizes, graph.threads, successors, lengths);

  /** The buffer of the lengths, which the executable feeds, under the program's own name if it has one. */
  function lengthsBuffer(): Buffer | undefined {
    if (!graph.lengths && !states.some(({ grows }) => grows !== undefined)) return undefined;
    const name = graph.lengths ? inputName(graph.lengths)! : LENGTHS;
    const buffer = new Buffer(8 * graph.rows, { kind: 'fed', name });
    inputs.set(name, buffer);
    return buffer;
  }

  function fed(tensor: Tensor): Buffer {
    const name = inputName(tensor)!;
    let buffer = inputs.get(name);
    if (!buffer) {
      buffer = new Buffer(count(builder.dims(tensor.shape)) * ELEMENT_BYTES[elementOf(tensor)], {
        kind: 'fed',
        name,
      });
      inputs.set(name, buffer);
    }
    return buffer;
  }

  for (const node of order) {
    const tensor = node.outputs[0]!;
    const name = inputName(tensor);
    if (name === undefined) continue;
    const state = kept.get(tensor);
    const weight = weights.get(name);
    if (state) values.set(tensor, keptValue(builder, tensor, state));
    else if (weight) values.set(tensor, weightValue(builder, name, tensor, weight));
    else values.set(tensor, builder.viewOf(fed(tensor), builder.dims(tensor.shape), tensor.dtype));
  }
  lowerAll(builder, order, roots, values);

  for (const { after, index } of changed) {
    if (builder.written.has(index)) continue;
    builder.begin('', undefined);
    storeState(builder, values.get(after)!, index, states[index]!);
  }
  builder.begin('', undefined);
  const results = new Map<string, View>();
  for (const [name, tensor] of Object.entries(outputs))
    results.set(name, builder.contiguous(values.get(tensor)!));
  const finals = new Set([...results.values()].map(({ buffer }) => buffer));
  const appended = states.map(({ before, after, grows }) =>
    grows === undefined || before === after ? undefined : builder.resolve(after.shape[grows]!),
  );
  const steps = finished(builder.steps, (buffer) => finals.has(buffer));
  const asked = new Set([...finals, ...steps.flatMap(({ reads }) => reads)]);
  return {
    once: finished(builder.once, (buffer) => asked.has(buffer)),
    steps,
    inputs,
    outputs: results,
    appended,
  };
}

function elementOf({ dtype }: Tensor): Element {
  return Element[dtype];
}

function keptValue(
  builder: WasmBuilder,
  tensor: Tensor,
  state: { index: number; grows: number | undefined; isBatched: boolean },
): Kept {
  return {
    kind: 'state',
    dtype: tensor.dtype,
    // Reading the room of a growing state makes the schedule depend on it.
    get dims() {
      return builder.dims(tensor.shape);
    },
    ...state,
  };
}

function weightValue(
  builder: WasmBuilder,
  name: string,
  { dtype, shape }: Tensor,
  weight: HeldWeight,
): Value {
  const dims = builder.dims(shape);
  const buffer = (part: 'values' | 'codes' | 'scales', bytes: number): Buffer =>
    new Buffer(bytes, { kind: 'weight', name, part }, true, `weight ${name} ${part}`);
  if (weight.kind === 'numbers') {
    const { element } = weight;
    return builder.viewOf(buffer('values', count(dims) * ELEMENT_BYTES[element]), dims, dtype, element);
  }
  const { bits, block } = weight;
  const [rows, columns] = asMatrix(dims);
  const blocks = rows * Math.ceil(columns / block);
  return {
    kind: 'packed',
    dtype: 'float32',
    dims,
    bits,
    block,
    codes: buffer('codes', (blocks * block * bits) / 8),
    scales: buffer('scales', 4 * blocks),
  };
}

function storeState(
  builder: WasmBuilder,
  value: Value,
  index: number,
  { grows, isBatched }: { grows: number | undefined; isBatched: boolean },
): void {
  const view = builder.contiguous(value);
  const { dims, buffer } = view;
  const rows = isBatched ? dims[0]! : 1;
  const size = (rows === 0 ? 0 : count(dims) / rows) * ELEMENT_BYTES[view.element];
  const operands = { reads: [buffer], writes: [], writesStates: [index] };
  if (grows === undefined) {
    builder.step(Kernel.storeRows, [{ state: index, side: 'after' }, rows, size, builder.at(view)], operands);
    return;
  }
  const lengths = builder.lengths!;
  builder.step(
    Kernel.appendEntries,
    [
      { state: index, side: 'after' },
      { buffer: lengths, bytes: 0 },
      rows,
      count(dims.slice(isBatched ? 1 : 0, grows)),
      count(dims.slice(grows + 1)) * ELEMENT_BYTES[view.element],
      dims[grows]!,
      builder.at(view),
    ],
    { ...operands, reads: [buffer, lengths] },
  );
}

/** Results by operator and operands, for common subexpression elimination: layers repeat some, such as rotary angles. */
const results = new WeakMap<WasmBuilder, Map<string, readonly Value[]>>();

/** Lowers nodes in order, with common subexpression elimination. */
export function lowerAll(
  builder: WasmBuilder,
  order: readonly Node[],
  roots: readonly Tensor[],
  values: Map<Tensor, Value>,
): void {
  let known = results.get(builder);
  if (!known) {
    known = new Map();
    results.set(builder, known);
  }
  for (const tensor of roots) builder.used.add(tensor);
  for (const node of order) for (const operand of node.inputs) if (operand) builder.used.add(operand);
  for (const node of order) {
    if (values.has(node.outputs[0]!)) continue;
    const operands = node.inputs.map((operand) => (operand ? values.get(operand)! : undefined));
    const key = resultKey(builder, node, operands);
    const same = key === undefined ? undefined : known.get(key);
    const made = same ?? lowerNode(builder, node, operands, values, key);
    for (const [i, tensor] of node.outputs.entries()) if (made[i]) values.set(tensor, made[i]);
    if (key !== undefined && !same) known.set(key, made);
  }
}

const scopes = new WeakMap<WasmBuilder, Map<Tensor, Value>>();

/** The values that nodes of a subgraph may use: those of the enclosing graph. */
export function valuesAround(builder: WasmBuilder): Map<Tensor, Value> {
  return scopes.get(builder)!;
}

function lowerNode(
  builder: WasmBuilder,
  node: Node,
  operands: readonly (Value | undefined)[],
  values: Map<Tensor, Value>,
  key: string | undefined,
): readonly Value[] {
  const { operator } = node;
  builder.begin(node.path, key);
  scopes.set(builder, values);
  if (isPrimitive(operator)) return (operator as Primitive).lower.wasm(builder, operands, node);
  if (!isComposite(operator)) {
    throw new ShapeError(`the input '${inputName(node.outputs[0]!)}' is not one of the program's`);
  }
  const made = (operator as Composite).kernels?.wasm?.(builder, operands, node);
  if (made) return made;
  const expansion = expansionOf(node);
  const boundary = new Set(node.inputs.flatMap((operand) => (operand ? [operand.node] : [])));
  lowerAll(builder, topologicalOrder(expansion, boundary), expansion, values);
  return expansion.map((tensor) => values.get(tensor)!);
}
