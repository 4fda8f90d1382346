/** Which executor a device is, and what each is used for. */
import { DeviceError } from '../errors.js';
import { OrtDevice } from './onnxruntime/device.js';
import { loadOnnxRuntime } from './onnxruntime/load.js';
import type { Device, DeviceName, DeviceOptions } from './program.js';

/**
 * Opens a device. Throws `DeviceError` if this machine has none of that name, ONNX Runtime cannot be had, or the number of threads cannot
 * be.
 */
export async function openDevice(name: DeviceName = 'cpu', options: DeviceOptions = {}): Promise<Device> {
  if (name !== 'cpu' && name !== 'webgpu') {
    throw new DeviceError(`there is no device '${name}': use cpu or webgpu`);
  }
  const { threads } = options;
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1)) {
    throw new DeviceError(`threads is ${threads}: expected a whole number, 1 or more`);
  }
  await loadOnnxRuntime();
  const device = new OrtDevice(name, options);
  if (name === 'webgpu') await device.probe();
  return device;
}
