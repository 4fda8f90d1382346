/** Symbolic tensors, their operators and gradients, and their encoding as ONNX. */
export { DTYPES, type DType, fromSafetensors, type TensorData } from './dtype.js';
export { type GradientRule, type GradientRules, gradient } from './gradient.js';
export * from './half.js';
export {
  type OnnxModel,
  type OnnxOptions,
  type QuantizedSource,
  toOnnx,
  type WeightPiece,
  type WeightSource,
} from './lower/onnx/encode.js';
export type { Call } from './lower/stablehlo/builder.js';
export {
  type HloArgument,
  type HloResult,
  type HloWeight,
  type LoweredToHlo,
  lowerToStableHlo,
  type Mesh,
  type Writing,
} from './lower/stablehlo/lower.js';
export {
  copyRows,
  joinRows,
  packRow,
  putRow,
  type RowValue,
  rowDims,
  wholeRows,
} from './lower/stablehlo/rows.js';
export { SAMPLING_SETTINGS } from './lower/stablehlo/sampling.js';
export {
  type Element as HloElement,
  elementOf as elementOfHlo,
  type Precision,
} from './lower/stablehlo/value.js';
export { MOST_STOPS, WRITING_ARGUMENTS } from './lower/stablehlo/writing.js';
export { Element, PAGE_ENTRIES } from './lower/wasm/codes.js';
export { LENGTHS, type Lowered, lowerToWasm } from './lower/wasm/lower.js';
export type { Step, Word } from './lower/wasm/step.js';
export type { Buffer, HeldWeight } from './lower/wasm/value.js';
export * from './ops/activation.js';
export { runningAngles } from './ops/angles.js';
export * from './ops/attention.js';
export { broadcastTo, reshape, sum, sumTo } from './ops/broadcast.js';
export * from './ops/constant.js';
export * from './ops/convolution.js';
export * from './ops/convolution2d.js';
export * from './ops/depth.js';
export { isFirstOfDocument, keptTokens, lastDocument, repeatedEach, sameDocument } from './ops/documents.js';
export * from './ops/elementwise.js';
export * from './ops/entries.js';
export * from './ops/experts.js';
export * from './ops/indexing.js';
export { inverse } from './ops/inverse.js';
export * from './ops/layout.js';
export * from './ops/linear-system.js';
export { type LoopSteps, loop } from './ops/loop.js';
export * from './ops/matmul.js';
export * from './ops/normalize.js';
export * from './ops/recurrence.js';
export * from './ops/reduce.js';
export { type ScanAttributes, scan } from './ops/scan.js';
export * from './ops/selective-scan.js';
export * from './shape.js';
export {
  expansionOf,
  input,
  inputName,
  isComposite,
  isDifferentiable,
  type Node,
  operators,
  scope,
  Tensor,
  type TensorType,
  topologicalOrder,
} from './tensor.js';
