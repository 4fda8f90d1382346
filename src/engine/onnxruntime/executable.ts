/** A compiled program: one session of ONNX Runtime. */
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-common';
import { DeviceError } from '../../errors.js';
import { input, type OnnxModel, type Shape, toOnnx } from '../../graph/index.js';
import { checkFeeds, checkRows, checkState, type NamedType } from '../check.js';
import { holding } from '../lifetime.js';
import { type Executable, type State, type StateSpec, stateDims } from '../program.js';
import { type HostTensor, hostZeros, int64, type TensorData } from '../tensors.js';
import type { OrtDevice } from './device.js';
import { deviceError } from './errors.js';
import { onnxRuntime } from './loaded.js';
import { type Packing, pack, packingOf, unpack } from './packing.js';
import {
  type Batch,
  type Change,
  changed,
  type DeviceTensor,
  joined,
  newBatch,
  OrtState,
  owned,
  type StateTensor,
  tensorsOf,
} from './state.js';

/** The names of a session's inputs and outputs. */
export interface Layout {
  /** The names of the inputs that are fed. */
  readonly inputs: ReadonlySet<string>;
  readonly outputs: readonly string[];
  readonly state: readonly {
    readonly spec: StateSpec;
    /** The shape of the input, with fixed dimensions as numbers. */
    readonly resolved: Shape;
    /** The names of the outputs with its new value, and with its copy that stays in GPU memory. */
    readonly output?: string;
    readonly mirror?: string;
  }[];
  /** The name of the input with the number of entries of each row. */
  readonly lengths: string;
  /** The outputs that are returned concatenated, as one output. */
  readonly packing: Packing;
  readonly packed: string;
}

/** A program as a session of ONNX Runtime. Its states are inputs and outputs of each run. */
export class OrtExecutable implements Executable {
  /** Bytes of the encoded model, without weights. */
  readonly programBytes: number;
  private readonly types: ReadonlyMap<string, NamedType>;
  /** The types of the inputs that callers feed. */
  private readonly fedTypes: ReadonlyMap<string, NamedType>;
  /** Whether its states have a row for each sequence. */
  private readonly batched: boolean;
  private readonly running = new Set<Promise<unknown>>();
  private ending: Promise<void> | undefined;

  constructor(
    private readonly session: InferenceSession,
    model: OnnxModel,
    private readonly layout: Layout,
    private readonly device: OrtDevice,
  ) {
    this.programBytes = model.bytes.byteLength;
    this.types = new Map(model.inputs.map((type) => [type.name, type]));
    this.fedTypes = new Map([...layout.inputs].map((name) => [name, this.types.get(name)!]));
    this.batched = layout.state.every(({ spec }) => spec.shape[0] === 'batch');
  }

  newState(initial: ReadonlyMap<string, HostTensor> = new Map(), length = 0): State {
    const { state } = this.layout;
    const unknown = [...initial.keys()].find((name) => !state.some(({ spec }) => spec.name === name));
    if (unknown !== undefined) throw new DeviceError(`the program has no state '${unknown}'`);
    const axes = new Map<string, number>();
    const values = state.map(({ spec }) => {
      const { name, grows } = spec;
      const value = initial.get(name) ?? initialValue(spec, length);
      checkState(spec, value, length);
      if (grows !== undefined) axes.set(name, grows);
      return [name, value] as const;
    });
    return new OrtState(this.device, download, newBatch(new Map(values), axes, axes.size > 0 ? length : 0));
  }

  async run(
    feeds: Readonly<Record<string, HostTensor>>,
    rows: readonly State[] = [],
  ): Promise<Record<string, HostTensor>> {
    if (this.ending) throw new DeviceError('this program was disposed of');
    const sizes = new Map<string, number>();
    const inputs = this.fed(feeds, sizes);
    const states = this.expectStates(rows, sizes);
    const run = holding(states, () => this.runWith(inputs, states, sizes));
    this.running.add(run);
    return run.finally(() => this.running.delete(run));
  }

  private async runWith(
    inputs: Map<string, StateTensor>,
    states: readonly OrtState[],
    sizes: ReadonlyMap<string, number>,
  ): Promise<Record<string, HostTensor>> {
    const batch = states.length > 0 ? owned(await joined(states)) : undefined;
    if (batch) this.feedState(batch, inputs);
    let results: InferenceSession.OnnxValueMapType;
    try {
      results = await this.session.run(
        Object.fromEntries([...inputs].map(([name, tensor]) => [name, toOrt(tensor)])),
      );
    } catch (error) {
      throw deviceError(this.device.name, error);
    }
    const { outputs, packing, packed } = this.layout;
    const unpacked = unpack(results[packed] && toHost(results[packed] as OrtTensor), packing, sizes);
    if (batch) {
      const after = changed(batch, this.changes(results, unpacked));
      for (const [row, state] of states.entries()) state.moveTo(after, row);
    }
    return Object.fromEntries(
      outputs.map((name) => [name, unpacked.get(name) ?? toHost(results[name] as OrtTensor)]),
    );
  }

