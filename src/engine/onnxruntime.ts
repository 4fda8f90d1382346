/** Devices on ONNX Runtime: its CPU and WebGPU execution providers. The only file that knows of it. */
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { DeviceError } from '../errors.js';
import { DTYPE_BYTES, input, type OnnxModel, scalar, type Tensor, toOnnx } from '../graph/index.js';
import { checkSizes, checkTensor, checkWeight, type NamedType } from './check.js';
import {
  type Carry,
  type Device,
  type DeviceName,
  type DeviceOptions,
  type Executable,
  type HostTensor,
  hostZeros,
  type Memory,
  type Program,
  type TensorData,
  type Weight,
} from './device.js';
import { planWeights, type WeightPlan } from './weights.js';

/**
 * Fused operators beyond ONNX's own that each execution provider has a kernel for, and those of ONNX's own that not all
 * have right: the CPU's ScatterND adds equal indices from several threads at once, and loses some. Its LinearAttention is
 * slow where every channel is a head.
 */
export const FUSED: Record<DeviceName, ReadonlySet<string>> = {
  cpu: new Set([
    'FusedMatMul',
    'LogSoftmax',
    'QuickGelu',
    'FastGelu',
    'CausalConvWithState',
    'MoE',
    'NonZero',
    'SimplifiedLayerNormalization',
    'SimplifiedLayerNormalization+inverse',
  ]),
  // Its norm has a second output, but does not write it.
  webgpu: new Set([
    'QuickGelu',
    'CausalConvWithState',
    'LinearAttention',
    'ScatterND',
    'SimplifiedLayerNormalization',
  ]),
};

/** Opens a device. Throws `DeviceError` if this machine has none of that name. */
export async function openDevice(name: DeviceName = 'cpu', options: DeviceOptions = {}): Promise<Device> {
  if (name !== 'cpu' && name !== 'webgpu') {
    throw new DeviceError(`there is no device '${name}': use cpu or webgpu`);
  }
  const device = new OrtDevice(name, options);
  if (name === 'webgpu') await device.probe();
  return device;
}

class OrtDevice implements Device {
  readonly copiesCarried: boolean;

  constructor(
    readonly name: DeviceName,
    private readonly options: DeviceOptions,
  ) {
    this.copiesCarried = name === 'cpu';
  }

  /** Fails early, with words, where there is no adapter. */
  async probe(): Promise<void> {
    const executable = await this.compile({ outputs: { one: scalar(1) } });
    await executable.dispose();
  }

  async compile(program: Program): Promise<Executable> {
    const carried = Object.entries(program.carried ?? {});
    const outputs: Record<string, Tensor> = { ...program.outputs };
    for (const [name, carry] of carried) {
      outputs[carriedOutput(name)] = carry.kind === 'replace' ? carry.next : carry.rows;
    }
    const weights = program.weights ?? new Map<string, Weight>();
    const plan = await planWeights(weights);
    const model = toOnnx(outputs, {
      fused: FUSED[this.name],
      dims: program.dims ?? {},
      sizes: program.sizes ?? [],
      weights: plan.sources,
    });
    for (const type of model.weights) checkWeight(type, weights.get(type.name)!);
    const session = await this.createSession(model, plan, carried);
    return new OrtExecutable(session, model, program, this.name);
  }

  private async createSession(
    model: OnnxModel,
    plan: WeightPlan,
    carried: readonly [string, Carry][],
  ): Promise<InferenceSession> {
    const staying = new Set(
      carried.flatMap(([name, carry]) => (carry.kind === 'replace' ? [carriedOutput(name)] : [])),
    );
    const locations = model.outputs.map(
      ({ name }) => [name, staying.has(name) ? 'gpu-buffer' : 'cpu'] as const,
    );
    try {
      return await InferenceSession.create(model.bytes, {
        executionProviders: [this.name],
        logSeverityLevel: 4,
        // Memory planned ahead for a whole run is held beside what the arena already has: a fifth more at the peak of
        // a training step, and no faster.
        enableMemPattern: false,
        ...(this.options.threads !== undefined && { intraOpNumThreads: this.options.threads }),
        ...(plan.handedOver.length > 0 && { externalData: plan.handedOver }),
        ...(plan.root !== undefined && {
          extra: { session: { model_external_initializers_file_folder_path: plan.root } },
        }),
        ...(!this.copiesCarried && { preferredOutputLocation: Object.fromEntries(locations) }),
      });
    } catch (error) {
      throw deviceError(this.name, error);
    }
  }
}

function carriedOutput(name: string): string {
  return `carried/${name}`;
}

function deviceError(device: DeviceName, error: unknown): DeviceError {
  const message = error instanceof Error ? error.message : String(error);
  if (/failed to get a webgpu adapter|no supported adapters/i.test(message)) {
    return new DeviceError(
      'this machine has no WebGPU adapter: use the cpu device, or install a Vulkan, Metal or Direct3D 12 driver',
      { cause: error },
    );
  }
  if (
    /bad_alloc|out of memory|failed to allocate|allocation failed|device lost|exceeds.*limit/i.test(message)
  ) {
    return new DeviceError(
      `the ${device} device is out of memory: use a smaller batch, a shorter sequence or a smaller model`,
      { cause: error },
    );
  }
  return new DeviceError(`the ${device} device failed: ${message}`, { cause: error });
}

