/** Which executor a device is, and what each is used for. */
import { availableParallelism } from 'node:os';
import { DeviceError } from '../errors.js';
import { OrtDevice } from './onnxruntime/device.js';
import { loadOnnxRuntime } from './onnxruntime/load.js';
import type { Device, DeviceName, DeviceOptions } from './program.js';
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
  if (name === 'wasm') return new WasmDevice({ threads: threads ?? availableParallelism() });
  await loadOnnxRuntime();
  const device = new OrtDevice(name, options);
  if (name === 'webgpu') await device.probe();
  return device;
}
