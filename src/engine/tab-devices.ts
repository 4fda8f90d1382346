/** The devices of a browser tab, where our WebAssembly kernels do everything. */
import { availableThreads } from '#platform';
import { DeviceError } from '../errors.js';
import type { Device, DeviceName, DeviceOptions } from './program.js';
import { WasmDevice } from './wasm/device.js';

/** Opens a device; `cpu` means `wasm` here. Throws `DeviceError` for others, and for an impossible number of threads. */
export async function openDevice(name: DeviceName = 'wasm', options: DeviceOptions = {}): Promise<Device> {
  if (name !== 'wasm' && name !== 'cpu') {
    throw new DeviceError(`a browser has no device '${name}': use wasm`);
  }
  const { threads = availableThreads() } = options;
  if (!(Number.isInteger(threads) && threads >= 1)) {
    throw new DeviceError(`threads is ${threads}: expected a whole number, 1 or more`);
  }
  // Threads need shared memory, which only a cross-origin isolated page may use.
  return new WasmDevice({ threads: Math.min(threads, availableThreads()) });
}
