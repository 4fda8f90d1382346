/**
 * Runs StableHLO on the CPU, plainly and slowly: the proof of what we print, where no XLA can run. Every instruction rounds its results
 * to their type; products are summed in float64 and rounded once.
 */
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../../half.js';
import type { Element } from '../../lower/stablehlo/value.js';
import { evaluateFused } from './fused-attention.js';
import { type Instruction, parseModule, type Region, type TensorType } from './parse.js';
import { evaluateTriton, TRITON } from './triton.js';
import { devicesOf, verify } from './verify.js';

/** Elements as numbers; truth values as 0 and 1. */
export interface Evaluated {
  readonly type: TensorType;
  readonly data: Float64Array;
}

/** Is told of each instruction of the main function, what it was given and what it made. */
export type Observer = (
  instruction: Instruction,
  operands: readonly Evaluated[],
  results: readonly Evaluated[],
) => void;

/** A parsed StableHLO module that can be run. */
export interface CompiledText {
  readonly argumentTypes: readonly TensorType[];
  readonly argumentAttributes: readonly string[];
  readonly resultTypes: readonly TensorType[];
  readonly resultAttributes: readonly string[];
  /** Throws for arguments of other types. */
  run(args: readonly Evaluated[], observer?: Observer): Evaluated[];
}

/** Reads and checks a module. Throws for what the specification does not allow, or we do not print. */
export function compileText(text: string): CompiledText {
  const module = parseModule(text);
  verify(module);
  const { body, resultTypes, resultAttributes } = module;
  return {
    argumentTypes: body.arguments.map(({ type }) => type),
    argumentAttributes: body.arguments.map(({ attributes }) => attributes),
    resultTypes,
    resultAttributes,
    run(args, observer) {
      if (args.length !== body.arguments.length) throw new Error(`${args.length} arguments`);
      for (const [i, { type }] of args.entries()) {
        const wanted = body.arguments[i]!.type;
        if (type.element !== wanted.element || type.dims.join() !== wanted.dims.join())
          throw new Error(
            `argument ${i} is ${type.element}[${type.dims}], not ${wanted.element}[${wanted.dims}]`,
          );
      }
      return runRegion(body, args, new Map(), observer);
    },
  };
}

type Scope = Map<string, Evaluated>;

function runRegion(
  region: Region,
  args: readonly Evaluated[],
  around: Scope,
  observer?: Observer,
): Evaluated[] {
  const scope = new Map(around);
  for (const [i, { id }] of region.arguments.entries()) scope.set(id, args[i]!);
  for (const instruction of region.instructions) {
    const operands = instruction.operands.map((id) => scope.get(id)!);
    const made = evaluate(instruction, operands, scope);
    for (const [i, id] of instruction.results.entries()) {
      const type = instruction.resultTypes[i]!;
      scope.set(id, { type, data: rounded(made[i]!, type.element) });
    }
    observer?.(
      instruction,
      operands,
      instruction.results.map((id) => scope.get(id)!),
    );
  }
  return region.returns.map((id) => scope.get(id)!);
}

const UNARY: Record<string, (x: number) => number> = {
  abs: Math.abs,
  negate: (x) => -x,
  exponential: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  sine: Math.sin,
  cosine: Math.cos,
  tanh: Math.tanh,
  logistic: (x) => 1 / (1 + Math.exp(-x)),
  log_plus_one: Math.log1p,
  exponential_minus_one: Math.expm1,
};

const BINARY: Record<string, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  power: (a, b) => a ** b,
  maximum: Math.max,
  minimum: Math.min,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  shift_right_logical: (a, b) => a >>> b,
};

const COMPARISONS: Record<string, (a: number, b: number) => boolean> = {
  EQ: (a, b) => a === b,
  NE: (a, b) => a !== b,
  LT: (a, b) => a < b,
  LE: (a, b) => a <= b,
  GT: (a, b) => a > b,
  GE: (a, b) => a >= b,
};

