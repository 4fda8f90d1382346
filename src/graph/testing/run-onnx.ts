/** Runs an encoded graph as it is. A device would choose the fused operators itself; here the test does. */
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import type { HostTensor } from '../../engine/index.js';
import type { OnnxModel } from '../index.js';
import { type NdArray, toArray } from './arrays.js';

/** Runs an ONNX model once, on one thread of the CPU. */
export async function runOnnx(
  model: OnnxModel,
  feeds: Readonly<Record<string, HostTensor>>,
): Promise<Record<string, NdArray>> {
  const session = await InferenceSession.create(model.bytes, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  const inputs = Object.entries(feeds).map(([name, { dtype, data, dims }]) => [
    name,
    new OrtTensor(dtype as 'float32', data as Float32Array, dims),
  ]);
  const results = await session.run(Object.fromEntries(inputs));
  await session.release();
  const arrays = Object.entries(results).map(([name, { dims, data }]) => [
    name,
    toArray({ dims, data } as HostTensor),
  ]);
  return Object.fromEntries(arrays);
}

/** Whether an encoded graph has nodes of this ONNX type. */
export function contains(model: OnnxModel, opType: string): boolean {
  return Buffer.from(model.bytes).includes(opType);
}
