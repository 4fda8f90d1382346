/** The rules of the StableHLO specification about types: which an instruction may be given, and which it then makes. */
import { isFloat } from '../../lower/stablehlo/value.js';
import { fusedTypes } from './fused-attention.js';
import type { Instruction, Module, Region, TensorType } from './parse.js';
import { TRITON } from './triton.js';

/** Throws where an instruction uses a value that is not there, or of another type, or says that it makes one that it does not. */
export function verify({ body, resultTypes }: Module): void {
  verifyRegion(body, new Map());
  const given = body.returnTypes.map(typeText).join();
  if (given !== resultTypes.map(typeText).join()) throw new Error(`the function returns ${given}`);
}

function verifyRegion(region: Region, around: ReadonlyMap<string, TensorType>): void {
  const types = new Map(around);
  const define = (id: string, type: TensorType): void => {
    if (types.has(id)) throw new Error(`${id} is defined twice`);
    types.set(id, type);
  };
  for (const { id, type } of region.arguments) define(id, type);
  for (const instruction of region.instructions) {
    try {
      expectTypes(instruction.operands, instruction.operandTypes, types);
      // What each device computes sees nothing of the values around it.
      const isIsolated = instruction.name === 'manual_computation';
      for (const inner of instruction.regions) verifyRegion(inner, isIsolated ? new Map() : types);
      const made = resultsOf(instruction);
      if (made.map(typeText).join() !== instruction.resultTypes.map(typeText).join()) {
        throw new Error(`it makes ${made.map(typeText)}, not ${instruction.resultTypes.map(typeText)}`);
      }
    } catch (error) {
      throw new Error(`${instruction.results[0]} = ${instruction.name}: ${(error as Error).message}`, {
        cause: error,
      });
    }
    for (const [i, id] of instruction.results.entries()) define(id, instruction.resultTypes[i]!);
  }
  expectTypes(region.returns, region.returnTypes, types);
}

function expectTypes(
  ids: readonly string[],
  types: readonly TensorType[],
  known: ReadonlyMap<string, TensorType>,
): void {
  if (ids.length !== types.length) throw new Error(`${ids.length} values, but ${types.length} types`);
  for (const [i, id] of ids.entries()) {
    const type = known.get(id);
    if (!type) throw new Error(`there is no ${id}`);
    if (typeText(type) !== typeText(types[i]!))
      throw new Error(`${id} is ${typeText(type)}, not ${typeText(types[i]!)}`);
  }
}

/** A type in messages: `f32[2,3]`. */
function typeText({ element, dims }: TensorType): string {
  return `${element}[${dims}]`;
}

function expect(holds: boolean, text: string): asserts holds {
  if (!holds) throw new Error(text);
}

const sameDims = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);
const isInteger = ({ element }: TensorType): boolean => !isFloat(element) && element !== 'i1';
const isIncreasing = (list: readonly number[]): boolean =>
  list.every((item, i) => i === 0 || item > list[i - 1]!);
const size = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1);

