/** Models: configs, families, weights, adapters and exports. */

export { copyCompanions } from './companions.js';
export * from './config.js';
export * from './config-file.js';
export { contextLength, servedContext } from './context-length.js';
export { type Conversion, convert } from './convert.js';
export {
  EXPORT_FORMATS,
  type ExportFormat,
  type ExportOptions,
  type ExportPlan,
  planExport,
} from './export.js';
export { ONNX_DESCRIPTION_FILE, ONNX_FILE, type OnnxDescription } from './export-onnx.js';
export { FAMILIES } from './families/index.js';
export { type Fingerprint, fingerprintOf } from './fingerprint.js';
export * from './folder.js';
export { ggufMemory } from './gguf/weights.js';
export * from './hybrid.js';
export { expectLayers, lettersOf, lettersOfLayers, ofLayer } from './layer-letters.js';
export * from './locate.js';
export { type Adapted, type LoraConfig, linearLayers, mergeAdapter, withLora } from './lora.js';
export { openModel, readAdapter, writeAdapter } from './lora-folder.js';
export * from './modalities/index.js';
export * from './model.js';
export * from './names.js';
export * from './pattern.js';
export * from './presets.js';
export {
  codedShapes,
  fittingBlocks,
  LAYER_BITS,
  type LayerBits,
  QUANTIZED_BITS,
  QUANTIZED_BLOCK,
  QUANTIZED_BLOCKS,
  type Quantization,
  quantizable,
  weightBytes,
} from './quantization.js';
export { type SourceConfig, sourcePositions } from './source.js';
export {
  expectNoSource,
  type SourceGiven,
  sourceConfigOf,
  sourcePlaces,
  sourceValues,
} from './source-values.js';
export { type ModelStep, stepOf } from './step.js';
export { type StoredDtype, usedTensors, WEIGHT_DTYPES } from './stored-weights.js';
export * from './write-folder.js';
