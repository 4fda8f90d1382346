/** A process of its own opens WebGPU, since its driver writes to the process's standard error, and may end it. Prints why it cannot be opened. */
import { DeviceError } from '../errors.js';
import { openDevice } from './devices.js';

try {
  await (await openDevice('webgpu')).dispose();
} catch (error) {
  if (!(error instanceof DeviceError)) throw error;
  process.stdout.write(error.message);
}
