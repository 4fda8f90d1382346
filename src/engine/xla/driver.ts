/** Detects NVIDIA's driver and its GPUs without CUDA or XLA, or the reason why there is none. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Koffi, loadLibrary } from './pjrt/koffi.js';

/** NVIDIA's driver, as it is installed. */
export interface Driver {
  /** The newest CUDA that it can run, such as 13.0. */
  readonly cuda: string;
  /** The names of its GPUs. */
  readonly gpus: readonly string[];
}

/** Why no NVIDIA GPU can be used, as a clause of a sentence. */
export interface NoDriver {
  readonly why: string;
  readonly todo: string;
}

/** Results of `cuInit` and others (`CUresult` in cuda.h). */
const NO_DEVICE = 100;

/** Loads the driver's library, which has the same name on all systems, and lists its GPUs. */
export function findDriver(koffi: Koffi, name = 'libcuda.so.1'): Driver | NoDriver {
  let library: ReturnType<Koffi['load']>;
  try {
    library = loadLibrary(koffi, name);
  } catch {
    return withoutDriver();
  }
  try {
    const number = new Int32Array(new ArrayBuffer(4));
    const ask = (prototype: string, ...args: unknown[]): number => library.func(prototype)(...args) as number;
    const init = ask('int cuInit(uint32_t flags)', 0);
    ask('int cuDriverGetVersion(void *version)', number);
    const cuda = `${Math.floor(number[0]! / 1000)}.${Math.floor((number[0]! % 1000) / 10)}`;
    if (init === NO_DEVICE) return noGpu();
    if (init !== 0) {
      return {
        why: `NVIDIA's driver (for CUDA ${cuda}) does not start (cuInit answers ${init})`,
        todo: 'look at what nvidia-smi says; after an update of the driver a restart helps, and in a container the GPU must be passed in',
      };
    }
    ask('int cuDeviceGetCount(void *count)', number);
    const gpus = Array.from({ length: number[0]! }, (_, device) => {
      const name = Buffer.alloc(256);
      ask('int cuDeviceGetName(void *name, int length, int device)', name, name.length, device);
      return name.toString('utf8', 0, name.indexOf(0));
    });
    return gpus.length === 0 ? noGpu() : { cuda, gpus };
  } catch (error) {
    return {
      why: `NVIDIA's driver cannot be asked: ${error instanceof Error ? error.message : error}`,
      todo: 'install the driver anew',
    };
  }
}

/** Why there is no driver, if the device files show that without a call into C; undefined if there may be one. */
export function missingDriver(): NoDriver | undefined {
  if (process.platform !== 'linux') {
    return {
      why: `cuda runs on Linux, and this is ${process.platform}`,
      todo: process.platform === 'win32' ? 'use WSL 2, or --device webgpu' : 'use --device webgpu',
    };
  }
  // The last one is the GPU in WSL 2.
  const files = ['/dev/nvidiactl', '/dev/nvidia0', '/proc/driver/nvidia/version', '/dev/dxg'];
  return files.some((file) => existsSync(file)) ? undefined : withoutDriver();
}

function noGpu(): NoDriver {
  return {
    why: "NVIDIA's driver is here, and sees no GPU",
    todo: 'look at what nvidia-smi says, and at CUDA_VISIBLE_DEVICES; in a container the GPU must be passed in (docker run --gpus all)',
  };
}

/** PCI vendor ids of GPU makers. */
const VENDORS: Readonly<Record<string, string>> = {
  '0x10de': 'NVIDIA',
  '0x1002': 'AMD',
  '0x8086': 'Intel',
};

function withoutDriver(): NoDriver {
  const vendors = gpuVendors();
  if (vendors.includes('NVIDIA')) {
    return {
      why: "this machine has an NVIDIA GPU, and NVIDIA's driver (libcuda.so.1) is not installed",
      todo: 'install the driver, 580 or newer; in a container pass the GPU in (docker run --gpus all)',
    };
  }
  const others = vendors.length > 0 ? `its GPU is ${vendors.join(' and ')}'s` : 'there is none';
  return {
    why: `cuda needs an NVIDIA GPU and its driver (libcuda.so.1), and ${others}`,
    todo: vendors.length > 0 ? 'use --device webgpu' : 'use --device cpu',
  };
}

/** The makers of this machine's GPUs, as far as Linux lists them. */
function gpuVendors(): string[] {
  const cards = '/sys/class/drm';
  try {
    const found = readdirSync(cards).flatMap((card) => {
      if (!/^card\d+$/.test(card)) return [];
      try {
        return [VENDORS[readFileSync(join(cards, card, 'device', 'vendor'), 'utf8').trim()] ?? 'unknown'];
      } catch {
        return [];
      }
    });
    return [...new Set(found)];
  } catch {
    return [];
  }
}
