/** A compiled program: a schedule of kernels for each set of dimensions that it was run with. */
import { DeviceError, ShapeError } from '../../errors.js';
import {
  type Buffer,
  inputName,
  LENGTHS,
  type Lowered,
  lowerToWasm,
  PAGE_ENTRIES,
  type Step,
  type TensorData,
} from '../../graph/index.js';
import { checkFeeds, checkHeld, checkRows, checkState, type NamedType } from '../check.js';
import { holding } from '../lifetime.js';
import type { Executable, Program, State } from '../program.js';
import type { LoadedWeights } from '../shared-weights.js';
import { type HostTensor, int64 } from '../tensors.js';
import type { WasmDevice } from './device.js';
import { PlacedSchedule, type ProgramState } from './placed-schedule.js';
import { planMemory, stagesOf, writeSchedule } from './schedule.js';
import { type KeptValue, newValue, WasmState } from './state.js';
import type { PlacedWeight } from './weights.js';

/** The number of schedules that an executable keeps: the most recently used ones. */
const MOST_SCHEDULES = 16;

/** A program of the executor `wasm`. */
export class WasmExecutable implements Executable {
  readonly copiesInitial = true;
  private readonly types: ReadonlyMap<string, NamedType>;
  private readonly states: readonly ProgramState[];
  private readonly isBatched: boolean;
  private readonly lengths: string;
  private readonly schedules = new Map<string, PlacedSchedule>();
  /** Whether schedules depend on the buffer size of growing states. They do not if all kernels that read them read pages. */
  private needsRoom = false;
  /** The addresses of constants, by a key of the expression that computes them. */
  private readonly constants = new Map<string, number>();
  private isDisposed = false;

  constructor(
    private readonly device: WasmDevice,
    private readonly program: Program,
    private readonly weights: LoadedWeights<PlacedWeight>,
  ) {
    const { inputs, state = [], lengths } = program;
    const dims = new Map(Object.entries(program.dims ?? {}));
    this.types = new Map(
      inputs.map(({ node, dtype, shape }) => {
        const name = inputName(node.outputs[0]!)!;
        return [name, { name, dtype, shape: shape.map((dim) => dims.get(String(dim)) ?? dim) }];
      }),
    );
    this.states = state;
    this.isBatched = state.every(({ spec }) => spec.shape[0] === 'batch');
    this.lengths = lengths ? inputName(lengths)! : LENGTHS;
  }

  newState(initial: ReadonlyMap<string, HostTensor> = new Map(), length = 0): State {
    const unknown = [...initial.keys()].find((name) => !this.states.some(({ spec }) => spec.name === name));
    if (unknown !== undefined) throw new DeviceError(`the program has no state '${unknown}'`);
    const values = new Map<string, KeptValue>();
    const { memory } = this.device;
    const grows = this.states.some(({ spec }) => spec.grows !== undefined);
    const state = new WasmState(memory, values, grows ? length : 0);
    try {
      for (const { spec } of this.states) {
        const value = initial.get(spec.name);
        if (value) checkState(spec, value, length);
        values.set(spec.name, newValue(memory, spec, value, length));
      }
    } catch (error) {
      state.dispose();
      throw error;
    }
    return state;
  }

  async run(
    feeds: Readonly<Record<string, HostTensor>>,
    rows: readonly State[] = [],
  ): Promise<Record<string, HostTensor>> {
    if (this.isDisposed) throw new DeviceError('this program was disposed of');
    const sizes = new Map(Object.entries(this.program.dims ?? {}));
    checkFeeds(this.types, feeds, sizes);
    const states = this.expectStates(rows, sizes);
    return this.exclusively(states, async () => {
      const placed = await this.scheduleFor(sizes, states);
      const { memory, threads } = this.device;
      const changes = placed.prepare(states);
      try {
        this.feed(placed, feeds, states);
        await threads.run(placed.schedule);
      } catch (error) {
        for (const change of changes) change.undo();
        throw error;
      }
      for (const change of changes) change.keep();
      for (const state of states) state.length += placed.appended;
      return placed.read(memory.memory.buffer);
    });
  }

