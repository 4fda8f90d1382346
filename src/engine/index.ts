/** Devices that run graphs. */
export * from './device.js';
export { rowOfMemory, stackMemories } from './memory.js';
export { FUSED, openDevice } from './onnxruntime.js';
