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
 * What a run left behind is held by its memory, and by the snapshots taken then. When the last of them lets go of it, its bytes are
 * given back at once; JavaScript would find them late, and the next run has use for them.
 *
 * Every run sees zeros behind a memory's entries, and room that follows from their number alone: whichever way a memory
 * came about, the same entries give the same bits.
 */
import { DeviceError } from '../../errors.js';
import { DTYPES, type DType } from '../../graph/index.js';
import { copyEntries, copyOf, sizeOf, slice, withDim, writeEntries } from '../onnxruntime/entries.js';
import { release } from '../onnxruntime/release.js';
import { type HostTensor, hostZeros } from '../tensors.js';
import type { Carry, Memory, MemorySnapshot } from './device.js';

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
  /** The same on the device, where the last run has left it there. */
  mirror?: DeviceTensor | undefined;
}

type Value = GrowingBuffer | CarriedTensor;
type HostValue = GrowingBuffer | HostTensor;

/** Values and how many entries those that grow have: what a memory holds now, and a snapshot always. */
interface Contents<V extends Value = Value> {
  readonly values: Map<string, V>;
  readonly length: number;
  /** For each row of a batch that was joined, where its entries begin: shorter ones end where the longest does. */
  readonly begins?: readonly number[];
}

/** How many memories and snapshots hold a value. What others may hold too counts for ever, as do tensors that are theirs. */
const holders = new WeakMap<Value, number>();

function hold(value: Value): void {
  holders.set(value, (holders.get(value) ?? 0) + 1);
}

function holdForEver(value: Value): void {
  holders.set(value, Number.POSITIVE_INFINITY);
  // Nobody would free it.
  if (isBuffer(value)) mirror(value, undefined);
}

function letGo(value: Value): void {
  const left = (holders.get(value) ?? 0) - 1;
  holders.set(value, left);
  if (left > 0) return;
  if (isBuffer(value)) mirror(value, undefined);
  free(isBuffer(value) ? value.tensor : value);
}

function mirror(buffer: GrowingBuffer, by: GrowingBuffer['mirror']): void {
  buffer.mirror?.dispose();
  buffer.mirror = by;
}

function free(tensor: CarriedTensor): void {
  if (isOnDevice(tensor)) tensor.dispose();
  else if (holders.get(tensor) !== Number.POSITIVE_INFINITY) release(tensor.data);
}

/** The same in a map of its own, for one more who holds it. */
function heldToo<H extends Contents | Row>(held: H): H {
  if (held instanceof Row) return held;
  for (const value of held.values.values()) hold(value);
  return { ...held, values: new Map(held.values) };
}

function letGoOf(held: Contents | Row): void {
  if (!(held instanceof Row)) for (const value of held.values.values()) letGo(value);
}

/** One row of a batch, which is taken out of it when somebody asks for its values. */
class Row {
  private own: Contents<HostValue> | undefined;

  constructor(
    readonly batch: Contents<HostValue>,
    readonly index: number,
    private readonly axes: BatchAxes,
  ) {
    for (const value of batch.values.values()) holdForEver(value);
  }

  get length(): number {
    return this.batch.length - this.batch.begins![this.index]!;
  }

  get contents(): Contents<HostValue> {
    if (!this.own) {
      this.own = { values: this.take(), length: this.length };
      for (const value of this.own.values.values()) holdForEver(value);
    }
    return this.own;
  }

  private take(): Map<string, HostValue> {
    const { index, length } = this;
    return new Map(
      [...this.batch.values].map(([name, value]): [string, HostValue] => {
        const whole = isBuffer(value) ? value.tensor : value;
        const axis = batchAxis(this.axes, name);
        const row = slice(whole, axis, index, index + 1);
        if (!isBuffer(value)) return [name, row];
        const tensor = moved(row, value.axis, this.batch.length - length, 0, length);
        return [name, { axis: value.axis, tensor, written: length }];
      }),
    );
  }
}

export class CarriedMemory implements Memory {
  private held: Contents | Row;

  constructor(
    held: Contents | Row,
    readonly download: Download,
  ) {
    this.held = heldToo(held);
  }

  get length(): number {
    return this.held.length;
  }

  takeOut(): void {
    this.held = this.contents;
  }

