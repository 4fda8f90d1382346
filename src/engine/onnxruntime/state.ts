/**
 * States on ONNX Runtime. Its runs return new arrays, so values that a run replaces are immutable, and forks share them. A growing value
 * is a buffer with spare room behind its entries, which forks share too. The buffer counts the entries written to it: a state with exactly
 * that many entries appends in place; a state with fewer copies its entries into a new buffer first. So a fork costs nothing, and only
 * the first run of a fork that others have overtaken copies the entries. Entries of disposed states are room again.
 *
 * States that run together are stored as the rows of one batch, for as long as the same states run together.
 *
 * Values are reference counted and freed when the count reaches 0, so that the next run can reuse their memory; the garbage collector would
 * free it late.
 *
 * A run sees zeros behind the entries, and a buffer size that depends on the number of entries alone. The same entries therefore give the
 * same bits, whatever the history of the state.
 */
import { DeviceError } from '../../errors.js';
import { DTYPES, type DType } from '../../graph/index.js';
import { holding, Lifetime } from '../lifetime.js';
import type { State } from '../program.js';
import { type HostTensor, hostZeros } from '../tensors.js';
import { clearEntries, copyEntries, copyOf, rowOf, sizeOf, slice, withDim, writeEntries } from './entries.js';
import { release } from './release.js';

/** A value in GPU memory, which its owner disposes of. */
export interface DeviceTensor {
  readonly dtype: DType;
  readonly dims: readonly number[];
  dispose(): void;
}

/** A value of a state: in JavaScript memory, or on the device. */
export type StateTensor = HostTensor | DeviceTensor;

/** Copies values to new arrays in JavaScript's memory. */
export type Download = (tensors: ReadonlyMap<string, DeviceTensor>) => Promise<Map<string, HostTensor>>;

/** The change of a value by a run: a new value, or entries to append along `axis`. */
export type Change = { readonly value: StateTensor } | AppendedEntries;

interface AppendedEntries {
  readonly entries: HostTensor;
  readonly axis: number;
  /** The buffer in GPU memory after these entries were appended. */
  readonly mirror?: DeviceTensor | undefined;
}

/** The entries of each row of a batch, in a tensor of size `roomFor(most entries written)` along the growing axis. */
interface GrowingBuffer {
  readonly axis: number;
  tensor: HostTensor;
  /** The number of entries written, for each row. */
  written: readonly number[];
  /** A copy in GPU memory, if the last run left one. */
  mirror?: DeviceTensor | undefined;
}

type Value = GrowingBuffer | StateTensor;

/** The values of states that run together, and the number of entries of each. Immutable, except that its buffers grow. */
export interface Batch {
  readonly values: ReadonlyMap<string, Value>;
  readonly lengths: readonly number[];
}

/** The states that use each value. */
const holders = new WeakMap<Value, Set<OrtState>>();

function hold(value: Value, state: OrtState): void {
  const states = holders.get(value);
  if (states) states.add(state);
  else holders.set(value, new Set([state]));
}

function letGo(value: Value, state: OrtState): void {
  const states = holders.get(value);
  if (!states?.delete(state)) return;
  if (states.size > 0) {
    if (isBuffer(value)) giveBack(value, states);
    return;
  }
  if (isBuffer(value)) setMirror(value, undefined);
  free(isBuffer(value) ? value.tensor : value);
}

/** Removes the entries of a buffer of one row that none of these states has. A buffer that would be smaller by now is left as it is. */
function giveBack(buffer: GrowingBuffer, states: ReadonlySet<OrtState>): void {
  const { axis, tensor, written } = buffer;
  if (written.length !== 1) return;
  const most = Math.max(...Array.from(states, ({ length }) => length));
  if (most >= written[0]! || tensor.dims[axis] !== roomFor(most)) return;
  setMirror(buffer, undefined);
  clearEntries(tensor, axis, most, written[0]!);
  buffer.written = [most];
}

function setMirror(buffer: GrowingBuffer, mirror: DeviceTensor | undefined): void {
  buffer.mirror?.dispose();
  buffer.mirror = mirror;
}