class OrtExecutable implements Executable {
  readonly programBytes: number;
  readonly inputs: ReadonlySet<string>;
  private readonly types: ReadonlyMap<string, NamedType>;
  private readonly outputs: readonly string[];
  private readonly carried: Readonly<Record<string, Carry>>;

  constructor(
    private readonly session: InferenceSession,
    model: OnnxModel,
    // Its weights are the session's now: they must not be held twice.
    { outputs, carried = {} }: Program,
    private readonly device: DeviceName,
  ) {
    this.programBytes = model.bytes.byteLength;
    this.types = new Map(model.inputs.map((type) => [type.name, type]));
    this.inputs = new Set(this.types.keys());
    this.outputs = Object.keys(outputs);
    this.carried = carried;
  }

  allocate(initial: ReadonlyMap<string, HostTensor>, length = 0): Memory {
    const values = new Map<string, OrtTensor>();
    for (const [name, carry] of Object.entries(this.carried)) {
      const value = initial.get(name);
      if (!value) throw new DeviceError(`the memory has no initial value for '${name}'`);
      this.check(name, value);
      if (carry.kind === 'append' && length > value.dims[carry.axis]!) {
        throw new DeviceError(
          `'${name}' has ${value.dims[carry.axis]} entries, but ${length} are to be held`,
        );
      }
      const tensor = toOrt(value);
      values.set(name, carry.kind === 'append' ? withRoom(tensor, carry.axis, length, length) : tensor);
    }
    return new OrtMemory(values, this.carried, length);
  }

  async run(
    feeds: Readonly<Record<string, HostTensor>>,
    memory?: Memory,
  ): Promise<Record<string, HostTensor>> {
    const carried = Object.entries(this.carried);
    if (carried.length > 0 && !(memory instanceof OrtMemory)) {
      throw new DeviceError('this program carries values: run it with a memory that it allocated');
    }
    const values = memory instanceof OrtMemory ? memory.values : new Map<string, OrtTensor>();
    for (const [name] of carried) {
      if (!values.has(name)) throw new DeviceError(`the memory holds no '${name}'`);
    }
    const inputs: Record<string, OrtTensor> = {};
    for (const [name, tensor] of values) if (this.inputs.has(name)) inputs[name] = tensor;
    const sizes = new Map<string, number>();
    for (const [name, tensor] of Object.entries(feeds)) {
      this.check(name, tensor, sizes);
      inputs[name] = toOrt(tensor);
    }
    for (const name of this.inputs) {
      if (!inputs[name]) throw new DeviceError(`the input '${name}' was not fed`);
    }
    let results: InferenceSession.OnnxValueMapType;
    try {
      results = await this.session.run(inputs as InferenceSession.FeedsType);
    } catch (error) {
      throw deviceError(this.device, error);
    }
    if (memory instanceof OrtMemory) memory.advance(carried, results as Record<string, OrtTensor>);
    const outputs: Record<string, HostTensor> = {};
    for (const name of this.outputs) outputs[name] = toHost(results[name] as OrtTensor);
    return outputs;
  }

  async dispose(): Promise<void> {
    await this.session.release();
  }

  private check(name: string, tensor: HostTensor, sizes?: Map<string, number>): void {
    const type = this.types.get(name);
    if (!type) throw new DeviceError(`the program has no input '${name}'`);
    checkTensor('input', type, tensor);
    if (sizes) checkSizes(type, tensor, sizes);
  }
}

class OrtMemory implements Memory {
  constructor(
    readonly values: Map<string, OrtTensor>,
    private readonly carried: Readonly<Record<string, Carry>>,
    public length: number,
  ) {}

  get bytes(): number {
    let total = 0;
    for (const tensor of this.values.values())
      total += tensor.size * DTYPE_BYTES[tensor.type as HostTensor['dtype']];
    return total;
  }

  /** Takes over what a run left behind. */
  advance(carried: readonly [string, Carry][], results: Readonly<Record<string, OrtTensor>>): void {
    const growth = carried.flatMap(([name, carry]) =>
      carry.kind === 'append' ? [results[carriedOutput(name)]!.dims[carry.axis]!] : [],
    );
    const added = growth[0] ?? 0;
    if (growth.some((rows) => rows !== added)) {
      throw new DeviceError(`the appended values grew by different numbers of entries: ${growth}`);
    }
    for (const [name, carry] of carried) {
      const result = results[carriedOutput(name)]!;
      const old = this.values.get(name)!;
      if (carry.kind === 'replace') {
        this.values.set(name, result);
        if (old.location === 'gpu-buffer') old.dispose();
      } else {
        const buffer = withRoom(old, carry.axis, this.length, this.length + added);
        writeRows(buffer, result, carry.axis, this.length);
        this.values.set(name, buffer);
      }
    }
    this.length += added;
  }