  /** Takes a row out of the batch that it stands in. */
  private get contents(): Contents {
    const held = this.held instanceof Row ? heldToo(this.held.contents) : this.held;
    this.held = held;
    return held;
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
        const own = this.own(name, value, length);
        return [name, own.mirror ?? own.tensor];
      }),
    );
  }

  /**
   * Takes over what a run left behind, and of what grows also what it left on the device. Throws `DeviceError`, and stays as it
   * was, where that does not fit.
   */
  advance(
    carries: Carries,
    results: ReadonlyMap<string, CarriedTensor>,
    mirrors: ReadonlyMap<string, DeviceTensor> = new Map(),
  ): void {
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
      const buffer = this.own(name, values.get(name) as GrowingBuffer, length);
      append(buffer, rows);
      const left = mirrors.get(name);
      const fits = left?.dims[buffer.axis] === buffer.tensor.dims[buffer.axis];
      mirror(buffer, fits ? left : undefined);
      if (!fits) left?.dispose();
    }
    for (const [name, { kind }] of Object.entries(carries)) {
      if (kind === 'append') continue;
      this.put(name, results.get(name)!);
    }
    this.held = { ...this.contents, length: length + added };
  }

  read(names?: readonly string[]): Promise<Map<string, HostTensor>> {
    return read(this.contents, this.download, names);
  }

  async snapshot(): Promise<MemorySnapshot> {
    return new CarriedSnapshot(await this.hostContents(), this.download);
  }

  hold(): MemorySnapshot {
    return new CarriedSnapshot(this.held, this.download);
  }

  /** What it holds, of which nothing is on the device. */
  async hostContents(): Promise<Contents<HostValue> | Row> {
    if (this.held instanceof Row) return this.held;
    const { values } = this.held;
    // What is on the device is freed when it is replaced: a snapshot needs copies.
    const fetched = await fetch(values, this.download);
    const host = new Map(
      [...values].map(([name, value]) => [name, fetched.get(name) ?? (value as HostValue)]),
    );
    return { ...this.held, values: host };
  }

  restore(snapshot: MemorySnapshot): void {
    const { held } = carried(snapshot);
    const values = valuesOf(held);
    const missing = [...valuesOf(this.held).keys()].find((name) => !values.has(name));
    if (missing !== undefined) {
      throw new DeviceError(`the snapshot holds no '${missing}': it is of another program's memory`);
    }
    this.take(held);
  }

  /** Holds this from now on. */
  take(held: Contents | Row): void {
    const before = this.held;
    this.held = heldToo(held);
    letGoOf(before);
  }

  dispose(): void {
    this.take({ values: new Map(), length: 0 });
  }

  /** The buffer of a value to whose end this memory may write: that which it has, or a copy. */
  private own(name: string, buffer: GrowingBuffer, length: number): GrowingBuffer {
    if (buffer.written === length) return buffer;
    const { axis, tensor } = buffer;
    const own = { axis, tensor: withRoom(tensor, axis, length, length), written: length };
    this.put(name, own);
    return own;
  }

  private put(name: string, value: Value): void {
    const { values } = this.contents;
    hold(value);
    letGo(values.get(name)!);
    values.set(name, value);
  }
}

class CarriedSnapshot implements MemorySnapshot {
  private kept: Contents | Row | undefined;

  constructor(
    held: Contents | Row,
    readonly download: Download,
  ) {
    this.kept = heldToo(held);
  }

  get length(): number {
    return this.held.length;
  }

  get bytes(): number {
    const { values, length } = this.contents;
    return [...values.values()].reduce((total, value) => {
      const { dims, dtype } = isBuffer(value) ? value.tensor : value;
      return total + sizeOf(isBuffer(value) ? withDim(dims, value.axis, length) : dims) * DTYPES[dtype].bytes;
    }, 0);
  }

  get holdings(): ReadonlyMap<object, number> {
    return this.kept ? holdings(this.contents.values) : new Map();
  }

  get held(): Contents | Row {
    if (!this.kept) throw new DeviceError('the snapshot was disposed of: take it up before');
    return this.kept;
  }

  /** Takes a row out of the batch that it stands in. */
  private get contents(): Contents {
    const { held } = this;
    if (!(held instanceof Row)) return held;
    this.kept = heldToo(held.contents);
    return this.kept;
  }

  read(names?: readonly string[]): Promise<Map<string, HostTensor>> {
    return read(this.contents, this.download, names);
  }

  memory(): Memory {
    return new CarriedMemory(this.held, this.download);
  }