function free(tensor: StateTensor): void {
  if (isOnDevice(tensor)) tensor.dispose();
  else release(tensor.data);
}

/** A state: one row of a batch. */
export class OrtState implements State {
  readonly life = new Lifetime(() => {
    const values = [...(this.held?.values.values() ?? [])];
    this.held = undefined;
    for (const value of values) letGo(value, this);
  });
  private held: Batch | undefined;

  constructor(
    /** The device that its values live on. */
    readonly device: object,
    private readonly download: Download,
    batch: Batch,
    private row = 0,
  ) {
    this.held = batch;
    for (const value of batch.values.values()) hold(value, this);
  }

  get length(): number {
    return this.batch.lengths[this.row]!;
  }

  get bytes(): number {
    return [...this.holdings.values()].reduce((a, b) => a + b, 0);
  }

  get holdings(): ReadonlyMap<object, number> {
    if (!this.held) return new Map();
    const { values, lengths } = this.held;
    const bytes = [...values.values()].map((value) => [value, bytesOf(value)] as const);
    if (lengths.length === 1) return new Map(bytes);
    return new Map([[this, bytes.reduce((sum, [, count]) => sum + count, 0) / lengths.length]]);
  }

  /** The batch that it is a row of. */
  get batch(): Batch {
    if (!this.held) throw new DeviceError('the state was disposed of: fork it before');
    return this.held;
  }

  get index(): number {
    return this.row;
  }

  fork(): State {
    const { batch, row } = this;
    // A fork may live long, so it copies its row instead of keeping the whole batch alive, unless that needed a download.
    const stays = batch.lengths.length === 1 || [...batch.values.values()].some(isOnDevice);
    return stays
      ? new OrtState(this.device, this.download, batch, row)
      : new OrtState(this.device, this.download, rowsOf([this]));
  }

  async read(names = [...this.batch.values.keys()]): Promise<Map<string, HostTensor>> {
    const { values, lengths } = this.batch;
    const row = this.row;
    const wanted = names.map((name): [string, Value] => {
      const value = values.get(name);
      if (!value) throw new DeviceError(`the state has no '${name}'`);
      return [name, value];
    });
    const rowIn = (tensor: HostTensor): HostTensor => rowOf(tensor, row, lengths.length);
    // Copied before the first await, since the caller may dispose of the state in the meantime.
    const copies = wanted.map(([name, value]): [string, HostTensor | undefined] => {
      if (isBuffer(value)) return [name, slice(rowIn(value.tensor), value.axis, 0, lengths[row]!)];
      return [name, isOnDevice(value) ? undefined : copyOf(rowIn(value))];
    });
    const fetched = await holding([this], () => fetch(new Map(wanted), this.download));
    return new Map(copies.map(([name, copy]) => [name, copy ?? rowIn(fetched.get(name)!)]));
  }

  lend(): ReadonlyMap<string, HostTensor> | undefined {
    const { values, lengths } = this.batch;
    const lent = new Map<string, HostTensor>();
    for (const [name, value] of values) {
      if (isOnDevice(value)) return undefined;
      lent.set(name, rowOf(isBuffer(value) ? value.tensor : value, this.row, lengths.length));
    }
    return lent;
  }

  /** Makes the state a row of another batch. */
  moveTo(batch: Batch, row: number): void {
    const before = this.held;
    const values = new Set(batch.values.values());
    this.held = batch;
    this.row = row;
    for (const value of values) hold(value, this);
    for (const value of before?.values.values() ?? []) if (!values.has(value)) letGo(value, this);
  }

  /** Downloads the values that are in GPU memory. The state is then a batch of its own. */
  async bringHome(): Promise<void> {
    if (![...this.batch.values.values()].some(isOnDevice)) return;
    const fetched = await fetch(this.batch.values, this.download);
    const values = [...this.batch.values].map(([name, value]) => [name, fetched.get(name) ?? value] as const);
    this.moveTo({ values: new Map(values), lengths: this.batch.lengths }, this.row);
  }

