/**
 * ONNX Runtime once it is loaded. Apart from load.ts, whose declarations the package exports: those of ONNX Runtime name types of a page, which
 * a project for Node.js alone does not have.
 */
import { DeviceError } from '../../errors.js';

/** The module. */
export type OnnxRuntime = typeof import('onnxruntime-common');

let loaded: OnnxRuntime | undefined;

/** Keeps the loaded module. */
export function keepOnnxRuntime(module: OnnxRuntime): void {
  loaded = module;
}

/** ONNX Runtime, which is loaded once a device exists. */
export function onnxRuntime(): OnnxRuntime {
  if (!loaded) throw new DeviceError('ONNX Runtime is not loaded: open a device first');
  return loaded;
}
