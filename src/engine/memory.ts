/**
 * What a program carries from run to run, as a thing to hold: it can be kept as it is now, taken up again, and let go on in
 * several ways, for next to nothing.
 *
 * A value that a run replaces is never written to, so a snapshot shares it. One that grows lies in a buffer with room
 * behind its entries, and memories that have a beginning in common share that buffer too. It knows how many entries have
 * been written to it. A memory that holds exactly so many may write behind them; one that holds fewer must take a
 * copy of its own entries first, because what stands behind them is someone else's. So a snapshot and a fork cost nothing,
 * and the first run after one was left behind costs a copy of what has grown.
 *
 * Every run sees zeros behind a memory's entries, and room that follows from their number alone: whichever way a memory
 * came about, the same entries give the same bits.
 */
import { DeviceError } from '../errors.js';
import { DTYPE_BYTES, type DType } from '../graph/index.js';
import { type Carry, type HostTensor, hostZeros, type Memory, type MemorySnapshot } from './device.js';
import { copyEntries, copyOf, sizeOf, slice, withDim, writeEntries } from './entries.js';

/** A value that stays on the device. Whoever holds it disposes of it. */
export interface DeviceTensor {
  readonly dtype: DType;
  readonly dims: readonly number[];
  dispose(): void;
}

export type CarriedTensor = HostTensor | DeviceTensor;

/** Brings values into JavaScript's memory, as arrays of their own. */
export type Download = (tensors: ReadonlyMap<string, DeviceTensor>) => Promise<Map<string, HostTensor>>;

type Carries = Readonly<Record<string, Carry>>;

/** The entries of a growing value; `tensor` has room behind them, for as many as `roomFor(written)` says. */
interface GrowingBuffer {
  readonly axis: number;
  tensor: HostTensor;
  written: number;
}

type Value = GrowingBuffer | CarriedTensor;
type HostValue = GrowingBuffer | HostTensor;

/** Values and how many entries those that grow have: what a memory holds now, and a snapshot always. */
interface Contents<V extends Value = Value> {
  readonly values: Map<string, V>;
  readonly length: number;
}

export class CarriedMemory implements Memory {
  private contents: Contents;

  constructor(
    contents: Contents,
    private readonly download: Download,
  ) {
    this.contents = { values: new Map(contents.values), length: contents.length };
  }

  get length(): number {
    return this.contents.length;
  }

  get bytes(): number {
    return [...holdings(this.contents.values).values()].reduce((a, b) => a + b, 0);
  }

  /** The values for a run, the growing ones with nothing behind this memory's entries. */
  inputs(): Map<string, CarriedTensor> {
    const { values, length } = this.contents;
    return new Map(
      [...values].map(([name, value]) => {
        if (!isBuffer(value)) return [name, value];
        return [name, this.own(name, value, length).tensor];
      }),
    );
  }

  /** Takes over what a run left behind. Throws `DeviceError`, and stays as it was, where that does not fit. */
  advance(carries: Carries, results: ReadonlyMap<string, CarriedTensor>): void {
    const { values, length } = this.contents;
    const appended = Object.entries(carries).flatMap(([name, carry]) =>
      carry.kind === 'append' ? [[name, results.get(name) as HostTensor, carry.axis] as const] : [],
    );
    const growth = appended.map(([, rows, axis]) => rows.dims[axis]!);
    const added = growth[0] ?? 0;
    if (growth.some((count) => count !== added)) {
      throw new DeviceError(`the appended values grew by different numbers of entries: ${growth}`);
    }
    for (const [name, carry] of Object.entries(carries)) {
      if (isBuffer(values.get(name)!) !== (carry.kind === 'append')) {
        throw new DeviceError(
          `'${name}' grows in one program, and is replaced in another: they share no memory`,
        );
      }
    }
    // These may need room that is not there, so they come first: entries beyond the length count for nothing yet.
    for (const [name, rows] of appended) {
      append(this.own(name, values.get(name) as GrowingBuffer, length), rows);
    }
    for (const [name, { kind }] of Object.entries(carries)) {
      if (kind === 'append') continue;
      free(values.get(name)!);
      values.set(name, results.get(name)!);
    }
    this.contents = { values, length: length + added };
  }

  read(names?: readonly string[]): Promise<Map<string, HostTensor>> {
    return read(this.contents, this.download, names);
  }

  async snapshot(): Promise<MemorySnapshot> {
    const { values, length } = this.contents;
    // What is on the device is freed when it is replaced: a snapshot needs copies.
    const fetched = await fetch(values, this.download);
    const host = new Map(
      [...values].map(([name, value]) => [name, fetched.get(name) ?? (value as HostValue)]),
    );
    return new CarriedSnapshot({ values: host, length }, this.download);
  }

