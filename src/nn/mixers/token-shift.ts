/** The shift by a token of RWKV (Peng et al., 2023, arXiv 2305.13048), which mixes each token with the one before it. */
import {
  addDims,
  concat,
  type Dim,
  isFirstOfDocument,
  reshape,
  slice,
  subtract,
  type Tensor,
  where,
  zeros,
} from '../../graph/index.js';

/** Inputs beside those of the token before. */
export interface Shifted {
  /** Of each token the one before less itself: [batch, sequence, width]. */
  readonly change: Tensor;
  /** The last token, to go on from: [batch, 1, width]. */
  readonly last: Tensor;
}

/**
 * The change from x [batch, sequence, width] back to the tokens before, of which `before` [batch, 1, width] comes first, zeros by default.
 * The first token of each of `documents` int64 [batch, sequence] has zeros before it, too.
 */
export function tokenShift(x: Tensor, before: Tensor | undefined, documents: Tensor | undefined): Shifted {
  const [batch, sequence, width] = x.shape as [Dim, Dim, Dim];
  const all = concat([before ?? zeros([batch, 1, width]), x], 1);
  const earlier = slice(all, 1, 0, sequence);
  const isFirst = documents && reshape(isFirstOfDocument(documents), [batch, sequence, 1]);
  return {
    change: subtract(isFirst ? where(isFirst, 0, earlier) : earlier, x),
    last: slice(all, 1, sequence, addDims(sequence, 1)),
  };
}
