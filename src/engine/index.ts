/** Devices that run graphs. */
export { openDevice } from '#devices';
export { bytesOfWeight, mostMemoryOn } from './most-memory.js';
export { FUSED } from './onnxruntime/device.js';
export { onnxRuntimeVersion } from './onnxruntime/load.js';
export { disableTelemetry } from './onnxruntime/telemetry.js';
export * from './program.js';
export * from './tensors.js';
export { type StepTime, stepTimes } from './wasm/step-times.js';
export { OutOfDeviceMemory } from './xla/pjrt/errors.js';
