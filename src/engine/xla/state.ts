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

/** What a state needs of its device to be read. */
export interface StateReader {
  /**
   * Copies values of a state to the host, the growing ones with `room` entries. Small values may be parts of one array, which is nobody
   * else's.
   */
  read(
    state: XlaState,
    names: readonly string[],
  ): Promise<{ readonly data: readonly TensorData[]; readonly room: number }>;
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
    readonly device: StateReader,
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

  /** Whether it is this state that a batch has as a holder. */
  is(holder: object): boolean {
    return holder === this.holding;
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
    return new XlaState(this.device, this.batch, this.row, this.length);
  }

  read(names?: readonly string[]): Promise<Map<string, HostTensor>> {
    return holding([this], () => this.copy(names));
  }

  private async copy(
    names: readonly string[] = [...this.batch.values.keys()],
  ): Promise<Map<string, HostTensor>> {
    const { batch, length } = this;
    const specs = names.map((name) => {
      const value = batch.values.get(name);
      if (!value) throw new DeviceError(`the state holds no '${name}'`);
      return value.spec;
    });
    const { data, room } = await this.device.read(this, names);
    return new Map(names.map((name, i) => [name, withoutRoom(specs[i]!, data[i]!, room, length)]));
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

/** An order of these states in which as many as can be are the rows that they are of a batch of theirs: the index of each. */
export function inTheirPlaces(states: readonly XlaState[]): number[] {
  const places = new Map<Batch, (number | undefined)[]>();
  for (const [i, { batch, row }] of states.entries()) {
    if (batch.rows !== states.length) continue;
    const own = places.get(batch) ?? new Array<undefined>(batch.rows).fill(undefined);
    own[row] ??= i;
    places.set(batch, own);
  }
  const taken = (own: (number | undefined)[]): number => own.filter((i) => i !== undefined).length;
  const [most = []] = [...places.values()].sort((a, b) => taken(b) - taken(a));
  const inPlace = new Set(most);
  const others = [...states.keys()].filter((i) => !inPlace.has(i));
  return states.map((_, row) => most[row] ?? others.shift()!);
}

/** The batch in which most of these states are the rows that they are here, and how many are; none where it has another number of rows. */
export function nearlyOwnBatch(
  states: readonly XlaState[],
): { readonly batch: Batch; readonly inPlace: number } | undefined {
  const counts = new Map<Batch, number>();
  for (const [i, { batch, row }] of states.entries())
    if (batch.rows === states.length && row === i) counts.set(batch, (counts.get(batch) ?? 0) + 1);
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  return most && { batch: most[0], inPlace: most[1] };
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

/** A value of one row, of which a growing one loses its spare room: its entries are moved within its array. */
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