  restore(snapshot: MemorySnapshot): void {
    const { values, length } = carried(snapshot).held;
    const missing = [...this.contents.values.keys()].find((name) => !values.has(name));
    if (missing !== undefined) {
      throw new DeviceError(`the snapshot holds no '${missing}': it is of another program's memory`);
    }
    for (const value of this.contents.values.values()) free(value);
    this.contents = { values: new Map(values), length };
  }

  dispose(): void {
    for (const value of this.contents.values.values()) free(value);
    this.contents = { values: new Map(), length: 0 };
  }

  /** The buffer of a value to whose end this memory may write: that which it has, or a copy. */
  private own(name: string, buffer: GrowingBuffer, length: number): GrowingBuffer {
    if (buffer.written === length) return buffer;
    const { axis, tensor } = buffer;
    const own = { axis, tensor: withRoom(tensor, axis, length, length), written: length };
    this.contents.values.set(name, own);
    return own;
  }
}

class CarriedSnapshot implements MemorySnapshot {
  private contents: Contents<HostValue> | undefined;

  constructor(
    contents: Contents<HostValue>,
    readonly download: Download,
  ) {
    this.contents = contents;
  }

  get length(): number {
    return this.held.length;
  }

  get bytes(): number {
    const { values, length } = this.held;
    return [...values.values()].reduce((total, value) => {
      const { dims, dtype } = isBuffer(value) ? value.tensor : value;
      return total + sizeOf(isBuffer(value) ? withDim(dims, value.axis, length) : dims) * DTYPE_BYTES[dtype];
    }, 0);
  }

  get holdings(): ReadonlyMap<object, number> {
    return this.contents ? holdings(this.contents.values) : new Map();
  }

  get held(): Contents<HostValue> {
    if (!this.contents) throw new DeviceError('the snapshot was disposed of: take it up before');
    return this.contents;
  }

  read(names?: readonly string[]): Promise<Map<string, HostTensor>> {
    return read(this.held, this.download, names);
  }

  memory(): Memory {
    return new CarriedMemory(this.held, this.download);
  }

  dispose(): void {
    this.contents = undefined;
  }
}

/**
 * A memory with these initial values for the program's carried ones, which it takes over; those that grow hold `length`
 * entries.
 */
export function allocateMemory(
  carries: Carries,
  initial: ReadonlyMap<string, HostTensor>,
  length: number,
  download: Download,
): CarriedMemory {
  const values = new Map<string, Value>();
  for (const [name, carry] of Object.entries(carries)) {
    const tensor = initial.get(name)!;
    values.set(name, carry.kind === 'replace' ? tensor : bufferOf(tensor, carry.axis, length));
  }
  return new CarriedMemory({ values, length }, download);
}

/**
 * The rows of a batch side by side: one memory for snapshots of equal length, each of a batch of its own. `axes` says
 * which axis of each value is the batch. Throws `DeviceError` for snapshots that do not fit together.
 */
export async function stackMemories(
  snapshots: readonly MemorySnapshot[],
  axes: ReadonlyMap<string, number>,
): Promise<Memory> {
  const [template] = snapshots;
  if (!template) throw new DeviceError('there are no snapshots to stack: give at least one');
  const { held: first, download } = carried(template);
  const lengths = snapshots.map(({ length }) => length);
  if (lengths.some((length) => length !== first.length)) {
    throw new DeviceError(`snapshots of different lengths cannot be stacked: ${lengths}`);
  }
  const rows = await Promise.all(snapshots.map((snapshot) => snapshot.read()));
  const values = new Map<string, Value>();
  for (const [name, value] of first.values) {
    const stacked = concatenate(name, rows, batchAxis(axes, name));
    values.set(name, isBuffer(value) ? bufferOf(stacked, value.axis, first.length) : stacked);
  }
  return new CarriedMemory({ values, length: first.length }, download);
}

/** One row of a batch as a memory of its own: the other way of `stackMemories`. Throws `DeviceError` for a row that is not there. */
export function rowOfMemory(
  snapshot: MemorySnapshot,
  row: number,
  axes: ReadonlyMap<string, number>,
): Memory {
  const { held, download } = carried(snapshot);
  const { length } = held;
  const values = new Map<string, Value>();
  for (const [name, value] of held.values) {
    const axis = batchAxis(axes, name);
    const whole = isBuffer(value) ? value.tensor : value;
    if (!(Number.isInteger(row) && row >= 0 && row < whole.dims[axis]!)) {
      throw new DeviceError(`'${name}' has ${whole.dims[axis]} rows: there is no row ${row}`);
    }
    const taken = slice(whole, axis, row, row + 1);
    values.set(
      name,
      isBuffer(value)
        ? { axis: value.axis, tensor: withRoom(taken, value.axis, length, length), written: length }
        : taken,
    );
  }
  return new CarriedMemory({ values, length }, download);
}