  async read(names: readonly string[] = [...this.values.keys()]): Promise<Map<string, HostTensor>> {
    const wanted = names.map((name): [string, OrtTensor] => {
      const tensor = this.values.get(name);
      if (!tensor) throw new DeviceError(`the memory holds no '${name}'`);
      return [name, tensor];
    });
    const onDevice = wanted.filter(([, tensor]) => tensor.location === 'gpu-buffer');
    const downloaded = onDevice.length > 0 ? await download(onDevice) : {};
    return new Map(
      wanted.map(([name, tensor]) => {
        const fetched = downloaded[name];
        if (fetched) return [name, toHost(fetched)];
        const carry = this.carried[name]!;
        const host = toHost(carry.kind === 'append' ? cut(tensor, carry.axis, this.length) : tensor);
        return [name, { ...host, data: host.data.slice() as TensorData }];
      }),
    );
  }

  async copy(): Promise<Memory> {
    const values = new Map<string, OrtTensor>();
    for (const [name, value] of await this.read()) {
      const tensor = toOrt(value);
      const carry = this.carried[name]!;
      values.set(
        name,
        carry.kind === 'append' ? withRoom(tensor, carry.axis, this.length, this.length) : tensor,
      );
    }
    return new OrtMemory(values, this.carried, this.length);
  }

  dispose(): void {
    for (const tensor of this.values.values()) if (tensor.location === 'gpu-buffer') tensor.dispose();
    this.values.clear();
  }
}

/**
 * Values that lie on the device, brought back by a program that only passes them on: the runtime's own download of a
 * tensor ends the process on native WebGPU (seen with onnxruntime-node 1.30 on an NVIDIA H200).
 */
async function download(tensors: readonly [string, OrtTensor][]): Promise<Record<string, OrtTensor>> {
  const passed = (name: string): string => `passed/${name}`;
  const model = toOnnx(
    Object.fromEntries(
      tensors.map(([name, { type, dims }]) => [passed(name), input(name, type as HostTensor['dtype'], dims)]),
    ),
  );
  const session = await InferenceSession.create(model.bytes, {
    executionProviders: ['webgpu'],
    logSeverityLevel: 3,
  });
  const results = await session.run(Object.fromEntries(tensors));
  await session.release();
  return Object.fromEntries(tensors.map(([name]) => [name, results[passed(name)] as OrtTensor]));
}

/**
 * Room grows in steps of an eighth, so that little is wasted and moving the entries costs O(1) for each added. It
 * depends on the length alone: a restored memory computes in the same order, bit for bit.
 */
function roomFor(length: number): number {
  const step = Math.max(64, 2 ** Math.floor(Math.log2(Math.max(length, 1)) - 3));
  return Math.max(step, Math.ceil(length / step) * step);
}

/** `tensor`, whose first `length` entries along `axis` are kept, with the room that `needed` entries get. */
function withRoom(tensor: OrtTensor, axis: number, length: number, needed: number): OrtTensor {
  if (tensor.dims[axis] === roomFor(needed)) return tensor;
  const dims = tensor.dims.map((dim, i) => (i === axis ? roomFor(needed) : dim));
  const grown = toOrt(hostZeros(tensor.type as HostTensor['dtype'], dims));
  if (length > 0) writeRows(grown, cut(tensor, axis, length), axis, 0);
  return grown;
}

/** Writes `rows` into `buffer` at entry `start` along `axis`; all other dimensions agree. */
function writeRows(buffer: OrtTensor, rows: OrtTensor, axis: number, start: number): void {
  const inner = rows.dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  const outer = rows.dims.slice(0, axis).reduce((a, b) => a * b, 1);
  const source = rows.data as Float32Array;
  const target = buffer.data as Float32Array;
  const block = rows.dims[axis]! * inner;
  const stride = buffer.dims[axis]! * inner;
  for (let i = 0; i < outer; i++) {
    target.set(source.subarray(i * block, (i + 1) * block), i * stride + start * inner);
  }
}

/** The first `length` entries along `axis`. */
function cut(tensor: OrtTensor, axis: number, length: number): OrtTensor {
  if (tensor.dims[axis] === length) return tensor;
  const dims = tensor.dims.map((dim, i) => (i === axis ? length : dim));
  const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  const outer = dims.slice(0, axis).reduce((a, b) => a * b, 1);
  const source = tensor.data as Float32Array;
  const first = toOrt(hostZeros(tensor.type as HostTensor['dtype'], dims));
  for (let i = 0; i < outer; i++) {
    const from = i * tensor.dims[axis]! * inner;
    (first.data as Float32Array).set(source.subarray(from, from + length * inner), i * length * inner);
  }
  return first;
}

function toOrt({ dtype, data, dims }: HostTensor): OrtTensor {
  return new OrtTensor(dtype as 'float32', data as Float32Array, dims);
}

function toHost(tensor: OrtTensor): HostTensor {
  return { dtype: tensor.type as HostTensor['dtype'], dims: tensor.dims, data: tensor.data as TensorData };
}