  /** Serializes runs, and keeps the values of these states until the run ends. */
  private exclusively<T>(states: readonly WasmState[], run: () => Promise<T>): Promise<T> {
    return holding(states, () => this.device.exclusively(run));
  }

  async dispose(): Promise<void> {
    if (this.isDisposed) return;
    this.isDisposed = true;
    await this.device.exclusively(async () => {
      for (const placed of this.schedules.values()) placed.dispose();
      for (const address of this.constants.values()) this.device.memory.release(address);
      this.weights.release();
    });
  }

  /**
   * For profiling: the schedule for these sizes, and the milliseconds of each step on the calling thread, as the mean over the faster half of
   * `rounds` runs. The wait for other threads at the end of a stage counts to the stage's last step.
   */
  async profile(
    feeds: Readonly<Record<string, HostTensor>>,
    rows: readonly State[],
    rounds: number,
  ): Promise<{ step: Step; stage: number; milliseconds: number }[]> {
    const sizes = new Map(Object.entries(this.program.dims ?? {}));
    checkFeeds(this.types, feeds, sizes);
    const states = this.expectStates(rows, sizes);
    for (let i = 0; i < rounds; i++) await this.run(feeds, rows);
    return this.exclusively(states, async () => {
      const placed = await this.scheduleFor(sizes, states);
      const { memory, threads } = this.device;
      const { steps } = placed;
      const times = memory.allocate(8 * steps.length);
      const all: Float64Array[] = [];
      try {
        for (let round = 0; round < rounds; round++) {
          const changes = placed.prepare(states);
          try {
            this.feed(placed, feeds, states);
            const spent = new Float64Array(memory.memory.buffer, times, steps.length).fill(0);
            await threads.run(placed.schedule, times);
            all.push(spent.slice());
          } finally {
            for (const change of changes) change.undo();
          }
        }
      } finally {
        memory.release(times);
      }
      const total = (times: Float64Array): number => times.reduce((a, b) => a + b, 0);
      const faster = all.sort((a, b) => total(a) - total(b)).slice(0, Math.ceil(rounds / 2));
      return steps.map((planned, i) => {
        const sum = faster.reduce((sum, times) => sum + times[i]!, 0);
        return { ...planned, milliseconds: sum / faster.length };
      });
    });
  }

  /** Writes the inputs. Their memory is reused after the last step that reads them, so it is filled for every run. */
  private feed(
    placed: PlacedSchedule,
    feeds: Readonly<Record<string, HostTensor>>,
    states: readonly WasmState[],
  ): void {
    for (const [name, { dtype, data }] of Object.entries(feeds)) placed.feed(name, dtype, data);
    const { data } = int64(
      states.map(({ length }) => length),
      [states.length],
    );
    if (states.length > 0) placed.feed(this.lengths, 'int64', data);
  }

  private expectStates(rows: readonly State[], sizes: Map<string, number>): WasmState[] {
    if (this.states.length === 0) return [];
    const count = checkRows(rows, this.isBatched, sizes);
    if (this.isBatched) sizes.set('batch', count);
    return rows.map((row) => {
      if (!(row instanceof WasmState) || row.memory !== this.device.memory) {
        throw new DeviceError(
          'the state is another device’s: read it, and make a state of this device from that',
        );
      }
      row.expectAlive();
      for (const { spec } of this.states) checkHeld(spec, row.values.get(spec.name));
      return row;
    });
  }

  private async scheduleFor(
    sizes: ReadonlyMap<string, number>,
    states: readonly WasmState[],
  ): Promise<PlacedSchedule> {
    const longest = Math.max(0, ...states.map(({ length }) => length));
    const room = PAGE_ENTRIES * 2 ** Math.ceil(Math.log2(Math.max(1, longest / PAGE_ENTRIES)));
    const keyOf = (): string =>
      JSON.stringify([[...sizes].sort(), states.length, this.needsRoom ? room : undefined]);
    const known = this.schedules.get(keyOf());
    if (known) {
      this.schedules.delete(keyOf());
      this.schedules.set(keyOf(), known);
      return known;
    }
    const placed = await this.compile(sizes, states.length, room);
    this.schedules.set(keyOf(), placed);
    const [oldest] = this.schedules;
    if (this.schedules.size > MOST_SCHEDULES) {
      this.schedules.delete(oldest![0]);
      oldest![1].dispose();
    }
    return placed;
  }