function evaluate(instruction: Instruction, operands: readonly Evaluated[], scope: Scope): Float64Array[] {
  const { name, attributes, regions, resultTypes } = instruction;
  const [x, y, z] = operands as [Evaluated, Evaluated, Evaluated];
  const type = resultTypes[0]!;
  const list = (key: string): readonly number[] => (attributes[key] as readonly number[] | undefined) ?? [];
  const tabulate = (element: (index: readonly number[], place: number) => number): Float64Array[] => {
    const data = new Float64Array(size(type.dims));
    forEach(type.dims, (index, place) => {
      data[place] = element(index, place);
    });
    return [data];
  };
  if (name in UNARY) return [x.data.map(UNARY[name]!)];
  if (name in BINARY) return [x.data.map((a, i) => BINARY[name]!(a, y.data[i]!))];
  switch (name) {
    case 'divide': {
      const isWhole = !type.element.includes('f');
      return [x.data.map((a, i) => (isWhole ? Math.trunc(a / y.data[i]!) : a / y.data[i]!))];
    }
    case 'not':
      return [x.data.map((a) => (type.element === 'i1' ? 1 - a : ~a))];
    case 'constant': {
      const literal = instruction.literal!;
      return [new Float64Array(size(type.dims)).map((_, i) => literal[literal.length === 1 ? 0 : i]!)];
    }
    case 'iota':
      return tabulate((index) => index[attributes.dim as number]!);
    case 'compare': {
      const holds = COMPARISONS[String(attributes.direction)]!;
      return [x.data.map((a, i) => Number(holds(a, y.data[i]!)))];
    }
    case 'select':
      return [y.data.map((a, i) => (x.data[x.data.length === 1 ? 0 : i] ? a : z.data[i]!))];
    case 'convert': {
      const toInteger = !type.element.includes('f') && x.type.element.includes('f');
      const toTruth = type.element === 'i1';
      return [x.data.map((a) => (toTruth ? Number(a !== 0) : toInteger ? Math.trunc(a) : a))];
    }
    case 'reshape':
      return [x.data];
    case 'transpose': {
      const order = list('dims');
      return tabulate((index) => {
        const from = Array<number>(order.length);
        for (const [i, axis] of order.entries()) from[axis] = index[i]!;
        return x.data[offset(x.type.dims, from)]!;
      });
    }
    case 'broadcast_in_dim': {
      const axes = list('dims');
      return tabulate((index) => {
        const from = axes.map((axis, i) => (x.type.dims[i] === 1 ? 0 : index[axis]!));
        return x.data[offset(x.type.dims, from)]!;
      });
    }
    case 'slice': {
      const starts = list('starts');
      return tabulate(
        (index) =>
          x.data[
            offset(
              x.type.dims,
              index.map((at, i) => starts[i]! + at),
            )
          ]!,
      );
    }
    case 'concatenate': {
      const axis = attributes.dim as number;
      return tabulate((index) => {
        let at = index[axis]!;
        for (const { type: part, data } of operands) {
          if (at < part.dims[axis]!)
            return data[
              offset(
                part.dims,
                index.map((each, i) => (i === axis ? at : each)),
              )
            ]!;
          at -= part.dims[axis]!;
        }
        throw new Error('outside of all parts');
      });
    }
    case 'pad': {
      const low = list('low');
      return tabulate((index) => {
        const from = index.map((at, i) => at - low[i]!);
        const isInside = from.every((at, i) => at >= 0 && at < x.type.dims[i]!);
        return isInside ? x.data[offset(x.type.dims, from)]! : y.data[0]!;
      });
    }
    case 'reverse': {
      const axes = list('dims');
      return tabulate((index) => {
        const from = index.map((at, i) => (axes.includes(i) ? x.type.dims[i]! - 1 - at : at));
        return x.data[offset(x.type.dims, from)]!;
      });
    }
    case 'dynamic_slice': {
      const starts = clamped(operands.slice(1), x.type.dims, type.dims);
      return tabulate(
        (index) =>
          x.data[
            offset(
              x.type.dims,
              index.map((at, i) => starts[i]! + at),
            )
          ]!,
      );
    }
    case 'dynamic_update_slice': {
      const starts = clamped(operands.slice(2), x.type.dims, y.type.dims);
      const data = x.data.slice();
      forEach(y.type.dims, (index, place) => {
        data[
          offset(
            x.type.dims,
            index.map((at, i) => starts[i]! + at),
          )
        ] = y.data[place]!;
      });
      return [data];
    }
    case 'reduce': {
      const axes = list('dimensions');
      const apply = BINARY[String(attributes.applies)]!;
      const data = new Float64Array(size(type.dims)).fill(y.data[0]!);
      forEach(x.type.dims, (index, place) => {
        const to = offset(
          type.dims,
          index.filter((_, axis) => !axes.includes(axis)),
        );
        data[to] = apply(data[to]!, x.data[place]!);
      });
      return [data];
    }
    case 'dot_general':
      return [dot(instruction, x, y)];
    case 'gather':
      return gather(instruction, x, y);
    case 'scatter':
      return [scatter(instruction, x, y, z, scope)];
    case 'sort':
      return sort(instruction, operands, scope);
    case 'custom_call':
      return attributes.target === TRITON
        ? evaluateTriton(instruction, operands)
        : evaluateFused(instruction, operands);
    case 'while': {
      let values = [...operands];
      const [condition, body] = regions as [Region, Region];
      while (runRegion(condition, values, scope)[0]!.data[0]) values = runRegion(body, values, scope);
      return values.map(({ data }) => data);
    }
    case 'manual_computation':
      return onEachDevice(instruction, operands);
    default:
      throw new Error(`${name} is not evaluated`);
  }
}