function resultsOf(instruction: Instruction): readonly TensorType[] {
  const { name, operandTypes, resultTypes, attributes, regions } = instruction;
  const [x, y] = operandTypes as [TensorType, TensorType];
  const declared = resultTypes[0]!;
  const list = (key: string): readonly number[] => (attributes[key] as readonly number[] | undefined) ?? [];
  switch (name) {
    case 'constant': {
      const { length } = instruction.literal!;
      expect(length === size(declared.dims) || length === 1, `${length} numbers`);
      return [declared];
    }
    case 'iota':
      expect(declared.element !== 'i1' && (attributes.dim as number) < declared.dims.length, 'the axis');
      return [declared];
    case 'exponential':
    case 'log':
    case 'sqrt':
    case 'rsqrt':
    case 'sine':
    case 'cosine':
    case 'tanh':
    case 'logistic':
    case 'log_plus_one':
    case 'exponential_minus_one':
      expect(isFloat(x.element), 'an operand that is no float');
      return [x];
    case 'abs':
    case 'negate':
      expect(x.element !== 'i1' && x.element !== 'ui8', 'an operand without a sign');
      return [x];
    case 'not':
      expect(!isFloat(x.element), 'a float');
      return [x];
    case 'and':
    case 'or':
    case 'xor':
    case 'shift_right_logical':
      expect(
        !isFloat(x.element) && (name !== 'shift_right_logical' || isInteger(x)),
        'operands of this type',
      );
      return [x];
    case 'add':
    case 'multiply':
    case 'maximum':
    case 'minimum':
      return [x];
    case 'subtract':
    case 'divide':
    case 'remainder':
    case 'power':
      expect(x.element !== 'i1', 'truth values');
      return [x];
    case 'compare': {
      const wanted = isFloat(x.element)
        ? 'FLOAT'
        : x.element === 'i1' || x.element === 'ui8'
          ? 'UNSIGNED'
          : 'SIGNED';
      expect(attributes.kind === wanted, `compared as ${attributes.kind}`);
      expect(['EQ', 'NE', 'LT', 'LE', 'GT', 'GE'].includes(String(attributes.direction)), 'the direction');
      expect(typeText(x) === typeText(y), 'operands of different types');
      return [{ element: 'i1', dims: x.dims }];
    }
    case 'select':
      expect(x.element === 'i1' && (x.dims.length === 0 || sameDims(x.dims, y.dims)), 'the condition');
      return [y];
    case 'convert':
      expect(sameDims(x.dims, declared.dims), 'another shape');
      return [declared];
    case 'reshape':
      expect(
        size(x.dims) === size(declared.dims) && x.element === declared.element,
        'another number of elements',
      );
      return [declared];
    case 'transpose': {
      const order = list('dims');
      expect([...order].sort((a, b) => a - b).join() === x.dims.map((_, i) => i).join(), 'no permutation');
      return [{ ...x, dims: order.map((axis) => x.dims[axis]!) }];
    }
    case 'broadcast_in_dim': {
      const axes = list('dims');
      expect(axes.length === x.dims.length && new Set(axes).size === axes.length, 'its axes');
      for (const [i, axis] of axes.entries()) {
        expect(
          axis < declared.dims.length && (x.dims[i] === 1 || x.dims[i] === declared.dims[axis]),
          `axis ${i}`,
        );
      }
      return [{ ...x, dims: declared.dims }];
    }
    case 'slice': {
      const limits = list('limits');
      expect(limits.length === x.dims.length, 'ranges');
      const dims = list('starts').map((start, i) => {
        expect(
          start <= limits[i]! && limits[i]! <= x.dims[i]!,
          `the range ${start}:${limits[i]} of axis ${i}`,
        );
        return limits[i]! - start;
      });
      return [{ ...x, dims }];
    }
    case 'concatenate': {
      const axis = attributes.dim as number;
      for (const other of operandTypes) {
        const fits = other.element === x.element && other.dims.length === x.dims.length;
        expect(
          fits && other.dims.every((dim, i) => i === axis || dim === x.dims[i]),
          'operands of different types',
        );
      }
      const along = operandTypes.reduce((sum, { dims }) => sum + dims[axis]!, 0);
      return [{ ...x, dims: x.dims.map((dim, i) => (i === axis ? along : dim)) }];
    }
    case 'pad': {
      expect(y.dims.length === 0 && y.element === x.element, 'what it is padded with');
      const [low, high] = [list('low'), list('high')];
      expect(low.length === x.dims.length && list('interior').every((amount) => amount === 0), 'amounts');
      return [{ ...x, dims: x.dims.map((dim, i) => low[i]! + dim + high[i]!) }];
    }
    case 'reverse':
      expect(
        list('dims').every((axis) => axis < x.dims.length),
        'its axes',
      );
      return [x];
    case 'dynamic_slice': {
      expectStarts(operandTypes.slice(1), x);
      const sizes = list('sizes');
      expect(sizes.length === x.dims.length && sizes.every((each, i) => each <= x.dims[i]!), 'sizes');
      return [{ ...x, dims: sizes }];
    }
    case 'dynamic_update_slice':
      expectStarts(operandTypes.slice(2), x);
      expect(y.element === x.element && y.dims.length === x.dims.length, 'the update');
      expect(
        y.dims.every((dim, i) => dim <= x.dims[i]!),
        'an update that is too large',
      );
      return [x];
    case 'reduce': {
      expect(y.dims.length === 0 && y.element === x.element, 'the initial value');
      expect(['add', 'maximum', 'and'].includes(String(attributes.applies)), 'the function');
      const axes = list('dimensions');
      expect(isIncreasing(axes) && axes.every((axis) => axis < x.dims.length), 'its axes');
      return [{ ...x, dims: x.dims.filter((_, axis) => !axes.includes(axis)) }];
    }
    case 'dot_general':
      return [dotType(x, y, declared, list)];
    case 'gather':
      return [gatherType(instruction)];
    case 'scatter':
      return [scatterType(instruction)];
    case 'sort': {
      const axis = Number.parseInt(String(attributes.dimension), 10);
      expect(operandTypes.every(({ dims }) => sameDims(dims, x.dims)) && axis < x.dims.length, 'operands');
      const { arguments: given, returnTypes } = regions[0]!;
      const wanted = operandTypes.flatMap(({ element }) => [element, element]);
      expect(
        given.map(({ type }) => typeText(type)).join() === wanted.map((each) => `${each}[]`).join(),
        'its region',
      );
      expect(returnTypes.map(typeText).join() === 'i1[]', 'what its region returns');
      return operandTypes;
    }
    case 'custom_call':
      return instruction.attributes.target === TRITON
        ? [...instruction.resultTypes]
        : fusedTypes(instruction);
    case 'while': {
      const [condition, body] = regions as [Region, Region];
      expect(condition.returnTypes.map(typeText).join() === 'i1[]', 'its condition');
      expect(
        body.returnTypes.map(typeText).join() === operandTypes.map(typeText).join(),
        'what its body returns',
      );
      return operandTypes;
    }
    case 'manual_computation': {
      const [body] = regions as [Region];
      const devices = devicesOf(instruction);
      const whole = ({ element, dims }: TensorType, axis: number): TensorType => ({
        element,
        dims: dims.map((dim, i) => (i === axis ? dim * devices : dim)),
      });
      const given = body.arguments.map(({ type }, i) => whole(type, list('in_axes')[i]!));
      expect(given.map(typeText).join() === operandTypes.map(typeText).join(), 'the parts of its operands');
      return body.returnTypes.map((type, i) => whole(type, list('out_axes')[i]!));
    }
    default:
      throw new Error('there is no such instruction');
  }
}

