/** Translates errors of ONNX Runtime. */
import { DeviceError } from '../../errors.js';
import type { DeviceName } from '../program.js';

/** An error that ONNX Runtime threw, as a `DeviceError` that says what to do. */
export function deviceError(device: DeviceName, error: unknown): DeviceError {
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
