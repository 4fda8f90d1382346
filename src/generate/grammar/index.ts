/** Texts that have to follow a grammar. */
export { afterThought, callNode, maybeAfterThought } from './answer.js';
export { Constraint, TokenTree } from './constraint.js';
export { anyObject, objectOf } from './json.js';
export { schemaNode } from './json-schema.js';
export { choice, literal, type Node, repeat, sequence } from './node.js';