/** Runs the region for each device on its part of the operands, and puts the parts of the results together. */
function onEachDevice(instruction: Instruction, operands: readonly Evaluated[]): Float64Array[] {
  const { attributes, regions, resultTypes } = instruction;
  const [body] = regions as [Region];
  const devices = devicesOf(instruction);
  const results = resultTypes.map(({ dims }) => new Float64Array(size(dims)));
  /** Calls back with the places of a device's part and of the whole. */
  const places = (
    part: readonly number[],
    whole: readonly number[],
    axis: number,
    device: number,
    call: (own: number, all: number) => void,
  ): void =>
    forEach(part, (index, own) => {
      const at = index.map((each, i) => (i === axis ? device * part[axis]! + each : each));
      call(own, offset(whole, at));
    });
  for (let device = 0; device < devices; device++) {
    const given = body.arguments.map(({ type }, i) => {
      const [whole, data] = [operands[i]!, new Float64Array(size(type.dims))];
      const axis = (attributes.in_axes as readonly number[])[i]!;
      places(type.dims, whole.type.dims, axis, device, (own, all) => {
        data[own] = whole.data[all]!;
      });
      return { type, data };
    });
    for (const [i, part] of runRegion(body, given, new Map()).entries()) {
      const axis = (attributes.out_axes as readonly number[])[i]!;
      places(part.type.dims, resultTypes[i]!.dims, axis, device, (own, all) => {
        results[i]![all] = part.data[own]!;
      });
    }
  }
  return results;
}

