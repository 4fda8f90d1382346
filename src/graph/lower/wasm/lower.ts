/** Lowers a graph to the steps of a schedule, for given dimensions. */
import { ShapeError } from '../../../errors.js';
import { asMatrix, type Dim } from '../../shape.js';
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
import { loadsOf, type MapStep, merged, readsOf, writesOf } from './map.js';
import { divided } from './share.js';
import type { Step } from './step.js';
import {
  Buffer,
  count,
  ELEMENT_BYTES,
  type HeldWeight,
  idOf,
  type Kept,
  type Value,
  type View,
} from './value.js';

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
    const key = keyOf(builder, node, operands);
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

/**
 * A key that is equal for nodes with equal results, or undefined if it would be too long. If all operands are named constants, it is valid
 * across programs.
 */
function keyOf(
  builder: WasmBuilder,
  node: Node,
  operands: readonly (Value | undefined)[],
): string | undefined {
  if (node.outputs.some((output) => builder.successors.has(output))) return undefined;
  const attributes = attributesKey(builder, node.attributes);
  if (attributes === undefined) return undefined;
  const dims = node.outputs.map(({ shape }) => `[${builder.dims(shape)}]`).join('');
  return `${node.operator.name}(${operands.map((x) => (x ? valueKey(x) : '-')).join(', ')})${attributes}${dims}`;
}

function valueKey(value: Value): string {
  if (value.kind === 'packed') return value.codes.key!;
  if (value.kind === 'state') return `state ${value.index}`;
  if (value.kind === 'coded') return `coded ${value.codes.index}`;
  const { buffer, dims, strides, offset } = value;
  return `${buffer.key ?? `#${idOf(buffer)}`}+${offset}[${dims}][${strides}]`;
}

/** The largest constant that is compared by content, in elements. */
const MOST_COMPARED = 256;

function attributesKey(builder: WasmBuilder, attributes: unknown): string | undefined {
  let isShort = true;
  const text = JSON.stringify(attributes, (name, value: unknown) => {
    if (ArrayBuffer.isView(value)) {
      const list = value as Float32Array;
      if (list.length > MOST_COMPARED) isShort = false;
      return isShort ? Array.from(list, (x) => (Object.is(x, -0) ? '-0' : String(x))) : undefined;
    }
    if (name === 'body' || name === 'branches') {
      isShort = false;
      return undefined;
    }
    // Dimensions are compared by value, since a name may mean another size elsewhere.
    if (DIMENSIONS.has(name)) {
      return Array.isArray(value) ? builder.dims(value as Dim[]) : builder.resolve(value as Dim);
    }
    const isPlain = typeof value !== 'number' || (Number.isFinite(value) && !Object.is(value, -0));
    return typeof value === 'bigint' || !isPlain ? (Object.is(value, -0) ? '-0' : String(value)) : value;
  });
  return isShort ? (text ?? '') : undefined;
}

/** Attributes that are dimensions or shapes. */
const DIMENSIONS = new Set(['shape', 'size', 'dim', 'start', 'end', 'sizes', 'k']);

/** The final steps: dead steps are removed, and adjacent element-wise steps fused. */
function finished(steps: readonly (Step | MapStep)[], isKept: (buffer: Buffer) => boolean): Step[] {
  const needed = new Set<Buffer>();
  const alive: (Step | MapStep)[] = [];
  for (const step of [...steps].reverse()) {
    const isMap = 'stores' in step;
    const isUsed = writesOf(step).some((buffer) => needed.has(buffer) || isKept(buffer));
    if (!isUsed && !(!isMap && step.writesStates)) continue;
    for (const buffer of isMap ? loadsOf(step).map((view) => view.buffer) : step.reads) needed.add(buffer);
    alive.push(step);
  }
  return divided(fused(alive.reverse(), isKept));
}

/** Fuses each element-wise step with preceding ones whose results are not read in between. */
function fused(given: readonly (Step | MapStep)[], isKept: (buffer: Buffer) => boolean): (Step | MapStep)[] {
  const steps: (Step | MapStep | undefined)[] = [...given];
  const readers = new Map<Buffer, Set<number>>();
  const writers = new Map<Buffer, number[]>();
  for (const [i, step] of given.entries()) {
    for (const buffer of readsOf(step)) {
      const all = readers.get(buffer) ?? new Set();
      readers.set(buffer, all.add(i));
    }
    for (const buffer of writesOf(step)) writers.set(buffer, [...(writers.get(buffer) ?? []), i]);
  }
  for (let i = 0; i < steps.length; i++) {
    let step = steps[i];
    if (!step || !('stores' in step)) continue;
    // Repeated until nothing changes, since the operands of a fused step may be fused as well.
    for (let again = true; again; ) {
      again = false;
      for (const buffer of new Set(readsOf(step))) {
        const made = writers.get(buffer) ?? [];
        const at = made.length === 1 ? made[0]! : -1;
        const producer = at >= 0 && at < i ? steps[at] : undefined;
        if (!producer || !('stores' in producer)) continue;
        const results = producer.stores.map(({ view }) => view.buffer);
        if (results.some((result) => (writers.get(result) ?? []).length !== 1)) continue;
        const early = results.some((result) => [...(readers.get(result) ?? [])].some((reader) => reader < i));
        if (early) continue;
        const isRead = (result: Buffer): boolean =>
          isKept(result) || [...(readers.get(result) ?? [])].some((reader) => reader !== i);
        const one = merged(producer, step as MapStep, isRead);
        if (!one) continue;
        steps[at] = undefined;
        steps[i] = one;
        step = one;
        for (const result of results) {
          readers.get(result)?.delete(i);
          writers.set(result, [i]);
        }
        for (const read of readsOf(one)) {
          const all = readers.get(read) ?? new Set();
          all.delete(at);
          readers.set(read, all.add(i));
        }
        for (const read of readsOf(producer)) readers.get(read)?.delete(at);
        again = true;
        break;
      }
    }
  }
  return steps.filter((step) => step !== undefined);
}
