/** Inspection of models: attention matrices, logit lens, attribution. */
export { attributionProgram } from './attribution.js';
export { Inspector, type ReadSourceInputs, type Subject, type TraceOptions } from './inspector.js';
export * from './trace.js';
export { decodeTrace, encodeTrace } from './trace-json.js';