function dot({ attributes, resultTypes }: Instruction, a: Evaluated, b: Evaluated): Float64Array {
  const list = (key: string): readonly number[] => (attributes[key] as readonly number[] | undefined) ?? [];
  const axesOf = (side: 'left' | 'right', { type }: Evaluated) => {
    const [batch, sum] = [list(`batching_dims_${side}`), list(`contracting_dims_${side}`)];
    return {
      batch,
      sum,
      free: type.dims.map((_, i) => i).filter((i) => !batch.includes(i) && !sum.includes(i)),
    };
  };
  const [left, right] = [axesOf('left', a), axesOf('right', b)];
  const strides = ({ type }: Evaluated, axes: readonly number[]): number[] => {
    const all = type.dims.map((_, i) => size(type.dims.slice(i + 1)));
    return axes.map((axis) => all[axis]!);
  };
  const offsets = (x: Evaluated, axes: readonly number[]): number[] => {
    const dims = axes.map((axis) => x.type.dims[axis]!);
    const by = strides(x, axes);
    const found: number[] = [];
    forEach(dims, (index) => {
      found.push(index.reduce((sum, at, i) => sum + at * by[i]!, 0));
    });
    return found;
  };
  const [aBatch, aFree, aSum] = [left.batch, left.free, left.sum].map((axes) =>
    offsets(a, axes),
  ) as number[][];
  const [bBatch, bFree, bSum] = [right.batch, right.free, right.sum].map((axes) =>
    offsets(b, axes),
  ) as number[][];
  const data = new Float64Array(size(resultTypes[0]!.dims));
  let place = 0;
  for (let batch = 0; batch < aBatch!.length; batch++) {
    for (const i of aFree!) {
      for (const j of bFree!) {
        let sum = 0;
        for (let k = 0; k < aSum!.length; k++)
          sum += a.data[aBatch![batch]! + i + aSum![k]!]! * b.data[bBatch![batch]! + j + bSum![k]!]!;
        data[place++] = sum;
      }
    }
  }
  return data;
}

/** The index vectors of a gather or scatter, by the place in the batch. */
function indexVector(indices: Evaluated, axis: number, batch: readonly number[]): number[] {
  const { dims } = indices.type;
  if (axis === dims.length) return [indices.data[offset(dims, batch)]!];
  return Array.from({ length: dims[axis]! }, (_, i) => {
    const index = [...batch.slice(0, axis), i, ...batch.slice(axis)];
    return indices.data[offset(dims, index)]!;
  });
}

function gather({ attributes, resultTypes }: Instruction, x: Evaluated, indices: Evaluated): Float64Array[] {
  const list = (key: string): readonly number[] => (attributes[key] as readonly number[] | undefined) ?? [];
  const [offsets, sizes] = [list('offset_dims'), list('slice_sizes')];
  const [paired, pairs] = [list('operand_batching_dims'), list('start_indices_batching_dims')];
  const gone = [...list('collapsed_slice_dims'), ...paired];
  const map = list('start_index_map');
  const data = new Float64Array(size(resultTypes[0]!.dims));
  forEach(resultTypes[0]!.dims, (index, place) => {
    const batch = index.filter((_, i) => !offsets.includes(i));
    const inside = offsets.map((axis) => index[axis]!);
    const start = x.type.dims.map(() => 0);
    const vector = indexVector(indices, attributes.index_vector_dim as number, batch);
    for (const [i, axis] of map.entries())
      start[axis] = Math.min(Math.max(vector[i]!, 0), x.type.dims[axis]! - sizes[axis]!);
    for (const [i, axis] of paired.entries()) start[axis] = batch[pairs[i]!]!;
    const from = start.map((at, axis) => at + (gone.includes(axis) ? 0 : inside.shift()!));
    data[place] = x.data[offset(x.type.dims, from)]!;
  });
  return [data];
}

function scatter(
  { attributes, regions }: Instruction,
  x: Evaluated,
  indices: Evaluated,
  updates: Evaluated,
  scope: Scope,
): Float64Array {
  const list = (key: string): readonly number[] => (attributes[key] as readonly number[] | undefined) ?? [];
  const window = list('update_window_dims');
  const [paired, pairs] = [list('input_batching_dims'), list('scatter_indices_batching_dims')];
  const gone = [...list('inserted_window_dims'), ...paired];
  const map = list('scatter_dims_to_operand_dims');
  const data = x.data.slice();
  const scalar = { element: x.type.element, dims: [] };
  forEach(updates.type.dims, (index, place) => {
    const batch = index.filter((_, i) => !window.includes(i));
    const inside = window.map((axis) => index[axis]!);
    const vector = indexVector(indices, attributes.index_vector_dim as number, batch);
    const to = x.type.dims.map((_, axis) => (gone.includes(axis) ? 0 : inside.shift()!));
    for (const [i, axis] of map.entries()) to[axis]! += vector[i]!;
    for (const [i, axis] of paired.entries()) to[axis] = batch[pairs[i]!]!;
    if (to.some((at, axis) => at < 0 || at >= x.type.dims[axis]!)) return;
    const target = offset(x.type.dims, to);
    const values = [data[target]!, updates.data[place]!].map((value) => ({
      type: scalar,
      data: Float64Array.of(value),
    }));
    data[target] = runRegion(regions[0]!, values, scope)[0]!.data[0]!;
  });
  return data;
}