/** Of a `manual_computation`: how many devices its operands are cut over. */
export function devicesOf({ attributes, operandTypes, regions }: Instruction): number {
  const axes = attributes.in_axes as readonly number[];
  const cut = axes.findIndex((axis) => axis >= 0);
  expect(cut >= 0, 'no operand is cut');
  const axis = axes[cut]!;
  return operandTypes[cut]!.dims[axis]! / regions[0]!.arguments[cut]!.type.dims[axis]!;
}

function expectStarts(starts: readonly TensorType[], x: TensorType): void {
  expect(starts.length === x.dims.length, `${starts.length} starts`);
  for (const start of starts) {
    expect(start.dims.length === 0 && isInteger(start) && start.element === starts[0]!.element, 'a start');
  }
}

function dotType(
  a: TensorType,
  b: TensorType,
  declared: TensorType,
  list: (key: string) => readonly number[],
): TensorType {
  const [aBatch, bBatch] = [list('batching_dims_left'), list('batching_dims_right')];
  const [aSum, bSum] = [list('contracting_dims_left'), list('contracting_dims_right')];
  expect(aBatch.length === bBatch.length && aSum.length === bSum.length, 'axes');
  expect(new Set([...aBatch, ...aSum]).size === aBatch.length + aSum.length, 'an axis twice');
  expect(new Set([...bBatch, ...bSum]).size === bBatch.length + bSum.length, 'an axis twice');
  for (const [i, axis] of aBatch.entries()) expect(a.dims[axis] === b.dims[bBatch[i]!], 'sizes of pairs');
  for (const [i, axis] of aSum.entries())
    expect(a.dims[axis] === b.dims[bSum[i]!], 'sizes that are summed over');
  expect(a.element === b.element && isFloat(a.element), 'operands of different types');
  expect(
    declared.element === a.element || declared.element === 'f32',
    'a result that is narrower than the operands',
  );
  const free = ({ dims }: TensorType, taken: readonly number[]): number[] =>
    dims.filter((_, i) => !taken.includes(i));
  return {
    element: declared.element,
    dims: [
      ...aBatch.map((axis) => a.dims[axis]!),
      ...free(a, [...aBatch, ...aSum]),
      ...free(b, [...bBatch, ...bSum]),
    ],
  };
}

