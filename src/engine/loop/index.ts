/** What still writes by a loop in the graph. */
import { OrtDevice } from '../onnxruntime/device.js';
import type { Device as Opened } from '../program.js';
import type { Device } from './device.js';
import { LoopDevice } from './onnxruntime.js';

export type * from './device.js';
export { joinMemories, splitMemory, takeOut } from './memory.js';

/** The same device, for programs with a loop. */
export function loopDevice(device: Opened): Device {
  return device instanceof OrtDevice
    ? new LoopDevice(device.name, device.options)
    : new LoopDevice('cpu', {});
}