  dispose(): void {
    this.life.dispose();
  }
}

/** A batch of one row with these values. Growing ones (`axes` has their growing axes) hold `length` entries and may have spare room. */
export function newBatch(
  values: ReadonlyMap<string, HostTensor>,
  axes: ReadonlyMap<string, number>,
  length: number,
): Batch {
  const made = [...values].map(([name, tensor]): [string, Value] => {
    const axis = axes.get(name);
    if (axis === undefined) return [name, tensor];
    const fits = tensor.dims[axis] === roomFor(length);
    const roomy = fits ? tensor : withRoom({ axis, tensor }, [length], length);
    return [name, { axis, tensor: roomy, written: [length] }];
  });
  return { values: new Map(made), lengths: [length] };
}

/** A batch whose rows are these states: their present batch, if they are all of its rows in order, or a copy. */
export async function joined(states: readonly OrtState[]): Promise<Batch> {
  const { batch } = states[0]!;
  const isWhole =
    states.length === batch.lengths.length &&
    states.every((state, i) => state.batch === batch && state.index === i);
  if (isWhole) return batch;
  for (const state of states) await state.bringHome();
  return rowsOf(states);
}

/** A copy of the rows. They have no values in GPU memory. */
function rowsOf(states: readonly OrtState[]): Batch {
  const lengths = states.map(({ length }) => length);
  const values = new Map<string, Value>();
  for (const [name, first] of states[0]!.batch.values) {
    const rows = states.map(({ batch, index }) => {
      const value = batch.values.get(name);
      if (!value) throw new DeviceError(`a state has no '${name}': it is of another program`);
      const tensor = isBuffer(value) ? value.tensor : (value as HostTensor);
      return rowOf(tensor, index, batch.lengths.length);
    });
    if (!isBuffer(first)) {
      values.set(name, concatenate(name, rows));
      continue;
    }
    const { dtype, dims } = rows[0]!;
    const roomy = withDim(withDim(dims, first.axis, roomFor(Math.max(...lengths))), 0, rows.length);
    const tensor = hostZeros(dtype, rows.length === 1 ? withDim(roomy, 0, dims[0]!) : roomy);
    for (const [i, row] of rows.entries()) {
      copyEntries(row, 0, rowOf(tensor, i, rows.length), 0, first.axis, lengths[i]!);
    }
    values.set(name, { axis: first.axis, tensor, written: lengths });
  }
  return { values, lengths };
}

function concatenate(name: string, rows: readonly HostTensor[]): HostTensor {
  const [{ dtype, dims }] = rows as [HostTensor];
  if (rows.length === 1) return copyOf(rows[0]!);
  const whole = hostZeros(dtype, withDim(dims, 0, rows.length));
  for (const [i, row] of rows.entries()) {
    if (row.dims.join() !== dims.join() || row.dtype !== dtype) {
      throw new DeviceError(`'${name}' is [${row.dims}] in one state, and [${dims}] in another`);
    }
    writeEntries(whole, row, 0, i);
  }
  return whole;
}

/** The same batch with buffers that its rows may append to: a buffer that another state has already appended to is copied. */
export function owned({ values, lengths }: Batch): Batch {
  return {
    lengths,
    values: new Map(
      [...values].map(([name, value]) => [name, isBuffer(value) ? own(value, lengths) : value]),
    ),
  };
}

function own(buffer: GrowingBuffer, lengths: readonly number[]): GrowingBuffer {
  if (buffer.written.every((count, row) => count === lengths[row])) return buffer;
  const tensor = withRoom(buffer, lengths, Math.max(...lengths));
  return { axis: buffer.axis, tensor, written: lengths };
}

/** The tensors that are fed to a run, by state name. */
export function tensorsOf({ values }: Batch): Map<string, StateTensor> {
  return new Map(
    [...values].map(([name, value]) => [name, isBuffer(value) ? (value.mirror ?? value.tensor) : value]),
  );
}