  /** Frees the session after the runs that were enqueued before. */
  dispose(): Promise<void> {
    this.ending ??= Promise.allSettled(this.running).then(() => this.session.release());
    return this.ending;
  }

  /** The feeds, checked; `sizes` collects the sizes of named dimensions. */
  private fed(
    feeds: Readonly<Record<string, HostTensor>>,
    sizes: Map<string, number>,
  ): Map<string, StateTensor> {
    checkFeeds(this.fedTypes, feeds, sizes);
    return new Map(Object.entries(feeds));
  }

  private expectStates(rows: readonly State[], sizes: ReadonlyMap<string, number>): OrtState[] {
    const { state } = this.layout;
    if (state.length === 0) return [];
    checkRows(rows, this.batched, sizes);
    return rows.map((row) => {
      if (!(row instanceof OrtState && row.device === this.device)) {
        throw new DeviceError('a state is of another device: read it, and make one of its values here');
      }
      const missing = state.find(({ spec }) => !row.batch.values.has(spec.name));
      if (missing) throw new DeviceError(`a state has no '${missing.spec.name}': it is of another program`);
      return row;
    });
  }

  /** Adds the states to the inputs. */
  private feedState(batch: Batch, inputs: Map<string, StateTensor>): void {
    for (const [name, tensor] of tensorsOf(batch)) {
      if (this.types.has(name) && !inputs.has(name)) inputs.set(name, tensor);
    }
    const { lengths } = this.layout;
    if (this.types.has(lengths)) inputs.set(lengths, int64(batch.lengths, [batch.lengths.length]));
  }

  /** The changes of the states, from a run's outputs. */
  private changes(
    results: InferenceSession.OnnxValueMapType,
    unpacked: ReadonlyMap<string, HostTensor>,
  ): Map<string, Change> {
    const changes = new Map<string, Change>();
    for (const { spec, output, mirror } of this.layout.state) {
      if (output === undefined) continue;
      const value = unpacked.get(output) ?? toStateTensor(results[output] as OrtTensor);
      if (spec.grows === undefined) {
        changes.set(spec.name, { value });
        continue;
      }
      const left = mirror === undefined ? undefined : new GpuTensor(results[mirror] as OrtTensor);
      changes.set(spec.name, { entries: value as HostTensor, axis: spec.grows, mirror: left });
    }
    return changes;
  }
}

function initialValue(spec: StateSpec, length: number): HostTensor {
  const value = hostZeros(spec.dtype, stateDims(spec, length));
  if (spec.initial !== 0) (value.data as Float32Array).fill(spec.initial);
  return value;
}

/** A value in GPU memory. */
class GpuTensor implements DeviceTensor {
  constructor(readonly tensor: OrtTensor) {}

  get dtype(): HostTensor['dtype'] {
    return this.tensor.type as HostTensor['dtype'];
  }

  get dims(): readonly number[] {
    return this.tensor.dims;
  }

  dispose(): void {
    this.tensor.dispose();
  }
}

/**
 * Downloads values by a program that returns its inputs: ONNX Runtime's own download of a tensor aborts the process on native WebGPU (seen
 * with onnxruntime-node 1.30 on an NVIDIA H200).
 */
async function download(tensors: ReadonlyMap<string, DeviceTensor>): Promise<Map<string, HostTensor>> {
  const inputs = [...tensors].map(([name, { dtype, dims }]) => [name, input(name, dtype, dims)] as const);
  const passed = Object.fromEntries(inputs.map(([name, tensor]) => [passedName(name), tensor]));
  const packing = packingOf(passed);
  const model = toOnnx(pack(passed, packing, PASSED));
  const session = await onnxRuntime().InferenceSession.create(model.bytes, {
    executionProviders: ['webgpu'],
    logSeverityLevel: 3,
  });
  const feeds = [...tensors].map(([name, tensor]) => [name, (tensor as GpuTensor).tensor]);
  const results = await session.run(Object.fromEntries(feeds));
  await session.release();
  const packed = results[PASSED] as OrtTensor | undefined;
  const unpacked = unpack(packed && toHost(packed), packing);
  return new Map(
    [...tensors.keys()].map((name) => {
      const key = passedName(name);
      return [name, unpacked.get(key) ?? toHost(results[key] as OrtTensor)];
    }),
  );
}

/** The name of the output with the concatenated values. */
const PASSED = 'passed';

function passedName(name: string): string {
  return `${PASSED}/${name}`;
}

function toOrt(value: StateTensor): OrtTensor {
  if (value instanceof GpuTensor) return value.tensor;
  const { dtype, data, dims } = value as HostTensor;
  return new (onnxRuntime().Tensor)(dtype as 'float32', data as Float32Array, dims);
}

function toHost(tensor: OrtTensor): HostTensor {
  return { dtype: tensor.type as HostTensor['dtype'], dims: tensor.dims, data: tensor.data as TensorData };
}

function toStateTensor(tensor: OrtTensor): StateTensor {
  return tensor.location === 'gpu-buffer' ? new GpuTensor(tensor) : toHost(tensor);
}
