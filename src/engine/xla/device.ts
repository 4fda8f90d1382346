/** The executor `xla`: lowers programs to StableHLO, which XLA compiles and runs on one or several GPUs. */
import { DeviceError } from '../../errors.js';
import {
  type Call,
  DTYPES,
  type DType,
  type LoweredToHlo,
  type Mesh,
  type Precision,
  type TensorData,
  wholeRows,
} from '../../graph/index.js';
import { checkProgram } from '../check.js';
import { compileAll } from '../compile-all.js';
import type { Decoder, DecoderPrograms, Device, DeviceMemory, Program } from '../program.js';
import { hostZeros } from '../tensors.js';
import { decoderOf, LONG_PIECE, WRITING_STEPS } from './decoder.js';
import { XlaExecutable } from './executable.js';
import { gather } from './gather.js';
import type { Group } from './group.js';
import type { CompileOptions, PjrtBuffer, PjrtClient, PjrtExecutable } from './pjrt.js';
import { ReadingTogether } from './reading-together.js';
import { readRow } from './row-reading.js';
import type { KeptValue, XlaState } from './state.js';
import { Weights } from './weights.js';

/** How programs are compiled and run. */
export interface XlaOptions {
  /** The precision of matrix products. */
  precision: Precision;
  /** Makes runs give the same bits each time, which is slower. */
  deterministic?: boolean;
  /** Devices of this process that train as one; 1 by default. */
  devices?: number;
  /** The processes that train together. */
  group?: Group;
  /** What is sharded: the batch (`data`), or parameters and optimizer moments as well (`full`). */
  shard?: 'data' | 'full';
  /** Tokens that the device generates in one run: 32 by default. */
  writingSteps?: number;
  /** Compiles a module, or loads it from the cache on disk. */
  compile?: (client: PjrtClient, text: string, options: CompileOptions) => Promise<PjrtExecutable>;
}

/** One GPU, or several that run each program together, with those of other processes where there is a group. */
export class XlaDevice implements Device {
  readonly name = 'cuda';
  readonly prefersLongRuns = true;
  readonly runsAhead = true;
  readonly precision: Precision;
  readonly weights: Weights;
  readonly group: Group | undefined;
  /** Devices of this process. */
  readonly count: number;
  /** Devices that run each program, and the number of this process's first among them. */
  private readonly total: number;
  private readonly first: number;
  /** The custom calls that programs may make; cuDNN's are not deterministic. */
  calls: ReadonlySet<Call>;
  /** How several devices share values, where there are some. */
  readonly mesh: Mesh | undefined;
  private readonly helpers = new Map<
    string,
    Promise<{ lowered: LoweredToHlo; executable: PjrtExecutable }>
  >();
  private last: Promise<unknown> = Promise.resolve();

  /** Throws `DeviceError` if there are fewer devices. */
  constructor(
    private readonly client: PjrtClient,
    private readonly options: XlaOptions,
  ) {
    const { precision, devices = 1, shard, group } = options;
    if (devices > client.devices.length) {
      throw new DeviceError(
        `${devices} devices were asked for, and there ${client.devices.length === 1 ? 'is' : 'are'} ${client.devices.length}`,
      );
    }
    this.precision = precision;
    this.group = group;
    this.count = devices;
    this.total = devices * (group?.processes ?? 1);
    this.first = devices * (group?.process ?? 0);
    if (shard !== undefined || this.total > 1) {
      const axisOf = (_: string, dims: readonly number[]): number | undefined =>
        shard === 'full' ? longestWhole(dims, this.total) : undefined;
      this.mesh = { devices: this.total, axisOf };
    }
    const all: readonly Call[] = options.deterministic === true ? ['triton'] : ['triton', 'cudnn'];
    this.calls = new Set(all);
    this.weights = new Weights((data, dtype, dims) => this.upload(data, dtype, dims, undefined), precision);
  }

  async compile(program: Program): Promise<XlaExecutable> {
    checkProgram(program);
    const placed = await this.weights.load(program.weights ?? new Map());
    return new XlaExecutable(this, program, placed);
  }

  async compileDecoder(programs: DecoderPrograms): Promise<Decoder> {
    const [long, short, writer] = await compileAll(
      () => this.compile(programs.readPiece(LONG_PIECE)),
      () => this.compile(programs.read),
      () => this.compile(programs.write),
    );
    const together = new ReadingTogether(programs, (program) => this.compile(program), short!);
    const steps = this.options.writingSteps ?? WRITING_STEPS;
    return decoderOf({ long: long!, short: short! }, writer!, together, steps);
  }

  gpuMemory(): DeviceMemory[] {
    return this.client.devices.slice(0, this.count).map((device) => ({
      kind: device.kind,
      ...(device.memory() ?? { inUse: 0, peak: 0, limit: 0 }),
    }));
  }

  async dispose(): Promise<void> {
    await this.exclusively(async () => this.client.dispose());
    this.group?.dispose();
  }

  /** Compiles a module, or loads it from the cache on disk. */
  load(text: string): Promise<PjrtExecutable> {
    const { deterministic = false, compile = (client, code, options) => client.compile(code, options) } =
      this.options;
    return compile(this.client, text, { partitions: this.total, deterministic });
  }

  /** The axis along which a state is sharded; undefined if it is replicated. */
  axisOf(name: string, dims: readonly number[]): number | undefined {
    return this.mesh?.axisOf(name, dims);
  }

