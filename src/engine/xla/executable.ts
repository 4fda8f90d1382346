/** A program on XLA: the arguments of its runs, and how states take over their results. */
import { DeviceError } from '../../errors.js';
import {
  elementOfHlo,
  evaluateDim,
  type HloArgument,
  inputName,
  type RowValue,
  type TensorData,
} from '../../graph/index.js';
import { checkFeeds, checkHeld, checkRows, checkState, type NamedType } from '../check.js';
import { holding } from '../lifetime.js';
import type { Executable, Program, State, StateChange, StateSpec } from '../program.js';
import { stateDims } from '../program.js';
import type { LoadedWeights } from '../shared-weights.js';
import { type HostTensor, hostZeros, int64 } from '../tensors.js';
import type { XlaDevice } from './device.js';
import { gather } from './gather.js';
import type { PjrtBuffer } from './pjrt.js';
import { Batch, type KeptValue, ownBatch, XlaState } from './state.js';
import { type Variant, Variants } from './variants.js';
import type { PlacedWeight } from './weights.js';

/** The least room of growing states, in entries. It grows by factors of four, since a program is compiled for each room. */
const LEAST_ROOM = 1024;
const ROOM_GROWTH = 4;

type Feeds = Readonly<Record<string, HostTensor>>;

/** What a run of several texts is told besides. */
export interface RunOptions {
  /** Entries that growing states are to have room for at least. */
  readonly room?: number;
  /** The rows that take part: the lengths of others stay as they are. All by default. */
  readonly taking?: readonly boolean[];
}

/** A program, compiled for each combination of sizes that it is run with (variants.ts). */
export class XlaExecutable implements Executable {
  private readonly types: ReadonlyMap<string, NamedType>;
  private readonly states: readonly StateChange[];
  private readonly isBatched: boolean;
  private readonly variants: Variants;
  /** The initial state, of which new states are forks. */
  private fresh: XlaState | undefined;
  private isDisposed = false;

  constructor(
    private readonly device: XlaDevice,
    private readonly program: Program,
    private readonly weights: LoadedWeights<PlacedWeight>,
  ) {
    const { inputs, state = [], dims = {} } = program;
    this.types = new Map(
      inputs.map((tensor) => {
        const name = inputName(tensor)!;
        return [name, { name, dtype: tensor.dtype, shape: tensor.shape.map((dim) => dims[dim] ?? dim) }];
      }),
    );
    this.states = state;
    this.isBatched = state.every(({ spec }) => spec.shape[0] === 'batch');
    this.variants = new Variants(device, program, weights);
  }

  newState(initial: ReadonlyMap<string, HostTensor> = new Map(), length = 0): State {
    this.expectAlive();
    const unknown = [...initial.keys()].find((name) => !this.states.some(({ spec }) => spec.name === name));
    if (unknown !== undefined) throw new DeviceError(`the program has no state '${unknown}'`);
    const { isGrowing } = this.variants;
    if (initial.size === 0 && (length === 0 || !isGrowing)) {
      this.fresh ??= this.stateOf(initial, 0);
      return this.fresh.fork();
    }
    return this.stateOf(initial, isGrowing ? length : 0);
  }

  private stateOf(initial: ReadonlyMap<string, HostTensor>, length: number): XlaState {
    const room = this.roomOf(length);
    const values = new Map<string, KeptValue>();
    try {
      for (const { spec } of this.states) {
        const given = initial.get(spec.name);
        if (given) checkState(spec, given, length);
        const dims = stateDims(spec, room);
        const { dtype, grows } = spec;
        const row: RowValue = {
          name: spec.name,
          element: elementOfHlo(dtype),
          dims,
          isBatched: spec.shape[0] === 'batch',
          grows,
        };
        const axis = this.device.axisOf(spec.name, dims);
        values.set(spec.name, {
          spec,
          row,
          axis,
          buffers: this.device.upload(withRoom(spec, given, length, dims), dtype, dims, axis),
        });
      }
    } catch (error) {
      for (const { buffers } of values.values()) for (const buffer of buffers) buffer.dispose();
      throw error;
    }
    return new XlaState(this.device, new Batch(1, room, values), 0, length);
  }

  async run(
    feeds: Feeds,
    rows: readonly State[] = [],
    options: RunOptions = {},
  ): Promise<Record<string, HostTensor>> {
    const { variant, outputs } = await this.beginWith(feeds, rows, options);
    const results: Record<string, HostTensor> = {};
    try {
      const made = variant.lowered.results.filter(({ kind }) => kind === 'output');
      await Promise.all(
        made.map(async ({ name, dims }, i) => {
          const { dtype } = this.program.outputs[name]!;
          const tensor = hostZeros(dtype, dims);
          await outputs[i]!.download(tensor.data);
          results[name] = tensor;
        }),
      );
    } finally {
      for (const buffer of outputs) buffer.dispose();
    }
    return results;
  }

