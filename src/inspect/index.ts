/** Looking inside: what a model does between its tokens. */
export { attributionProgram } from './attribution.js';
export { Inspector, type ReadSourceInputs, type Subject, type TraceOptions } from './inspector.js';
export * from './trace.js';
export { decodeTrace, encodeTrace } from './trace-json.js';
