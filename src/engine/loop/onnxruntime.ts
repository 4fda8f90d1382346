/** Devices on ONNX Runtime: its CPU and WebGPU execution providers. The only file that knows of it. */
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-common';
import { DeviceError } from '../../errors.js';
import { input, type OnnxModel, type Tensor, toOnnx } from '../../graph/index.js';
import { checkSizes, checkTensor, checkWeight, type NamedType } from '../check.js';
import { FUSED } from '../onnxruntime/device.js';
import { onnxRuntime } from '../onnxruntime/load.js';
import { planWeights, type WeightPlan } from '../onnxruntime/weights.js';
import { type HostTensor, int64, type TensorData, type Weight } from '../tensors.js';
import type {
  Carry,
  Device,
  DeviceName,
  DeviceOptions,
  Executable,
  Memory,
  Part,
  Program,
} from './device.js';
import { allocateMemory, CarriedMemory, type CarriedTensor, type DeviceTensor } from './memory.js';
import { MEMORY_LENGTH, mirrorsOf } from './mirror.js';
import { NO_PACKING, type Packing, pack, packingOf, unpack } from './packing.js';

export class LoopDevice implements Device {
  readonly copiesCarried: boolean;

  constructor(
    readonly name: DeviceName,
    private readonly options: DeviceOptions,
  ) {
    this.copiesCarried = name === 'cpu';
  }