function sort(
  { attributes, regions }: Instruction,
  operands: readonly Evaluated[],
  scope: Scope,
): Float64Array[] {
  const axis = Number.parseInt(String(attributes.dimension), 10);
  const { dims } = operands[0]!.type;
  const results = operands.map(({ data }) => data.slice());
  const stride = size(dims.slice(axis + 1));
  forEach(
    dims.map((dim, i) => (i === axis ? 1 : dim)),
    (index) => {
      const start = offset(dims, index);
      const places = Array.from({ length: dims[axis]! }, (_, i) => start + i * stride);
      const pairs = operands.flatMap(({ type: { element } }) =>
        [0, 1].map(() => ({ type: { element, dims: [] }, data: new Float64Array(1) })),
      );
      const isBefore = (a: number, b: number): boolean => {
        for (const [o, { data }] of operands.entries()) {
          pairs[2 * o]!.data[0] = data[a]!;
          pairs[2 * o + 1]!.data[0] = data[b]!;
        }
        return runRegion(regions[0]!, pairs, scope)[0]!.data[0] === 1;
      };
      const order = [...places].sort((a, b) => (isBefore(a, b) ? -1 : isBefore(b, a) ? 1 : 0));
      // A sort that is not stable has one result only if no two elements tie.
      if (
        attributes.is_stable !== 'true' &&
        order.some((place, i) => i > 0 && !isBefore(order[i - 1]!, place))
      )
        throw new Error('elements tie in a sort that is not stable');
      for (const [o, { data }] of operands.entries())
        for (const [i, from] of order.entries()) results[o]![places[i]!] = data[from]!;
    },
  );
  return results;
}

/** Starts, moved so that what is taken fits. */
function clamped(starts: readonly Evaluated[], dims: readonly number[], sizes: readonly number[]): number[] {
  return starts.map(({ data }, i) => Math.min(Math.max(data[0]!, 0), dims[i]! - sizes[i]!));
}

function size(dims: readonly number[]): number {
  return dims.reduce((a, b) => a * b, 1);
}

function offset(dims: readonly number[], index: readonly number[]): number {
  let place = 0;
  for (let axis = 0; axis < dims.length; axis++) place = place * dims[axis]! + index[axis]!;
  return place;
}

/** Calls back with each index, in order; the array is the same each time. */
function forEach(dims: readonly number[], call: (index: readonly number[], place: number) => void): void {
  const index = dims.map(() => 0);
  const total = size(dims);
  for (let place = 0; place < total; place++) {
    call(index, place);
    for (let axis = dims.length - 1; axis >= 0 && ++index[axis]! === dims[axis]; axis--) index[axis] = 0;
  }
}

/** Numbers as their type holds them. */
function rounded(data: Float64Array, element: Element): Float64Array {
  switch (element) {
    case 'f32':
      return Float64Array.from(Float32Array.from(data));
    case 'bf16':
      return Float64Array.from(bfloat16ToFloat32(float32ToBfloat16(Float32Array.from(data))));
    case 'f16':
      return Float64Array.from(float16ToFloat32(float32ToFloat16(Float32Array.from(data))));
    case 'i8':
      return Float64Array.from(Int8Array.from(data));
    case 'ui8':
      return Float64Array.from(Uint8Array.from(data));
    case 'i32':
      return Float64Array.from(Int32Array.from(data));
    default:
      return data;
  }
}
