/** Devices that run graphs. */
export * from './device.js';
export { joinMemories, splitMemory, takeOut } from './memory.js';
export { onnxRuntimeVersion } from './onnxruntime/load.js';
export { FUSED, openDevice } from './onnxruntime.js';