/**
 * The batch after a run with these changes. Throws `DeviceError` for changes of the wrong type or shape and leaves the batch unchanged:
 * entries beyond its lengths are ignored.
 */
export function changed(batch: Batch, changes: ReadonlyMap<string, Change>): Batch {
  const appended = [...changes].flatMap(([name, change]) =>
    'entries' in change ? [[name, change] as const] : [],
  );
  const growth = appended.map(([, { entries, axis }]) => entries.dims[axis]!);
  const added = growth[0] ?? 0;
  if (growth.some((count) => count !== added)) {
    throw new DeviceError(`the growing states grew by different numbers of entries: ${growth}`);
  }
  const values = new Map(batch.values);
  for (const [name, change] of changes) {
    if (isBuffer(values.get(name)!) !== 'entries' in change) {
      throw new DeviceError(
        `'${name}' grows in one program, and is replaced in another: they share no states`,
      );
    }
    if ('value' in change) values.set(name, change.value);
  }
  for (const [name, { entries, mirror }] of appended) {
    const buffer = own(values.get(name) as GrowingBuffer, batch.lengths);
    append(buffer, entries);
    const fits = mirror?.dims[buffer.axis] === buffer.tensor.dims[buffer.axis];
    setMirror(buffer, fits ? mirror : undefined);
    if (!fits) mirror?.dispose();
    values.set(name, buffer);
  }
  return { values, lengths: batch.lengths.map((length) => length + added) };
}

/**
 * Appends entries to the rows of a buffer. If they do not fit, the buffer gets a larger tensor, also for the other states that share it:
 * their entries come first in it.
 */
function append(buffer: GrowingBuffer, entries: HostTensor): void {
  const { axis, written } = buffer;
  const lengths = written.map((count) => count + entries.dims[axis]!);
  const most = Math.max(...lengths);
  if (buffer.tensor.dims[axis] !== roomFor(most)) {
    const outgrown = buffer.tensor;
    buffer.tensor = withRoom(buffer, written, most);
    // No state other than the rows of this run uses the buffer.
    if (holders.get(buffer)?.size === written.length) free(outgrown);
  }
  for (const [row, count] of written.entries()) {
    writeEntries(rowOf(buffer.tensor, row, written.length), rowOf(entries, row, written.length), axis, count);
  }
  buffer.written = lengths;
}

/** A copy of the first entries of each row, in a tensor of size `roomFor(needed)`. */
function withRoom(
  { axis, tensor }: Pick<GrowingBuffer, 'axis' | 'tensor'>,
  lengths: readonly number[],
  needed: number,
): HostTensor {
  const roomy = hostZeros(tensor.dtype, withDim(tensor.dims, axis, roomFor(needed)));
  for (const [row, length] of lengths.entries()) {
    copyEntries(rowOf(tensor, row, lengths.length), 0, rowOf(roomy, row, lengths.length), 0, axis, length);
  }
  return roomy;
}

/** The size grows by a sixteenth at a time: little is wasted, and copying costs amortized O(1) an entry. */
function roomFor(length: number): number {
  const step = Math.max(64, 2 ** Math.floor(Math.log2(Math.max(length, 1)) - 4));
  return Math.max(step, Math.ceil(length / step) * step);
}

function isBuffer(value: Value): value is GrowingBuffer {
  return 'written' in value;
}

function isOnDevice(value: Value): value is DeviceTensor {
  return 'dispose' in value;
}

function bytesOf(value: Value): number {
  const { dims, dtype } = isBuffer(value) ? value.tensor : value;
  return sizeOf(dims) * DTYPES[dtype].bytes;
}

/** Downloads the values that are in GPU memory. */
async function fetch(
  values: ReadonlyMap<string, Value>,
  download: Download,
): Promise<ReadonlyMap<string, HostTensor>> {
  const onDevice = [...values].filter((entry): entry is [string, DeviceTensor] => isOnDevice(entry[1]));
  return onDevice.length > 0 ? download(new Map(onDevice)) : new Map();
}