function gatherType({ operandTypes, attributes }: Instruction): TensorType {
  const [x, indices] = operandTypes as [TensorType, TensorType];
  const list = (key: string): readonly number[] => (attributes[key] as readonly number[] | undefined) ?? [];
  const [offset, collapsed, sizes] = [list('offset_dims'), list('collapsed_slice_dims'), list('slice_sizes')];
  const paired = list('operand_batching_dims');
  const vector = attributes.index_vector_dim as number;
  expect(isInteger(indices), 'indices');
  expect(vector === indices.dims.length || vector === indices.dims.length - 1, 'the axis of index vectors');
  expect(list('start_index_map').length === (indices.dims[vector] ?? 1), 'the length of index vectors');
  expect(sizes.length === x.dims.length && sizes.every((each, i) => each <= x.dims[i]!), 'sizes of slices');
  expect(
    [...collapsed, ...paired].every((axis) => sizes[axis]! <= 1) &&
      [collapsed, paired, offset].every(isIncreasing),
    'axes',
  );
  expect(arePaired(x, paired, indices, list('start_indices_batching_dims'), vector), 'axes that are paired');
  const rest = sizes.filter((_, axis) => !collapsed.includes(axis) && !paired.includes(axis));
  expect(rest.length === offset.length, 'as many offsets as axes that stay');
  const batch = indices.dims.filter((_, i) => i !== vector);
  const dims = Array.from({ length: batch.length + rest.length }, (_, i) =>
    offset.includes(i) ? rest[offset.indexOf(i)]! : undefined,
  );
  return { element: x.element, dims: dims.map((dim) => dim ?? batch.shift()!) };
}

/** Whether these axes of an operand and of its indices have the same sizes, one by one. */
function arePaired(
  x: TensorType,
  own: readonly number[],
  indices: TensorType,
  theirs: readonly number[],
  vector: number,
): boolean {
  return (
    own.length === theirs.length &&
    theirs.every((axis, i) => axis < vector && indices.dims[axis] === x.dims[own[i]!])
  );
}

function scatterType({ operandTypes, attributes, regions }: Instruction): TensorType {
  const [x, indices, updates] = operandTypes as [TensorType, TensorType, TensorType];
  const list = (key: string): readonly number[] => (attributes[key] as readonly number[] | undefined) ?? [];
  const [window, inserted] = [list('update_window_dims'), list('inserted_window_dims')];
  const paired = list('input_batching_dims');
  const vector = attributes.index_vector_dim as number;
  expect(isInteger(indices) && updates.element === x.element, 'operands');
  expect(vector === indices.dims.length || vector === indices.dims.length - 1, 'the axis of index vectors');
  expect(
    list('scatter_dims_to_operand_dims').length === (indices.dims[vector] ?? 1),
    'the length of index vectors',
  );
  const gone = [...inserted, ...paired];
  expect(
    window.length + new Set(gone).size === x.dims.length && [window, inserted, paired].every(isIncreasing),
    'axes of windows',
  );
  expect(
    arePaired(x, paired, indices, list('scatter_indices_batching_dims'), vector),
    'axes that are paired',
  );
  const batch = indices.dims.filter((_, i) => i !== vector);
  expect(
    sameDims(
      updates.dims.filter((_, i) => !window.includes(i)),
      batch,
    ),
    'updates for these indices',
  );
  const rest = x.dims.filter((_, axis) => !gone.includes(axis));
  expect(
    window.every((axis, i) => updates.dims[axis]! <= rest[i]!),
    'sizes of windows',
  );
  const { arguments: given, returnTypes } = regions[0]!;
  const scalars = [...given.map(({ type }) => typeText(type)), ...returnTypes.map(typeText)];
  expect(scalars.length === 3 && scalars.every((text) => text === `${x.element}[]`), 'its region');
  return x;
}
