/**
 * Which executor does what. On the CPU, ONNX Runtime trains and prefills, and our WebAssembly kernels decode if the model fits into their
 * memory. The devices `webgpu`, `cuda` and `wasm` do everything with one executor.
 */
import { availableParallelism } from 'node:os';
import { expectOptions } from '../arguments.js';
import { DeviceError, DeviceLimitError } from '../errors.js';
import { askForHugePages } from './advised-memory.js';
import { suitedBuild } from './byte-products.js';
import { chain } from './chain.js';
import { compileAll } from './compile-all.js';
import { OrtDevice } from './onnxruntime/device.js';
import { loadOnnxRuntime } from './onnxruntime/load.js';
import type {
  Decoder,
  DecoderPrograms,
  Device,
  DeviceName,
  DeviceOptions,
  Executable,
  Program,
} from './program.js';
import { relay } from './relay.js';
import { WasmDevice } from './wasm/device.js';
import { XlaDevice } from './xla/device.js';
import { Group } from './xla/group.js';
import { memoryShare } from './xla/memory-share.js';
import { openClient } from './xla/pjrt.js';
import { findPlugin } from './xla/plugin.js';
import { compileCached } from './xla/program-cache.js';

/**
 * Opens a device. Throws `DeviceError` if this machine has no such device, if ONNX Runtime is missing and cannot be fetched, or for an
 * impossible number of threads, and `DataError` for options that are no object.
 */
export async function openDevice(name: DeviceName = 'cpu', options: DeviceOptions = {}): Promise<Device> {
  expectOptions(options);
  if (!DEVICES.includes(name)) {
    throw new DeviceError(`there is no device '${name}': use ${DEVICES.join(', ')}`);
  }
  const { threads } = options;
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1)) {
    throw new DeviceError(`threads is ${threads}: expected a whole number, 1 or more`);
  }
  if (name === 'wasm') return openWasm(options);
  if (name === 'cuda') return openCuda(options);
  await loadOnnxRuntime();
  const device = new OrtDevice(name, options);
  if (name === 'cpu') return new CpuDevice(device, options);
  await device.probe();
  return device;
}

const DEVICES: readonly DeviceName[] = ['cpu', 'wasm', 'webgpu', 'cuda'];

/** XLA's plugin for NVIDIA GPUs; compiled programs are kept on disk. */
async function openCuda({
  precision = 'bfloat16',
  onCompile,
  memoryFraction,
  group: place,
  ...options
}: DeviceOptions): Promise<XlaDevice> {
  const share = memoryShare(memoryFraction);
  const plugin = await findPlugin();
  const group = place && (await Group.meet(place));
  try {
    const client = await openClient(plugin, { ...share, ...(group && { group }) });
    try {
      return new XlaDevice(client, {
        ...options,
        ...(group && { group }),
        precision,
        compile: (on, text, how) => {
          // The processes of a group compile together: one that found the program on disk would be missed.
          if (!group) return compileCached(on, text, how, onCompile && { onCompile });
          onCompile?.();
          return on.compile(text, how);
        },
      });
    } catch (error) {
      client.dispose();
      throw error;
    }
  } catch (error) {
    group?.dispose();
    throw error;
  }
}

function openWasm({ threads = availableParallelism() }: DeviceOptions): WasmDevice {
  return new WasmDevice({ threads, simd: suitedBuild(), prepare: askForHugePages });
}

class CpuDevice implements Device {
  readonly name = 'cpu';
  readonly prefersLongRuns: boolean;
  readonly runsAhead = false;
  /** Opened with the first model that decodes. */
  private wasm: WasmDevice | undefined;
  private told = false;

  constructor(
    private readonly ort: OrtDevice,
    private readonly options: DeviceOptions,
  ) {
    this.prefersLongRuns = ort.prefersLongRuns;
  }

  compile(program: Program): Promise<Executable> {
    return this.ort.compile(program);
  }

  /**
   * Compiles the prefill program first: ONNX Runtime's memory peaks while it packs weights, before the weights of decoding are loaded. The
   * WebAssembly device computes the logits for both, so that the weights of the head are in memory once.
   */
  async compileDecoder(programs: DecoderPrograms): Promise<Decoder> {
    const { write } = programs;
    const fits = await this.attempt((wasm) => wasm.expectRoom(write));
    if (!fits) return this.ort.compileDecoder(programs);
    const layers = await this.ort.compile(programs.layers);
    let own: Executable[] | undefined;
    try {
      own = await this.attempt((wasm) =>
        compileAll(
          () => wasm.compile(write),
          () => wasm.compile(programs.head),
        ),
      );
    } finally {
      if (!own) await layers.dispose();
    }
    if (!own) return this.ort.compileDecoder(programs);
    const [writer, head] = own;
    return relay(chain(layers, head!), writer!);
  }

  async dispose(): Promise<void> {
    await this.wasm?.dispose();
    await this.ort.dispose();
  }

  /** Undefined, after a notice, if the kernels cannot run here or the model does not fit into their memory. */
  private async attempt<T>(use: (wasm: WasmDevice) => T | Promise<T>): Promise<T | undefined> {
    const before = this.wasm;
    try {
      this.wasm ??= openWasm(this.options);
      return await use(this.wasm);
    } catch (error) {
      // WebAssembly memory never shrinks; only disposing of the device frees it.
      if (!before) {
        await this.wasm?.dispose();
        this.wasm = undefined;
      }
      if (!(error instanceof DeviceLimitError)) throw error;
      this.tell(`ONNX Runtime writes, more slowly than kernels of our own would: ${error.message}`);
      return undefined;
    }
  }

  private tell(text: string): void {
    const { notice = warn } = this.options;
    if (!this.told) notice(text);
    this.told = true;
  }
}

function warn(text: string): void {
  process.emitWarning(text, 'HeddleWarning');
}
