/** Checks dtype, shape and length of tensors against what a program declares, since executors do not. */
import { DeviceError } from '../errors.js';
import { DTYPES, formatShape, inputName, type TensorType, topologicalOrder } from '../graph/index.js';
import { type Program, type State, type StateSpec, stateDims } from './program.js';
import { type HostTensor, isQuantized, isStored, type Weight } from './tensors.js';

/** The type of an input or a weight, with its name for messages. */
export interface NamedType extends TensorType {
  readonly name: string;
}

/** Throws `DeviceError` unless a tensor has the declared type, and as many elements as its shape has. */
function checkTensor(
  what: 'input' | 'state' | 'weight',
  { name, dtype, shape }: NamedType,
  { dtype: given, dims, data }: HostTensor,
): void {
  const fits =
    dtype === given &&
    shape.length === dims.length &&
    shape.every((dim, i) => typeof dim === 'string' || dim === dims[i]);
  if (!fits) {
    throw new DeviceError(
      `the ${what} '${name}' is ${dtype}${formatShape(shape)}, but ${given}${formatShape(dims)} was given`,
    );
  }
  const { array } = DTYPES[dtype];
  if (!(data instanceof array)) {
    throw new DeviceError(
      `the ${what} '${name}' is ${dtype}, whose data is a ${array.name}, not a ${data.constructor.name}`,
    );
  }
  const size = dims.reduce((a, b) => a * b, 1);
  if (data.length !== size) {
    throw new DeviceError(
      `the ${what} '${name}' has ${data.length} elements, but its shape ${formatShape(dims)} has ${size}`,
    );
  }
}

/** Throws `DeviceError` unless a weight, in memory or in files, is what a program declares. */
export function checkWeight(type: NamedType, weight: Weight): void {
  if (!isStored(weight) && !isQuantized(weight)) {
    checkTensor('weight', type, weight);
  } else if (type.dtype !== 'float32' || type.shape.join() !== weight.dims.join()) {
    throw new DeviceError(
      `the weight '${type.name}' is ${type.dtype}${formatShape(type.shape)}, but float32${formatShape(weight.dims)} was given`,
    );
  } else if (isStored(weight)) {
    const { dims, parts } = weight;
    const stored = parts.reduce((sum, { byteLength, dtype }) => sum + byteLength / DTYPES[dtype].bytes, 0);
    const size = dims.reduce((a, b) => a * b, 1);
    if (stored !== size) {
      throw new DeviceError(
        `the weight '${type.name}' has ${stored} elements in its files, but its shape ${formatShape(dims)} has ${size}`,
      );
    }
  }
}

/** Throws `DeviceError` if a named dimension differs from the same one in another tensor; `sizes` collects them. */
function checkSizes({ name, shape }: NamedType, { dims }: HostTensor, sizes: Map<string, number>): void {
  for (const [i, dim] of shape.entries()) {
    if (typeof dim === 'number' || !/^\w+$/.test(dim)) continue;
    const size = dims[i]!;
    const other = sizes.get(dim) ?? size;
    if (size !== other) {
      throw new DeviceError(
        `the input '${name}' has a ${dim} of ${size}, but another input has one of ${other}`,
      );
    }
    sizes.set(dim, size);
  }
}

/** Throws `DeviceError` unless the feeds are exactly the inputs of these types; `sizes` collects the named dimensions. */
export function checkFeeds(
  types: ReadonlyMap<string, NamedType>,
  feeds: Readonly<Record<string, HostTensor>>,
  sizes: Map<string, number>,
): void {
  for (const [name, tensor] of Object.entries(feeds)) {
    const type = types.get(name);
    if (!type) throw new DeviceError(`the program has no input '${name}'`);
    checkTensor('input', type, tensor);
    checkSizes(type, tensor, sizes);
  }
  for (const name of types.keys()) {
    if (!(name in feeds)) throw new DeviceError(`the input '${name}' was not fed`);
  }
}

/**
 * Throws `DeviceError` unless there is one distinct state for each row of the batch. Returns the number of rows; it is 1 for a program
 * whose states have no batch axis.
 */
export function checkRows(
  rows: readonly State[],
  isBatched: boolean,
  sizes: ReadonlyMap<string, number>,
): number {
  const count = isBatched ? (sizes.get('batch') ?? Math.max(1, rows.length)) : 1;
  if (rows.length !== count) {
    throw new DeviceError(
      `this program keeps states: a run of ${count} row${count === 1 ? '' : 's'} takes as many, and ${rows.length} were given`,
    );
  }
  if (new Set(rows).size < rows.length) {
    throw new DeviceError('a state is given for two rows of a batch: fork it');
  }
  return count;
}

/** Throws `DeviceError` if a state has a value of this name with another spec. */
export function checkHeld(spec: StateSpec, value: { readonly spec: StateSpec } | undefined): void {
  if (!value) throw new DeviceError(`the state holds no '${spec.name}'`);
  if (value.spec.shape.join() !== spec.shape.join() || value.spec.dtype !== spec.dtype) {
    throw new DeviceError(`the state's '${spec.name}' is not what this program keeps under that name`);
  }
}

/** Throws `DeviceError` for a value that is not of the declared type, or has another number of entries than `length`. */
export function checkState(spec: StateSpec, value: HostTensor, length: number): void {
  const { name, dtype, grows } = spec;
  const shape = stateDims(spec, length).map((dim, i) => (i === grows ? 'past' : dim));
  checkTensor('state', { name, dtype, shape }, value);
  if (grows !== undefined && length > value.dims[grows]!) {
    throw new DeviceError(
      `the state '${name}' has ${value.dims[grows]} entries, but ${length} are to be held`,
    );
  }
}

/** Throws `DeviceError` for inputs that a program uses without declaring them, and for weights of the wrong type or shape. */
export function checkProgram({
  inputs,
  outputs,
  state = [],
  lengths,
  weights = new Map(),
  dims = {},
}: Program): void {
  const declared = new Set([...inputs, ...state.map(({ before }) => before), ...(lengths ? [lengths] : [])]);
  const roots = [...Object.values(outputs), ...state.map(({ after }) => after)];
  for (const { outputs: made } of topologicalOrder(roots)) {
    const tensor = made[0]!;
    const name = inputName(tensor);
    if (name === undefined || declared.has(tensor)) continue;
    const weight = weights.get(name);
    if (!weight) throw new DeviceError(`the program depends on '${name}', which it does not declare`);
    checkWeight({ name, dtype: tensor.dtype, shape: tensor.shape.map((dim) => dims[dim] ?? dim) }, weight);
  }
}