  /** The same for the states alone: no output is copied to the host. Resolves when the states are there. */
  async advance(feeds: Feeds, rows: readonly State[], options: RunOptions = {}): Promise<void> {
    const { outputs } = await this.beginWith(feeds, rows, options);
    try {
      await Promise.all(outputs.map((output) => output.ready()));
    } finally {
      for (const buffer of outputs) buffer.dispose();
    }
  }

  /**
   * Generates `steps` tokens of each row in one run: see `Writing` for the program that it needs, and writing.ts for the arguments and
   * results. Returns the arrays of the results. The caller disposes of the logits, and updates the states' lengths.
   */
  async write(
    steps: number,
    feeds: Feeds,
    rows: readonly State[],
  ): Promise<{ tokens: Int32Array; chosen: Float32Array; logits: PjrtBuffer }> {
    this.expectAlive();
    const sizes = new Map<string, number>(Object.entries(this.program.dims ?? {}));
    const states = this.expectStates(rows, sizes);
    sizes.set('places', rows.length);
    const { variant, outputs } = await this.begin(feeds, states, sizes, {}, steps);
    const [tokens, chosen, logits] = outputs as [PjrtBuffer, PjrtBuffer, PjrtBuffer];
    try {
      const [made] = variant.lowered.results.filter(({ kind }) => kind === 'output');
      const size = made!.dims[0]! * made!.dims[1]!;
      const result = { tokens: new Int32Array(size), chosen: new Float32Array(size), logits };
      await Promise.all([tokens.download(result.tokens), chosen.download(result.chosen)]);
      return result;
    } catch (error) {
      logits.dispose();
      throw error;
    } finally {
      tokens.dispose();
      chosen.dispose();
    }
  }

  async prepare(): Promise<void> {
    await this.variants.get(new Map(Object.entries(this.program.dims ?? {})), {
      rows: 1,
      room: this.roomOf(0),
    });
  }

  /** Compiles what `run` runs for so many rows with this room, before anybody asks for it. */
  async prepareRows(rows: number, room: number): Promise<void> {
    const dims = Object.entries(this.program.dims ?? {});
    const sizes = new Map([...dims, ['batch', rows], ['places', rows]] as const);
    await this.variants.get(sizes, { rows, room: this.roomOf(room) });
  }

  /** Compiles the program of `write` for one row in advance. */
  async prepareWriting(steps: number): Promise<void> {
    const sizes = new Map([...Object.entries(this.program.dims ?? {}), ['batch', 1], ['places', 1]] as const);
    await this.variants.get(sizes, { rows: 1, room: this.roomOf(steps) }, steps);
  }

  async dispose(): Promise<void> {
    if (this.isDisposed) return;
    this.isDisposed = true;
    await this.device.exclusively(async () => {
      this.fresh?.dispose();
      await this.variants.dispose();
      this.weights.release();
    });
  }

  private async beginWith(
    feeds: Feeds,
    rows: readonly State[],
    options: RunOptions,
  ): ReturnType<XlaExecutable['start']> {
    this.expectAlive();
    const sizes = new Map(Object.entries(this.program.dims ?? {}));
    checkFeeds(this.types, feeds, sizes);
    return this.begin(feeds, this.expectStates(rows, sizes), sizes, options);
  }

  /** Enqueues a run in order, and keeps the states' values until then. */
  private begin(...run: Parameters<XlaExecutable['start']>): ReturnType<XlaExecutable['start']> {
    return holding(run[1], () => this.device.exclusively(() => this.start(...run)));
  }

  /** Enqueues a run and updates the states. Returns the outputs as buffers of the first device. */
  private async start(
    feeds: Feeds,
    states: readonly XlaState[],
    sizes: ReadonlyMap<string, number>,
    { room = 0, taking }: RunOptions,
    steps?: number,
  ): Promise<{ variant: Variant; outputs: PjrtBuffer[] }> {
    const appended = this.appendedIn(sizes);
    const entries = Math.max(0, ...states.map(({ length }) => length)) + (steps ?? appended);
    const needed = this.variants.isGrowing ? Math.max(entries, room) : 0;
    const changes = this.states.some(({ before, after }) => before !== after);
    let batch: Batch | undefined;
    let variant: Variant;
    do {
      batch = states.length === 0 ? undefined : await this.batchOf(states, needed, changes);
      variant = await this.variants.get(sizes, batch, steps);
      // While a program was compiled, a state may have been forked, which shares its row.
    } while (batch && changes && !ownBatch(states));
    const { lowered, executable } = variant;
    const uploaded: PjrtBuffer[] = [];
    try {
      const perArgument = lowered.arguments.map((argument) => {
        const known = this.heldBuffers(argument, batch);
        if (known) return known;
        const { dtype, data } =
          argument.kind === 'lengths'
            ? int64(
                states.map(({ length }) => length),
                argument.dims,
              )
            : feeds[argument.name]!;
        const buffers = this.device.upload(data, dtype, argument.dims, argument.axis);
        uploaded.push(...buffers);
        return buffers;
      });
      const devices = this.device.count;
      const made = executable.run(
        Array.from({ length: devices }, (_, device) => perArgument.map((buffers) => buffers[device]!)),
      );
      this.moveOn(variant, made, batch);
      // After a run of several tokens, only the results tell how many were generated.
      if (steps === undefined)
        for (const [row, state] of states.entries()) if (taking?.[row] ?? true) state.length += appended;
      const outputs = lowered.results.flatMap(({ kind }, i) => (kind === 'output' ? [i] : []));
      for (const other of made.slice(1)) for (const i of outputs) other[i]!.dispose();
      return { variant, outputs: outputs.map((i) => made[0]![i]!) };
    } finally {
      for (const buffer of uploaded) buffer.dispose();
    }
  }

