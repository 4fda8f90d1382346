/**
 * Which executor does what. On the CPU ONNX Runtime trains and reads many tokens at once, and kernels of our own (`wasm`) write token by
 * token, where the model fits their memory. A GPU by WebGPU, and `wasm` alone, do everything.
 */
import { availableParallelism } from 'node:os';
import { DeviceError, DeviceLimitError } from '../errors.js';
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

/**
 * Opens a device. Throws `DeviceError` if this machine has none of that name, ONNX Runtime cannot be had, or the number of threads cannot
 * be.
 */
export async function openDevice(name: DeviceName = 'cpu', options: DeviceOptions = {}): Promise<Device> {
  if (name !== 'cpu' && name !== 'webgpu' && name !== 'wasm') {
    throw new DeviceError(`there is no device '${name}': use cpu, wasm or webgpu`);
  }
  const { threads } = options;
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1)) {
    throw new DeviceError(`threads is ${threads}: expected a whole number, 1 or more`);
  }
  if (name === 'wasm') return openWasm(options);
  await loadOnnxRuntime();
  const device = new OrtDevice(name, options);
  if (name === 'cpu') return new CpuDevice(device, options);
  await device.probe();
  return device;
}

function openWasm({ threads = availableParallelism() }: DeviceOptions): WasmDevice {
  return new WasmDevice({ threads });
}

class CpuDevice implements Device {
  readonly name = 'cpu';
  readonly prefersLongRuns: boolean;
  /** Opened for the first model that is to write. */
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

  /** The reader first: while ONNX Runtime packs weights it takes more memory than later, and the writer's need not be there yet. */
  async compileDecoder(programs: DecoderPrograms): Promise<Decoder> {
    const reader = await this.ort.compile(programs.read);
    try {
      const writer = await this.writer(programs.write);
      return writer ? relay(reader, writer) : await this.ort.decoderOf(reader, programs);
    } catch (error) {
      await reader.dispose();
      throw error;
    }
  }

  async dispose(): Promise<void> {
    await this.wasm?.dispose();
    await this.ort.dispose();
  }

  /** Nothing where the kernels cannot run here, or the model does not fit their memory; then somebody is told. */
  private async writer(program: Program): Promise<Executable | undefined> {
    const before = this.wasm;
    try {
      this.wasm ??= openWasm(this.options);
      return await this.wasm.compile(program);
    } catch (error) {
      // Memory that has grown is given back with the device alone.
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
