/** Constrained decoding with grammars. */
export { callNode, withThought } from './answer.js';
export { Constraint } from './constraint.js';
export { anyObject } from './json.js';
export { choice, type Node } from './node.js';
export { schemaNode } from './schema/compiler.js';
export { TokenTree } from './token-tree.js';