  private heldBuffers(
    { name, kind }: HloArgument,
    batch: Batch | undefined,
  ): readonly PjrtBuffer[] | undefined {
    if (kind === 'state') return batch!.values.get(name)!.buffers;
    if (kind === 'weight' || kind === 'codes' || kind === 'scales')
      return this.weights.get(name)!.parts[kind]!;
    return undefined;
  }

  /** Replaces the arrays that a run was donated by its results. */
  private moveOn(
    { lowered }: Variant,
    made: readonly (readonly PjrtBuffer[])[],
    batch: Batch | undefined,
  ): void {
    const values = new Map(batch?.values);
    for (const [i, { name, kind }] of lowered.results.entries()) {
      if (kind !== 'state') continue;
      const old = values.get(name)!;
      for (const buffer of old.buffers) buffer.dispose();
      values.set(name, { ...old, buffers: made.map((results) => results[i]!) });
    }
    if (batch) batch.values = values;
  }

  private expectStates(rows: readonly State[], sizes: Map<string, number>): XlaState[] {
    if (this.states.length === 0) return [];
    const count = checkRows(rows, this.isBatched, sizes);
    if (this.isBatched) sizes.set('batch', count);
    return rows.map((row) => {
      if (!(row instanceof XlaState) || row.device !== this.device) {
        throw new DeviceError(
          'the state is another device’s: read it, and make a state of this device from that',
        );
      }
      for (const { spec } of this.states) checkHeld(spec, row.batch.values.get(spec.name));
      return row;
    });
  }

  /** The number of entries that a run of these sizes appends. */
  private appendedIn(sizes: ReadonlyMap<string, number>): number {
    const growing = this.states.find(
      ({ spec, before, after }) => spec.grows !== undefined && before !== after,
    );
    return growing ? evaluateDim(growing.after.shape[growing.spec.grows!]!, sizes) : 0;
  }

  /** Entries that states have room for, where they are to have it for so many. */
  roomOf(entries: number): number {
    if (!this.variants.isGrowing) return 0;
    let room = LEAST_ROOM;
    while (room < entries) room *= ROOM_GROWTH;
    return room;
  }

  /** The states as one batch that has this much room; theirs alone, if the run is to change it. */
  private async batchOf(states: readonly XlaState[], needed: number, changes: boolean): Promise<Batch> {
    const own = ownBatch(states);
    const first = states[0]!.batch;
    if (own && own.room >= needed) return own;
    if (!changes && states.length === 1 && first.rows === 1 && first.room >= needed) return first;
    const room = Math.max(this.roomOf(needed), ...states.map(({ batch }) => batch.room));
    return gather(this.device, states, room);
  }

  private expectAlive(): void {
    if (this.isDisposed) throw new DeviceError('this program was disposed of');
  }
}

/** A state's value with room for entries, or its initial one. */
function withRoom(
  spec: StateSpec,
  given: HostTensor | undefined,
  length: number,
  dims: readonly number[],
): TensorData {
  const { dtype, grows, initial } = spec;
  if (given && grows === undefined) return given.data;
  const { data } = hostZeros(dtype, dims);
  if (initial !== 0 && data instanceof BigInt64Array) data.fill(BigInt(initial));
  else if (initial !== 0) (data as Float32Array).fill(initial);
  if (!given || grows === undefined) return data;
  const inner = dims.slice(grows + 1).reduce((a, b) => a * b, 1);
  const outer = dims.slice(0, grows).reduce((a, b) => a * b, 1);
  const held = given.dims[grows]!;
  for (let i = 0; i < outer; i++) {
    const from = i * held * inner;
    data.set(given.data.subarray(from, from + length * inner) as never, i * dims[grows]! * inner);
  }
  return data;
}