function batchAxis(axes: ReadonlyMap<string, number>, name: string): number {
  const axis = axes.get(name);
  if (axis === undefined) throw new DeviceError(`no axis was named along which '${name}' has its rows`);
  return axis;
}

function concatenate(name: string, rows: readonly Map<string, HostTensor>[], axis: number): HostTensor {
  const tensors = rows.map((values) => {
    const tensor = values.get(name);
    if (!tensor) throw new DeviceError(`a snapshot holds no '${name}': it is of another program's memory`);
    return tensor;
  });
  const { dtype, dims } = tensors[0]!;
  const total = tensors.reduce((sum, tensor) => sum + tensor.dims[axis]!, 0);
  const whole = hostZeros(dtype, withDim(dims, axis, total));
  let at = 0;
  for (const tensor of tensors) {
    if (withDim(tensor.dims, axis, 1).join() !== withDim(dims, axis, 1).join() || tensor.dtype !== dtype) {
      throw new DeviceError(`'${name}' is [${tensor.dims}] in one snapshot, and [${dims}] in another`);
    }
    writeEntries(whole, tensor, axis, at);
    at += tensor.dims[axis]!;
  }
  return whole;
}

function carried(snapshot: MemorySnapshot): CarriedSnapshot {
  if (snapshot instanceof CarriedSnapshot) return snapshot;
  throw new DeviceError('the snapshot is of another kind of device');
}

function isBuffer(value: Value): value is GrowingBuffer {
  return 'written' in value;
}

function isOnDevice(value: Value): value is DeviceTensor {
  return 'dispose' in value;
}

function free(value: Value): void {
  if (isOnDevice(value)) value.dispose();
}

/** Bytes by what takes them. */
function holdings(values: ReadonlyMap<string, Value>): Map<object, number> {
  return new Map(
    [...values.values()].map((value) => {
      const { dims, dtype } = isBuffer(value) ? value.tensor : value;
      return [value, sizeOf(dims) * DTYPE_BYTES[dtype]];
    }),
  );
}

/** Those of the values that are on the device. */
async function fetch(
  values: ReadonlyMap<string, Value>,
  download: Download,
): Promise<ReadonlyMap<string, HostTensor>> {
  const onDevice = [...values].filter((entry): entry is [string, DeviceTensor] => isOnDevice(entry[1]));
  return onDevice.length > 0 ? download(new Map(onDevice)) : new Map();
}

/** Copies of the values, those that grow without the room behind their entries. */
async function read(
  { values, length }: Contents,
  download: Download,
  names: readonly string[] = [...values.keys()],
): Promise<Map<string, HostTensor>> {
  const wanted = names.map((name): [string, Value] => {
    const value = values.get(name);
    if (!value) throw new DeviceError(`the memory holds no '${name}'`);
    return [name, value];
  });
  const fetched = await fetch(new Map(wanted), download);
  return new Map(
    wanted.map(([name, value]) => {
      if (isBuffer(value)) return [name, slice(value.tensor, value.axis, 0, length)];
      return [name, fetched.get(name) ?? copyOf(value as HostTensor)];
    }),
  );
}

/** Room grows in steps of an eighth, so that little is wasted and moving the entries costs O(1) for each added. */
function roomFor(length: number): number {
  const step = Math.max(64, 2 ** Math.floor(Math.log2(Math.max(length, 1)) - 3));
  return Math.max(step, Math.ceil(length / step) * step);
}

/** The first `length` entries of a tensor, as a buffer; the tensor itself where it has the right room. */
function bufferOf(tensor: HostTensor, axis: number, length: number): GrowingBuffer {
  const fits = tensor.dims[axis] === roomFor(length);
  return { axis, tensor: fits ? tensor : withRoom(tensor, axis, length, length), written: length };
}

/**
 * Writes rows behind a buffer's entries. When it has no room for them it gets a larger tensor, which all who share it
 * then hold: theirs are its first entries.
 */
function append(buffer: GrowingBuffer, rows: HostTensor): void {
  const { axis, written } = buffer;
  const length = written + rows.dims[axis]!;
  if (buffer.tensor.dims[axis] !== roomFor(length)) {
    buffer.tensor = withRoom(buffer.tensor, axis, written, length);
  }
  writeEntries(buffer.tensor, rows, axis, written);
  buffer.written = length;
}

/** A copy of the first `length` entries along `axis`, with the room that `needed` entries get. */
function withRoom(tensor: HostTensor, axis: number, length: number, needed: number): HostTensor {
  const grown = hostZeros(tensor.dtype, withDim(tensor.dims, axis, roomFor(needed)));
  copyEntries(tensor, 0, grown, 0, axis, length);
  return grown;
}