  private async compile(
    sizes: ReadonlyMap<string, number>,
    rows: number,
    room: number,
  ): Promise<PlacedSchedule> {
    const { outputs, lengths } = this.program;
    const rooms = new Set(
      this.states.flatMap(({ spec, before }) =>
        spec.grows === undefined ? [] : [before.shape[spec.grows]!],
      ),
    );
    const { memory, threads } = this.device;
    const lowered = lowerToWasm({
      outputs,
      states: this.states.map(({ spec, before, after }) => ({
        before,
        after,
        grows: spec.grows,
        isBatched: spec.shape[0] === 'batch',
      })),
      lengths,
      rows,
      weights: new Map(Array.from(this.weights, ([name, { held }]) => [name, held])),
      sizes: (symbol) => {
        const size = sizes.get(symbol);
        if (size !== undefined) return size;
        if (!rooms.has(symbol)) throw new ShapeError(`the dimension '${symbol}' has no value`);
        this.needsRoom = true;
        return room;
      },
      threads: threads.count,
    });
    const owned: number[] = [];
    try {
      return await this.write(lowered, rows, owned);
    } catch (error) {
      for (const address of owned) memory.release(address);
      throw error;
    }
  }

  /** Allocates a schedule's memory, computes its constants and writes it. `owned` collects the addresses that only this schedule uses. */
  private async write(lowered: Lowered, rows: number, owned: number[]): Promise<PlacedSchedule> {
    const { memory, threads } = this.device;
    const own = (bytes: number): number => {
      const address = memory.allocate(bytes);
      owned.push(address);
      return address;
    };
    const places = new Map<Buffer, number>();
    const fresh = new Set<Buffer>();
    /** Constants that other schedules may share once they are computed. */
    const shared = new Map<string, number>();
    const constantAt = (buffer: Buffer): number => {
      const { key } = buffer;
      let address =
        places.get(buffer) ?? (key === undefined ? undefined : (shared.get(key) ?? this.constants.get(key)));
      if (address === undefined) {
        const { source } = buffer;
        if (source?.kind === 'weight') address = this.weights.get(source.name)!.at[source.part]!;
        else {
          fresh.add(buffer);
          address = own(buffer.bytes);
          if (key !== undefined) shared.set(key, address);
          if (source?.kind === 'constant') copyIn(memory.bytes, address, source.data);
        }
      }
      places.set(buffer, address);
      return address;
    };
    for (const { writes } of lowered.once) for (const buffer of writes) constantAt(buffer);
    const once = stagesOf(lowered.once.filter(({ writes }) => writes.some((buffer) => fresh.has(buffer))));
    if (once.length > 0) {
      const preparation = writeSchedule(memory, once, constantAt, () => 0);
      try {
        await threads.run(preparation);
      } finally {
        memory.release(preparation.block);
      }
    }

    const steps = stagesOf(lowered.steps);
    const { offsets, bytes } = planMemory(steps, lowered);
    const workspace = own(bytes);
    const tables = own(Math.max(1, this.states.length * 2 * rows) * 4);
    const addressOf = (buffer: Buffer): number =>
      buffer.isConstant ? constantAt(buffer) : workspace + (offsets.get(buffer) ?? 0);
    const tableOf = (state: number, side: 'before' | 'after'): number =>
      tables + (state * 2 + (side === 'before' ? 0 : 1)) * rows * 4;
    const schedule = writeSchedule(memory, steps, addressOf, tableOf);
    owned.push(schedule.block);
    for (const [key, address] of shared) this.constants.set(key, address);
    const constants = new Set(shared.values());
    const rest = owned.filter((address) => !constants.has(address));
    return new PlacedSchedule(
      this.device,
      this.states,
      lowered,
      steps,
      schedule,
      addressOf,
      tables,
      rows,
      rest,
    );
  }
}

function copyIn(bytes: Uint8Array, address: number, data: TensorData): void {
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), address);
}
