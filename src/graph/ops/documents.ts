/**
 * Packed sequences: several documents in one sequence, which must not influence each other. `documents` int64 [batch, sequence] numbers them in
 * order: tokens with 0 continue the given state, and each new document has the next number.
 */
import { addDims, type Dim, multiplyDims } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { broadcastTo, reshape } from './broadcast.js';
import { cast, equal, multiply, not } from './elementwise.js';
import { pad, slice } from './layout.js';

/** Whether each token is the first one of its document: bool [batch, sequence]. */
export function isFirstOfDocument(documents: Tensor): Tensor {
  const before = slice(pad(documents, 1, 1, 0), 1, 0, documents.shape[1]!);
  return not(equal(documents, before));
}

/** The document of the last token: int64 [batch, 1]. */
export function lastDocument(documents: Tensor): Tensor {
  const sequence = documents.shape[1]!;
  return slice(documents, 1, addDims(sequence, -1), sequence);
}

/** Whether documents `a` and `b`, with broadcasting, are equal: float32, 1 or 0. */
export function sameDocument(a: Tensor, b: Tensor | number): Tensor {
  return cast(equal(a, b), 'float32');
}

/** x [batch, sequence, ...] with zeros for tokens where `isKept` float32 [batch, sequence] is 0. */
export function keptTokens(x: Tensor, isKept: Tensor): Tensor {
  return multiply(x, reshape(isKept, [...isKept.shape, ...x.shape.slice(2).map(() => 1)]));
}

/** The documents of sequences with `count` steps for each token: [batch, sequence * count]. */
export function repeatedEach(documents: Tensor, count: number): Tensor {
  const [batch, sequence] = documents.shape as [Dim, Dim];
  const each = broadcastTo(reshape(documents, [batch, sequence, 1]), [batch, sequence, count]);
  return reshape(each, [batch, multiplyDims([sequence, count])]);
}
