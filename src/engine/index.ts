/** Devices that run graphs. */
export * from './device.js';
export { FUSED, openDevice } from './onnxruntime.js';
