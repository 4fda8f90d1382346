/**
 * Copies a state to the host. A copy takes calls, an event and a turn of a thread, whatever its size, and a model's state has a hundred
 * values: small ones are first put together on the device.
 */

import { DeviceError } from '../../errors.js';
import { DTYPES, type DType, packRow, rowDims, type TensorData } from '../../graph/index.js';
import type { XlaDevice } from './device.js';
import { OutOfDeviceMemory, type PjrtBuffer, type PjrtExecutable } from './pjrt.js';
import type { KeptValue, XlaState } from './state.js';

/** Values of fewer bytes are put together. */
const PACKED_BYTES = 4e6;
/** Growing values are copied with a multiple of so many entries, or of a quarter of the room that they need, since a program is compiled for each. */
const LEAST_ENTRIES = 256;

/** How values of a state's row are copied. */
interface Plan {
  readonly values: readonly KeptValue[];
  /** The values that a program cuts out of the batch: those that it joins, by dtype, and in `alone` the others. Values in neither are copied whole. */
  readonly packed: ReadonlyMap<DType, readonly KeptValue[]>;
  readonly alone: readonly KeptValue[];
  /** Entries of the growing values on the host. */
  readonly entries: number;
  readonly row: number;
}

/** As `StateReader.read`, for a device whose states are not sharded. */
export async function readRow(
  device: XlaDevice,
  state: XlaState,
  names: readonly string[],
): Promise<{ data: readonly TensorData[]; room: number }> {
  // Programs are compiled before it is this read's turn, so that runs need not wait for that.
  await programFor(device, planFor(state, names));
  const { plan, results } = await device.exclusively(async () => {
    const plan = planFor(state, names);
    try {
      return { plan, results: await cutOut(device, plan) };
    } catch (error) {
      if (!(error instanceof OutOfDeviceMemory)) throw error;
      // Values that need not be cut out of a batch are then copied as they are, which takes no memory on the device.
      const apart = planFor(state, names, 0);
      return { plan: apart, results: await cutOut(device, apart) };
    }
  });
  try {
    const { values, packed, alone, entries } = plan;
    const copies = new Map<KeptValue, TensorData>();
    const copying: Promise<void>[] = [];
    for (const [i, [dtype, parts]] of [...packed].entries()) {
      const sizes = parts.map((value) => elementsOf(value, entries));
      const total = sizes.reduce((a, b) => a + b, 0);
      const all = arrayOf(dtype, total);
      copying.push(results[i]!.download(all));
      let at = 0;
      for (const [j, value] of parts.entries()) {
        copies.set(value, all.subarray(at, at + sizes[j]!));
        at += sizes[j]!;
      }
    }
    for (const value of values.filter((value) => !copies.has(value))) {
      const { dtype } = value.spec;
      const data = arrayOf(dtype, elementsOf(value, entries));
      copies.set(value, data);
      const at = alone.indexOf(value);
      copying.push((at < 0 ? value.buffers[0]! : results[packed.size + at]!).download(data));
    }
    await Promise.all(copying);
    return { data: values.map((value) => copies.get(value)!), room: entries };
  } finally {
    for (const buffer of results) buffer.dispose();
  }
}

function planFor(
  { batch, row, length }: XlaState,
  names: readonly string[],
  packedBytes: number = PACKED_BYTES,
): Plan {
  const { rows, room } = batch;
  const entries = Math.min(room, entriesFor(length, room));
  const values = names.map((name) => batch.values.get(name)!);
  const small = values.filter(
    (value) => elementsOf(value, entries) * DTYPES[value.spec.dtype].bytes < packedBytes,
  );
  const together = new Set(small.length > 1 ? small : []);
  const packed = new Map<DType, KeptValue[]>();
  for (const value of together) {
    const { dtype } = value.spec;
    packed.set(dtype, [...(packed.get(dtype) ?? []), value]);
  }
  const isWhole = ({ row: { grows } }: KeptValue): boolean =>
    rows === 1 && (grows === undefined || entries === room);
  const alone = values.filter((value) => !together.has(value) && !isWhole(value));
  return { values, packed, alone, entries, row };
}

/** A quarter of the room that is needed at least, or a multiple of it. */
function entriesFor(length: number, room: number): number {
  let needed = room;
  while (needed / 4 >= Math.max(length, LEAST_ENTRIES)) needed /= 4;
  const step = Math.max(needed / 4, LEAST_ENTRIES);
  return Math.max(1, Math.ceil(length / step)) * step;
}

/** The results of `packRow`. */
async function cutOut(device: XlaDevice, plan: Plan): Promise<PjrtBuffer[]> {
  const executable = await programFor(device, plan);
  if (!executable) return [];
  const row = device.upload(BigInt64Array.of(BigInt(plan.row)), 'int64', [1], undefined);
  try {
    const made = device.runHelper(executable, [...cutBy(plan).map(({ buffers }) => buffers), row]);
    return made.map(([result]) => result!);
  } finally {
    for (const buffer of row) buffer.dispose();
  }
}

async function programFor(device: XlaDevice, plan: Plan): Promise<PjrtExecutable | undefined> {
  const cut = cutBy(plan);
  if (cut.length === 0) return undefined;
  const packed = cut.length - plan.alone.length;
  const { executable } = await device.helper(`pack ${packed} ${plan.entries}`, cut, (rows) =>
    packRow(rows, packed, plan.entries),
  );
  return executable;
}

/** The values that a program cuts out, those first that it puts together. */
function cutBy({ packed, alone }: Plan): KeptValue[] {
  return [...[...packed.values()].flat(), ...alone];
}

function elementsOf({ row }: KeptValue, entries: number): number {
  return rowDims(row, 1, entries).reduce((a, b) => a * b, 1);
}

/** An array that a copy fills: no zeros are written to it before. */
function arrayOf(dtype: DType, size: number): TensorData {
  const { array, bytes } = DTYPES[dtype];
  try {
    return new array(Buffer.allocUnsafeSlow(size * bytes).buffer, 0, size);
  } catch (error) {
    throw new DeviceError(`a state's value of ${size} numbers does not fit in memory`, { cause: error });
  }
}