  /** The sharding of a program's arguments: states as this device stores them, inputs as the program allows. */
  meshFor({ spread = {}, state = [] }: Program): { mesh?: Mesh } {
    const { mesh } = this;
    if (!mesh) return {};
    const kept = new Set(state.map(({ spec }) => spec.name));
    const axisOf = (name: string, dims: readonly number[]): number | undefined => {
      if (kept.has(name)) return mesh.axisOf(name, dims);
      const axis = spread[name];
      return axis !== undefined && dims[axis]! % mesh.devices === 0 ? axis : undefined;
    };
    return { mesh: { ...mesh, axisOf } };
  }

  /** Copies an array to all devices of this process, or of its parts along an axis each device's own. */
  upload(data: TensorData, dtype: DType, dims: readonly number[], axis: number | undefined): PjrtBuffer[] {
    const devices = this.client.devices.slice(0, this.count);
    const made: PjrtBuffer[] = [];
    try {
      for (const [i, device] of devices.entries()) {
        if (axis === undefined) made.push(this.client.upload(data, dtype, dims, device));
        else
          made.push(
            this.client.upload(
              partOf(data, dtype, dims, axis, this.first + i, this.total),
              dtype,
              cut(dims, axis, this.total),
              device,
            ),
          );
      }
    } catch (error) {
      for (const buffer of made) buffer.dispose();
      throw error;
    }
    return made;
  }

  /** As `StateReader.read`. */
  async read(
    state: XlaState,
    names: readonly string[],
  ): Promise<{ data: readonly TensorData[]; room: number }> {
    if (!this.mesh) return readRow(this, state, names);
    // The state's row is taken out first, so that the other rows are not copied to the host.
    if (state.batch.rows > 1) await this.exclusively(() => gather(this, [state], state.batch.room));
    const { batch } = state;
    const data = await Promise.all(names.map((name) => this.download(batch.values.get(name)!)));
    return { data, room: batch.room };
  }

  /** Copies a value of a state to the host, as one array. */
  private async download({ row, spec, buffers, axis }: KeptValue): Promise<TensorData> {
    const { data } = hostZeros(spec.dtype, row.dims);
    if (axis === undefined) {
      await buffers[0]!.download(data);
      return data;
    }
    if (this.group) return this.downloadWhole({ row, spec, buffers, axis }, data);
    const dims = cut(row.dims, axis, this.count);
    const parts = await Promise.all(
      buffers.map(async (buffer) => {
        const part = hostZeros(spec.dtype, dims).data;
        await buffer.download(part);
        return part;
      }),
    );
    const inner = dims.slice(axis).reduce((a, b) => a * b, 1);
    for (const [i, part] of parts.entries()) {
      for (let from = 0; from < part.length; from += inner)
        data.set(part.subarray(from, from + inner) as never, from * this.count + i * inner);
    }
    return data;
  }

  /** A value of which this process has a part: the group's devices exchange theirs. */
  private downloadWhole(value: KeptValue, data: TensorData): Promise<TensorData> {
    // In the order of the calls, since all processes have to run the same programs in the same order.
    return this.exclusively(async () => {
      const { executable } = await this.helper('whole', [value], (rows) => wholeRows(rows, this.mesh!));
      const [whole] = this.runHelper(executable, [value.buffers]);
      try {
        await whole![0]!.download(data);
        return data;
      } finally {
        for (const buffer of whole!) buffer.dispose();
      }
    });
  }

  /** Runs a helper. Returns the buffers of each result, one on each device. */
  runHelper(executable: PjrtExecutable, args: readonly (readonly PjrtBuffer[])[]): PjrtBuffer[][] {
    const made = executable.run(
      Array.from({ length: this.count }, (_, device) => args.map((buffers) => buffers[device]!)),
    );
    return made[0]!.map((_, i) => made.map((results) => results[i]!));
  }

  /** A program that copies states, which is compiled once for values of the same shapes. */
  helper(
    what: string,
    values: readonly KeptValue[],
    lower: (rows: readonly KeptValue['row'][]) => LoweredToHlo,
  ): Promise<{ lowered: LoweredToHlo; executable: PjrtExecutable }> {
    const rows = values.map(({ row }) => row);
    const key = JSON.stringify([what, rows]);
    let helper = this.helpers.get(key);
    if (!helper) {
      const lowered = lower(rows);
      helper = this.load(lowered.text).then((executable) => ({ lowered, executable }));
      this.helpers.set(key, helper);
      helper.catch(() => this.helpers.delete(key));
    }
    return helper;
  }

  /** Serializes the enqueueing of runs, without waiting for them to finish. */
  exclusively<T>(run: () => Promise<T>): Promise<T> {
    const result = this.last.then(run);
    this.last = result.catch(() => undefined);
    return result;
  }
}

/** The longest axis that is divisible by the number of parts. */
function longestWhole(dims: readonly number[], parts: number): number | undefined {
  let best: number | undefined;
  for (const [axis, size] of dims.entries()) {
    if (size > 0 && size % parts === 0 && (best === undefined || size > dims[best]!)) best = axis;
  }
  return best;
}

function cut(dims: readonly number[], axis: number, parts: number): number[] {
  return dims.map((size, i) => (i === axis ? size / parts : size));
}

function partOf(
  data: TensorData,
  dtype: DType,
  dims: readonly number[],
  axis: number,
  part: number,
  parts: number,
): TensorData {
  const inner = dims.slice(axis).reduce((a, b) => a * b, 1) / parts;
  const piece = new DTYPES[dtype].array(data.length / parts) as TensorData;
  for (let to = 0; to < piece.length; to += inner) {
    const from = to * parts + part * inner;
    piece.set(data.subarray(from, from + inner) as never, to);
  }
  return piece;
}