  dispose(): void {
    if (this.kept) letGoOf(this.kept);
    this.kept = undefined;
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

/** Which axis of each value is the batch, by the values' names. */
type BatchAxes = ReadonlyMap<string, number>;

/**
 * A memory whose rows are what the given ones hold, each of one row. They may be of different lengths. Those that were
 * split off one batch, and are all of it in their order, are joined at no cost. Throws `DeviceError` for memories that do not fit together.
 */
export async function joinMemories(memories: readonly Memory[], axes: BatchAxes): Promise<Memory> {
  const { download } = carriedMemory(memories[0]);
  const held = await Promise.all(memories.map((memory) => carriedMemory(memory).hostContents()));
  const [first] = held as [Contents<HostValue> | Row];
  const isWhole =
    first instanceof Row &&
    held.length === first.batch.begins!.length &&
    held.every((row, i) => row instanceof Row && row.batch === first.batch && row.index === i);
  if (isWhole) return new CarriedMemory(first.batch, download);
  const rows = held.map((row) => (row instanceof Row ? row.contents : row));
  const length = Math.max(...rows.map((row) => row.length));
  const values = new Map<string, Value>();
  for (const [name, value] of rows[0]!.values) {
    const tensors = rows.map((row) => {
      const own = row.values.get(name);
      if (!own) throw new DeviceError(`a memory holds no '${name}': it is of another program`);
      return isBuffer(own) ? moved(own.tensor, own.axis, 0, length - row.length, row.length, length) : own;
    });
    const tensor = concatenate(name, tensors, batchAxis(axes, name));
    values.set(name, isBuffer(value) ? { axis: value.axis, tensor, written: length } : tensor);
  }
  return new CarriedMemory({ values, length, begins: rows.map((row) => length - row.length) }, download);
}

/** Has the memories hold the rows of one that they were joined to. */
export async function splitMemory(
  joint: Memory,
  memories: readonly Memory[],
  axes: BatchAxes,
): Promise<void> {
  const batch = (await carriedMemory(joint).hostContents()) as Contents<HostValue>;
  for (const [i, memory] of memories.entries()) carriedMemory(memory).take(new Row(batch, i, axes));
}

/** Has a memory that was split off a batch let go of the other rows. */
export function takeOut(memory: Memory): void {
  carriedMemory(memory).takeOut();
}

function batchAxis(axes: BatchAxes, name: string): number {
  const axis = axes.get(name);
  if (axis === undefined) throw new DeviceError(`no axis was named along which '${name}' has its rows`);
  return axis;
}

function concatenate(name: string, tensors: readonly HostTensor[], axis: number): HostTensor {
  const { dtype, dims } = tensors[0]!;
  const total = tensors.reduce((sum, tensor) => sum + tensor.dims[axis]!, 0);
  const whole = hostZeros(dtype, withDim(dims, axis, total));
  let at = 0;
  for (const tensor of tensors) {
    if (withDim(tensor.dims, axis, 1).join() !== withDim(dims, axis, 1).join() || tensor.dtype !== dtype) {
      throw new DeviceError(`'${name}' is [${tensor.dims}] in one memory, and [${dims}] in another`);
    }
    writeEntries(whole, tensor, axis, at);
    at += tensor.dims[axis]!;
  }
  return whole;
}

function carriedMemory(memory: Memory | undefined): CarriedMemory {
  if (memory instanceof CarriedMemory) return memory;
  throw new DeviceError(
    memory ? 'the memory is of another kind of device' : 'there are no memories: give at least one',
  );
}

function valuesOf(held: Contents | Row): ReadonlyMap<string, Value> {
  return held instanceof Row ? held.batch.values : held.values;
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

/** Bytes by what takes them. */
function holdings(values: ReadonlyMap<string, Value>): Map<object, number> {
  return new Map(
    [...values.values()].map((value) => {
      const { dims, dtype } = isBuffer(value) ? value.tensor : value;
      return [value, sizeOf(dims) * DTYPES[dtype].bytes];
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
  // At once: who asked may let go of them meanwhile.
  const copies = wanted.map(([name, value]): [string, HostTensor | undefined] => {
    if (isBuffer(value)) return [name, slice(value.tensor, value.axis, 0, length)];
    return [name, isOnDevice(value) ? undefined : copyOf(value)];
  });
  const fetched = await fetch(new Map(wanted), download);
  return new Map(copies.map(([name, copy]) => [name, copy ?? fetched.get(name)!]));
}

/** Room grows in steps of a sixteenth, so that little is wasted and moving the entries costs O(1) for each added. */
function roomFor(length: number): number {
  const step = Math.max(64, 2 ** Math.floor(Math.log2(Math.max(length, 1)) - 4));
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
    const outgrown = buffer.tensor;
    buffer.tensor = withRoom(outgrown, axis, written, length);
    if (holders.get(buffer) === 1) free(outgrown);
  }
  writeEntries(buffer.tensor, rows, axis, written);
  buffer.written = length;
}

/** A copy of the first `length` entries along `axis`, with the room that `needed` entries get. */
function withRoom(tensor: HostTensor, axis: number, length: number, needed: number): HostTensor {
  return moved(tensor, axis, 0, 0, length, needed);
}

/** A copy of `length` entries along `axis`, which stood at `from` and now stand at `to`, with the room that `needed` get. */
function moved(
  tensor: HostTensor,
  axis: number,
  from: number,
  to: number,
  length: number,
  needed = length,
): HostTensor {
  const grown = hostZeros(tensor.dtype, withDim(tensor.dims, axis, roomFor(needed)));
  copyEntries(tensor, from, grown, to, axis, length);
  return grown;
}
