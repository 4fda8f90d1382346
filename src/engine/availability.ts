/** Which devices this machine has, and why the others cannot be used. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { DeviceError } from '../errors.js';
import { availableOnnxRuntime } from './onnxruntime/load.js';
import { findDriver, missingDriver } from './xla/driver.js';
import { loadKoffi } from './xla/pjrt/koffi.js';
import { openClient } from './xla/pjrt.js';
import { findPlugin } from './xla/plugin.js';

/** Whether a device can be used on this machine. */
export interface Availability {
  readonly name: 'cpu' | 'wasm' | 'webgpu' | 'cuda';
  readonly usable: boolean;
  /** The hardware and library that compute; or why the device cannot be used. */
  readonly detail: string;
  /** What makes it usable. */
  readonly next?: string;
}

/** Checks every device. Downloads nothing but koffi (3 MB), and that only on a machine with an NVIDIA GPU. */
export async function deviceAvailability(): Promise<Availability[]> {
  const cores = availableParallelism();
  const memory = `${gigabytes(totalmem())} of memory`;
  const runtime = availableOnnxRuntime();
  return [
    {
      name: 'cpu',
      usable: true,
      detail: `${cpus()[0]?.model.trim() ?? process.arch}, ${cores} threads, ${memory}; ONNX Runtime ${runtime ?? 'is fetched when it first computes'}`,
    },
    { name: 'wasm', usable: true, detail: `the same in kernels of Heddle's own, up to 4 GB a model` },
    await webgpu(runtime),
    await cuda(),
  ];
}

async function webgpu(runtime: string | undefined): Promise<Availability> {
  const name = 'webgpu';
  if (runtime === undefined) {
    return {
      name,
      usable: false,
      detail: 'not known before ONNX Runtime is there',
      next: 'compute something on the cpu first, which fetches it',
    };
  }
  const why = await whyNoWebGpu();
  if (why !== undefined) return { name, usable: false, detail: why };
  return { name, usable: true, detail: `the GPU by Vulkan, Metal or Direct3D 12; ONNX Runtime ${runtime}` };
}

/** Why WebGPU cannot be opened, found out by a process of its own (webgpu-probe.ts); undefined if it can. */
async function whyNoWebGpu(): Promise<string | undefined> {
  const probe = fileURLToPath(new URL('./webgpu-probe.js', import.meta.url));
  const child = spawn(process.execPath, [probe], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [why, [code, signal]] = await Promise.all([text(child.stdout), once(child, 'close')]);
  if (why !== '') return why;
  return code === 0
    ? undefined
    : `its driver ended a process that opened it (${signal ?? `exit code ${code}`})`;
}

async function cuda(): Promise<Availability> {
  const name = 'cuda';
  const missing = missingDriver();
  if (missing) return { name, usable: false, detail: missing.why, next: missing.todo };
  try {
    const driver = findDriver(await loadKoffi());
    if ('why' in driver) return { name, usable: false, detail: driver.why, next: driver.todo };
    const plugin = await findPlugin();
    const client = await openClient(plugin, { preallocate: false });
    const gpus = client.devices.map((device) => {
      const memory = device.memory();
      return memory ? `${device.kind} (${gigabytes(memory.limit)} for Heddle)` : device.kind;
    });
    const { version } = client;
    client.dispose();
    return {
      name,
      usable: true,
      detail: `${gpus.join(', ')}; driver for CUDA ${driver.cuda}, XLA (${version}) of ${plugin.from}`,
    };
  } catch (error) {
    return { name, usable: false, ...explained(error) };
  }
}

/** The messages of our own errors end with what to do, so they are shown whole. */
function explained(error: unknown): { detail: string } {
  if (!(error instanceof DeviceError)) throw error;
  return { detail: error.message };
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toPrecision(3)} GB`;
}
