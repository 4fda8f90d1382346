/** Devices that run graphs. */
export * from './device.js';
export { openDevice } from './onnxruntime.js';
