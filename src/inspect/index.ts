/** Looking inside: what a model does between its tokens. */
export * from './trace.js';
export { decodeTrace, encodeTrace } from './trace-json.js';
