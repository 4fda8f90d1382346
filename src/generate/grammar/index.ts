/** Constrained decoding with grammars. */
export { afterThought, callNode, maybeAfterThought, withThought } from './answer.js';
export { Constraint } from './constraint.js';
export { anyObject } from './json.js';
export { choice, literal, type Node, repeat, sequence } from './node.js';
export { schemaNode } from './schema/compiler.js';
export { TokenTree } from './token-tree.js';
export { Work } from './work.js';
