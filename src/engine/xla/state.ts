/**
 * States on XLA's devices. States that run together are the rows of one batch, which has one array for each value. A run donates these arrays
 * to its results, so a batch is updated in place as long as the same states run together and none of them is shared; otherwise the rows are
 * first copied into a new batch. A fork shares its row by a reference count, and costs nothing until one of the two runs.
 */
import { DeviceError } from '../../errors.js';
import type { RowValue } from '../../graph/index.js';
import { holding, Lifetime } from '../lifetime.js';
import { type State, type StateSpec, stateDims } from '../program.js';
import type { HostTensor, TensorData } from '../tensors.js';
import type { PjrtBuffer } from './pjrt.js';

/** A value of a batch: a buffer on each device, replicated or sharded. */
export interface KeptValue {
  readonly spec: StateSpec;
  readonly row: RowValue;
  readonly buffers: readonly PjrtBuffer[];
  /** The axis along which it is sharded. */
  readonly axis: number | undefined;
}

/** The operations of the device that a state needs to be read. */
export interface StateReader {
  /** Copies a value to the host, as one array [rows, ...] including spare room. */
  download(value: KeptValue): Promise<TensorData>;
  /** Copies a state into a batch of its own. */
  takeOut(state: XlaState): Promise<void>;
}

/** The values of states that run together. */
export class Batch {
  /** By whom its rows are held: the states, and their forks. */
  readonly holders = new Set<Holding>();

  constructor(
    readonly rows: number,
    /** The size of growing values along their growing axes, in entries. */
    readonly room: number,
    public values: ReadonlyMap<string, KeptValue>,
  ) {}

  get bytes(): number {
    let total = 0;
    for (const { buffers } of this.values.values()) for (const { bytes } of buffers) total += bytes;
    return total;
  }

  /** By whom a row is held now. */
  holdersOf(row: number): Holding[] {
    return [...this.holders].filter((holder) => holder.row === row);
  }

  free(): void {
    for (const { buffers } of this.values.values()) for (const buffer of buffers) buffer.dispose();
  }
}

/** Frees the memory of states that are garbage-collected without having been disposed of. */
const dropped = new FinalizationRegistry<Holding>((holding) => holding.letGo());

/** The row of a reference to a batch as a whole. */
const NO_ROW = -1;

/** A state's reference to its batch, as an object of its own, since the finalizer must not refer to the state. */
class Holding {
  batch: Batch | undefined;
  row = 0;

  take(batch: Batch, row: number): void {
    this.batch = batch;
    this.row = row;
    batch.holders.add(this);
  }

  letGo(): void {
    const { batch } = this;
    this.batch = undefined;
    if (!batch) return;
    batch.holders.delete(this);
    if (batch.holders.size === 0) batch.free();
  }

  /** Makes the state a row of another batch. */
  moveTo(batch: Batch, row: number): void {
    if (this.batch !== batch) {
      this.letGo();
      this.take(batch, row);
    }
    this.row = row;
  }
}

/** The state of one sequence: a row of a batch. */
export class XlaState implements State {
  readonly life = new Lifetime(() => {
    dropped.unregister(this);
    this.holding.letGo();
  });
  private readonly holding = new Holding();

  constructor(
    /** The device whose programs can run it. */
    readonly device: object,
    private readonly reader: StateReader,
    batch: Batch,
    row: number,
    public length: number,
  ) {
    this.holding.take(batch, row);
    dropped.register(this, this.holding, this);
  }

  /** The batch that it is a row of. Throws `DeviceError` if it was disposed of. */
  get batch(): Batch {
    if (!this.holding.batch) throw new DeviceError('this state was disposed of');
    return this.holding.batch;
  }

  get row(): number {
    return this.holding.row;
  }

  get bytes(): number {
    return [...this.holdings.values()].reduce((a, b) => a + b, 0);
  }

  get holdings(): ReadonlyMap<object, number> {
    const { batch } = this.holding;
    if (!batch) return new Map();
    // Forks of a row share its memory.
    return new Map([[keyOf(batch, this.row), batch.bytes / batch.rows]]);
  }

  fork(): State {
    return new XlaState(this.device, this.reader, this.batch, this.row, this.length);
  }

  read(names?: readonly string[]): Promise<Map<string, HostTensor>> {
    return holding([this], () => this.copy(names));
  }

  private async copy(
    names: readonly string[] = [...this.batch.values.keys()],
  ): Promise<Map<string, HostTensor>> {
    // The state's row is taken out first, so that the other rows are not copied to the host.
    if (this.batch.rows > 1) await this.reader.takeOut(this);
    const { batch, length } = this;
    const values = names.map((name) => {
      const value = batch.values.get(name);
      if (!value) throw new DeviceError(`the state holds no '${name}'`);
      return value;
    });
    const copies = await Promise.all(
      values.map(async (value) =>
        withoutRoom(value.spec, await this.reader.download(value), batch.room, length),
      ),
    );
    return new Map(names.map((name, i) => [name, copies[i]!]));
  }

  dispose(): void {
    this.life.dispose();
  }

  /** Restores `saved`, an earlier fork of this state. */
  restore(saved: State): void {
    const { batch, row, length } = saved as XlaState;
    this.moveTo(batch, row);
    this.length = length;
  }

  /** Makes the state a row of another batch. */
  moveTo(batch: Batch, row: number): void {
    this.holding.moveTo(batch, row);
  }
}

/** The batch whose rows are exactly these states, in order, if no other state shares it. */
export function ownBatch(states: readonly XlaState[]): Batch | undefined {
  const { batch } = states[0]!;
  const isWhole = batch.rows === states.length && batch.holders.size === states.length;
  return isWhole && states.every((state, i) => state.batch === batch && state.row === i) ? batch : undefined;
}

/** The rows that states hold. */
export function rowsLeftIn(batch: Batch): number[] {
  return [...new Set([...batch.holders].map(({ row }) => row))];
}

/** Keeps a batch from being freed with its last state, until the function is called that is returned. */
export function holdBatch(batch: Batch): () => void {
  const placeholder = new Holding();
  placeholder.take(batch, NO_ROW);
  return () => placeholder.letGo();
}

const keys = new WeakMap<Batch, object[]>();

function keyOf(batch: Batch, row: number): object {
  let own = keys.get(batch);
  if (!own) {
    own = Array.from({ length: batch.rows }, () => ({}));
    keys.set(batch, own);
  }
  return own[row]!;
}

/** A downloaded value of a batch of one row; a growing one without its spare room. The array is not shared: its entries are moved in it. */
function withoutRoom(spec: StateSpec, data: TensorData, room: number, length: number): HostTensor {
  const { dtype, grows } = spec;
  const dims = stateDims(spec, length);
  if (grows === undefined) return { dtype, dims, data };
  const size = (part: readonly number[]): number => part.reduce((a, b) => a * b, 1);
  const inner = size(dims.slice(grows + 1));
  const outer = size(dims.slice(0, grows));
  for (let i = 0; i < outer; i++) {
    const start = i * room * inner;
    data.copyWithin(i * length * inner, start, start + length * inner);
  }
  return { dtype, dims, data: data.subarray(0, size(dims)) };
}
