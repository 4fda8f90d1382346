/** Storage formats of models: safetensors, GGUF blocks, quantized matrices; and atomic writing of files and folders. */
export {
  inWords,
  makeFolder,
  recoverFolder,
  streamFileAtomic,
  writeFileAtomic,
  writeFolderAtomic,
} from '#platform';
export { type Float8, isFloat8, widenFloat8 } from './float8.js';
export {
  GGUF_BLOCK,
  GGUF_PACKED,
  ggufRowBytes,
  isBlocks,
  repackGguf,
  widenGguf,
} from './gguf-blocks.js';
export {
  awqCodeAt,
  codeAt,
  expectShape,
  type GroupedIntegers,
  joinPacked,
  type PackedMatrix,
  packGrouped,
  widenGrouped,
} from './grouped-integers.js';
export { parseJson } from './parse-json.js';
export { dequantizeBlocks, type QuantizedBlocks, quantizeBlocks } from './quantize.js';
export * from './safetensors.js';
export { shardsIn } from './shard-index.js';
export { openWeights, type WeightFiles, type WeightInfo } from './weight-files.js';
export { count, inBytes, quote, visible } from './wording.js';
