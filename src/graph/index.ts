/** Symbolic tensors, their operators and gradients, and their encoding as ONNX. */
export { gradient } from './gradient.js';
export {
  type OnnxModel,
  type OnnxOptions,
  type QuantizedSource,
  toOnnx,
  type WeightPiece,
  type WeightSource,
  type WeightType,
} from './onnx/encode.js';
export * from './ops/arithmetic.js';
export * from './ops/constant.js';
export * from './ops/convolution.js';
export { either, when } from './ops/either.js';
export * from './ops/elementwise.js';
export * from './ops/experts.js';
export * from './ops/indexing.js';
export * from './ops/layout.js';
export { type LoopSteps, loop } from './ops/loop.js';
export * from './ops/matmul.js';
export * from './ops/normalize.js';
export * from './ops/recurrence.js';
export * from './ops/reduce.js';
export * from './ops/selective-scan.js';
export * from './shape.js';
export {
  DTYPE_BYTES,
  type DType,
  input,
  inputName,
  operators,
  scope,
  Tensor,
  type TensorType,
  topologicalOrder,
} from './tensor.js';