  async compile(program: Program): Promise<Executable> {
    const parts = partsOf(program);
    const outputs: Record<string, Tensor> = {};
    const returned = new Map<string, Returned>();
    const staying = new Set<string>();
    for (const [part, { outputs: given, carried = {} }] of parts) {
      const values: Record<string, Tensor> = {};
      for (const [name, output] of Object.entries(given)) values[outputName(part, name)] = output;
      for (const [name, carry] of Object.entries(carried)) {
        values[carriedName(part, name)] = carry.kind === 'replace' ? carry.next : carry.rows;
        if (carry.kind === 'replace') staying.add(carriedName(part, name));
      }
      const mirrors = this.copiesCarried ? new Map<string, Tensor>() : mirrorsOf(values, carried);
      for (const [name, mirror] of mirrors) {
        values[mirrorName(part, name)] = mirror;
        staying.add(mirrorName(part, name));
      }
      const isFed = (name: string): boolean => !(name in carried);
      const { dims } = program;
      const packing = this.copiesCarried ? NO_PACKING : packingOf(values, { isFed, dims, staying });
      const packed = pack(values, packing, packedName(part));
      returned.set(part, { names: Object.keys(packed), packing, mirrored: [...mirrors.keys()] });
      Object.assign(outputs, packed);
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
    try {
      await plan.prepare();
      const session = await this.createSession(model, plan, staying);
      return new OrtExecutable(session, model, parts, returned, this.name);
    } finally {
      await plan.release();
    }
  }

  /** `staying` are the outputs that stay on the device. */
  private async createSession(
    model: OnnxModel,
    plan: WeightPlan,
    staying: ReadonlySet<string>,
  ): Promise<InferenceSession> {
    const locations = model.outputs.map(
      ({ name }) => [name, staying.has(name) ? 'gpu-buffer' : 'cpu'] as const,
    );
    try {
      return await onnxRuntime().InferenceSession.create(model.bytes, {
        executionProviders: [this.name],
        logSeverityLevel: 4,
        // Memory planned ahead for a whole run is held beside what the arena already has: a fifth more at the peak of
        // a training step, and no faster.
        enableMemPattern: false,
        ...(this.options.threads !== undefined && { intraOpNumThreads: this.options.threads }),
        ...(plan.handedOver.length > 0 && { externalData: plan.handedOver }),
        extra: {
          session: {
            // Products of 8-bit integers must not saturate where the processor has no instruction for them.
            x64quantprecision: '1',
            ...(plan.root !== undefined && { model_external_initializers_file_folder_path: plan.root }),
          },
        },
        ...(!this.copiesCarried && { preferredOutputLocation: Object.fromEntries(locations) }),
      });
    } catch (error) {
      throw deviceError(this.name, error);
    }
  }
}

/** What runs may give back, by name; the program's own last, under no name. */
type Parts = ReadonlyMap<string, Part>;

/** How a part's values come back. */
interface Returned {
  /** Of the model's outputs. */
  readonly names: readonly string[];
  readonly packing: Packing;
  /** Names of appended values that are also left on the device. */
  readonly mirrored: readonly string[];
}

/**
 * Where there are few inner graphs, ONNX Runtime prepares the last first (seen with onnxruntime-node 1.30). Of weights that
 * several graphs use, all of the own part's are then packed, and given back as stored, before the others' add to them.
 */
function partsOf({ outputs, carried = {}, others = {} }: Program): Parts {
  return new Map([...Object.entries(others), ['', { outputs, carried }]]);
}

function outputName(part: string, name: string): string {
  return part === '' ? name : `${part}/${name}`;
}

function carriedName(part: string, name: string): string {
  return outputName(part, `carried/${name}`);
}

function mirrorName(part: string, name: string): string {
  return outputName(part, `mirrored/${name}`);
}

function packedName(part: string): string {
  return outputName(part, 'packed');
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
  /** The names of what each part gives back, and how it changes the memory. */
  private readonly parts: ReadonlyMap<
    string,
    { outputs: string[]; carried: Readonly<Record<string, Carry>> }
  >;

  constructor(
    private readonly session: InferenceSession,
    model: OnnxModel,
    parts: Parts,
    private readonly returned: ReadonlyMap<string, Returned>,
    private readonly device: DeviceName,
  ) {
    this.programBytes = model.bytes.byteLength;
    this.types = new Map(model.inputs.map((type) => [type.name, type]));
    this.inputs = new Set(this.types.keys());
    this.parts = new Map(
      Array.from(parts, ([name, { outputs, carried = {} }]) => [
        name,
        { outputs: Object.keys(outputs), carried },
      ]),
    );
  }

  allocate(initial: ReadonlyMap<string, HostTensor>, length = 0): Memory {
    const { carried } = this.part('');
    for (const [name, carry] of Object.entries(carried)) {
      const value = initial.get(name);
      if (!value) throw new DeviceError(`the memory has no initial value for '${name}'`);
      this.check(name, value);
      if (carry.kind === 'append' && length > value.dims[carry.axis]!) {
        throw new DeviceError(
          `'${name}' has ${value.dims[carry.axis]} entries, but ${length} are to be held`,
        );
      }
    }
    return allocateMemory(carried, initial, length, download);
  }

  async run(
    feeds: Readonly<Record<string, HostTensor>>,
    memory?: Memory,
    other = '',
  ): Promise<Record<string, HostTensor>> {
    const held = memory instanceof CarriedMemory ? memory : undefined;
    const part = this.part(other);
    const carried = Object.keys(part.carried);
    const { names, packing, mirrored } = this.returned.get(other)!;
    if (carried.length > 0 && !held) {
      throw new DeviceError('this program carries values: run it with a memory that it allocated');
    }
    const values = held?.inputs() ?? new Map<string, CarriedTensor>();
    for (const name of carried) {
      if (!values.has(name)) throw new DeviceError(`the memory holds no '${name}'`);
    }
    const inputs: Record<string, OrtTensor> = {};
    for (const [name, tensor] of values) if (this.inputs.has(name)) inputs[name] = toOrt(tensor);
    const sizes = new Map<string, number>();
    for (const [name, tensor] of Object.entries(feeds)) {
      this.check(name, tensor, sizes);
      inputs[name] = toOrt(tensor);
    }
    if (held && this.inputs.has(MEMORY_LENGTH)) inputs[MEMORY_LENGTH] = toOrt(int64([held.length], []));
    for (const name of this.inputs) {
      if (!inputs[name]) throw new DeviceError(`the input '${name}' was not fed`);
    }
    let results: InferenceSession.OnnxValueMapType;
    try {
      results = await this.session.run(inputs as InferenceSession.FeedsType, this.fetched(other));
    } catch (error) {
      throw deviceError(this.device, error);
    }
    const packed = results[packedName(other)] as OrtTensor | undefined;
    const unpacked = unpack(packed && toHost(packed), packing, sizes);
    const left = carried.map((name) => {
      const key = carriedName(other, name);
      return [name, unpacked.get(key) ?? toCarried(results[key] as OrtTensor)] as const;
    });
    const mirrors = mirrored.map((name) => {
      return [name, new GpuTensor(results[mirrorName(other, name)] as OrtTensor)] as const;
    });
    held?.advance(part.carried, new Map(left), new Map(mirrors));
    for (const [name, tensor] of Object.entries(results)) if (!names.includes(name)) tensor.dispose();
    const outputs: Record<string, HostTensor> = {};
    for (const name of part.outputs) {
      const key = outputName(other, name);
      outputs[name] = unpacked.get(key) ?? toHost(results[key] as OrtTensor);
    }
    return outputs;
  }

  async dispose(): Promise<void> {
    await this.session.release();
  }

  /**
   * What a run is to give back. Native WebGPU takes an output that was given back before, and is not asked for now, for one that is
   * to be written in place (seen with onnxruntime-node 1.30): there all is.
   */
  private fetched(part: string): string[] {
    const parts = this.device === 'webgpu' ? [...this.parts.keys()] : [part];
    return parts.flatMap((name) => this.returned.get(name)!.names);
  }

  private part(name: string) {
    const part = this.parts.get(name);
    if (!part) throw new DeviceError(`the program gives back nothing under the name '${name}'`);
    return part;
  }

  private check(name: string, tensor: HostTensor, sizes?: Map<string, number>): void {
    const type = this.types.get(name);
    if (!type) throw new DeviceError(`the program has no input '${name}'`);
    checkTensor('input', type, tensor);
    if (sizes) checkSizes(type, tensor, sizes);
  }
}

/** A value in the memory of the GPU. */
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
 * Values that lie on the device, brought back by a program that only passes them on: the runtime's own download of a
 * tensor ends the process on native WebGPU (seen with onnxruntime-node 1.30 on an NVIDIA H200).
 */
async function download(tensors: ReadonlyMap<string, DeviceTensor>): Promise<Map<string, HostTensor>> {
  const inputs = [...tensors].map(([name, { dtype, dims }]) => [name, input(name, dtype, dims)] as const);
  const passed = Object.fromEntries(inputs.map(([name, tensor]) => [passedName(name), tensor]));
  const packing = packingOf(passed);
  const model = toOnnx(pack(passed, packing, packedName('')));
  const session = await onnxRuntime().InferenceSession.create(model.bytes, {
    executionProviders: ['webgpu'],
    logSeverityLevel: 3,
  });
  const feeds = [...tensors].map(([name, tensor]) => [name, (tensor as GpuTensor).tensor]);
  const results = await session.run(Object.fromEntries(feeds));
  await session.release();
  const packed = results[packedName('')] as OrtTensor | undefined;
  const unpacked = unpack(packed && toHost(packed), packing);
  return new Map(
    [...tensors.keys()].map((name) => {
      const key = passedName(name);
      return [name, unpacked.get(key) ?? toHost(results[key] as OrtTensor)];
    }),
  );
}

function passedName(name: string): string {
  return `passed/${name}`;
}

function toOrt(value: CarriedTensor): OrtTensor {
  if (value instanceof GpuTensor) return value.tensor;
  const { dtype, data, dims } = value as HostTensor;
  return new (onnxRuntime().Tensor)(dtype as 'float32', data as Float32Array, dims);
}

function toHost(tensor: OrtTensor): HostTensor {
  return { dtype: tensor.type as HostTensor['dtype'], dims: tensor.dims, data: tensor.data as TensorData };
}

function toCarried(tensor: OrtTensor): CarriedTensor {
  return tensor.location === 'gpu-buffer' ? new GpuTensor(tensor) : toHost(tensor);
}
