/**
 * The memory of selective attention: tokens in order of their age, which of them score highest, and which of them each new
 * token sees.
 */
import {
  add,
  addDims,
  and,
  broadcastTo,
  cast,
  concat,
  cumulativeSum,
  type Dim,
  detach,
  equal,
  gatherElements,
  greater,
  greaterOrEqual,
  iota,
  lastDocument,
  less,
  lessOrEqual,
  multiply,
  negate,
  not,
  pad,
  reshape,
  sameDocument,
  slice,
  softplus,
  subtract,
  sum,
  type Tensor,
  topK,
  where,
  zeros,
} from '../../graph/index.js';

/** Low enough that exp() of it is 0 in float32, without the NaN of infinity minus infinity. */
const MASKED = -1e30;

/** Scores of empty places in memory: below any real one. */
export const EMPTY = MASKED;

/** How many of the last tokens are seen, and how many others. */
export interface MemorySize {
  readonly window: number;
  readonly selected: number;
  /** Whether log sigmoid(score) is added to the logits of the window's tokens, too. */
  readonly scoresWindow?: boolean | undefined;
}

/** Tokens in order of their age, oldest first. */
export interface Tokens {
  /** [batch, keyValueHeads, tokens, headDim] */
  readonly keys: Tensor;
  readonly values: Tensor;
  /** [batch, tokens] */
  readonly scores: Tensor;
  /** int64 [batch, tokens], see `MixerContext`: what is remembered has 0. Without it all are of one document. */
  readonly documents?: Tensor | undefined;
}

/** Concatenates lists of tokens along the token axis. */
export function join(parts: readonly Tokens[]): Tokens {
  return {
    keys: concat(
      parts.map(({ keys }) => keys),
      2,
    ),
    values: concat(
      parts.map(({ values }) => values),
      2,
    ),
    scores: concat(
      parts.map(({ scores }) => scores),
      1,
    ),
    ...(parts.some(({ documents }) => documents) && {
      documents: concat(
        parts.map(({ documents, scores }) => documents ?? zeros(scores.shape, 'int64')),
        1,
      ),
    }),
  };
}

/** The tokens from `start` to the end. */
export function from({ keys, values, scores, documents }: Tokens, start: Dim, end: Dim): Tokens {
  return {
    keys: slice(keys, 2, start, end),
    values: slice(values, 2, start, end),
    scores: slice(scores, 1, start, end),
    ...(documents && { documents: slice(documents, 1, start, end) }),
  };
}

/**
 * The `count` highest of scores [batch, tokens], of equal ones those that stand first: their places int64 [batch, count], in the order of
 * their age, so that what a token sees is summed in the same order however a text is cut. No gradient flows through the choice.
 */
export function highest(scores: Tensor, count: number): Tensor {
  const { indices } = topK(detach(scores), count, 1);
  return cast(negate(topK(negate(cast(indices, 'float32')), count, 1).values), 'int64');
}

/** The tokens at places int64 [batch, count]. */
export function pick({ keys, values, scores }: Tokens, places: Tensor): Tokens {
  const [batch, heads, , size] = keys.shape as [Dim, Dim, Dim, Dim];
  const count = places.shape[1]!;
  const each = broadcastTo(reshape(places, [batch, 1, count, 1]), [batch, heads, count, size]);
  return {
    keys: gatherElements(keys, each, 2),
    values: gatherElements(values, each, 2),
    scores: gatherElements(scores, places, 1),
  };
}

/** The tokens, with those of earlier documents marked as empty places. */
export function ofLastDocument(tokens: Tokens): Tokens {
  const { scores, documents } = tokens;
  if (!documents) return tokens;
  return { ...tokens, scores: where(equal(documents, lastDocument(documents)), scores, EMPTY) };
}

/** [batch, 1, sequence, tokens] for new tokens at the end of a memory with these scores [batch, tokens]. */
export function causalBias(
  { scores, documents }: Pick<Tokens, 'scores' | 'documents'>,
  sequence: Dim,
  config: MemorySize,
  hasPast: boolean,
): Tensor {
  const { selected, window } = config;
  const past = hasPast ? selected + window - 1 : 0;
  const tokens = scores.shape[1]!;
  const token = reshape(iota(tokens), [1, tokens]);
  // The place in memory of each new token.
  const own = reshape(add(iota(sequence), past), [sequence, 1]);
  const isOlder = lessOrEqual(token, subtract(own, window));
  const inWindow = and(lessOrEqual(token, own), not(isOlder));

  let bias: Tensor;
  if (selected === 0) {
    bias = where(inWindow, 0, MASKED);
  } else {
    // How many of the first n tokens outscore each, for the n that have left the window of each new token.
    const outscored = documents
      ? multiply(
          outscores(scores),
          sameDocument(reshape(documents, [-1, tokens, 1]), reshape(documents, [-1, 1, tokens])),
        )
      : outscores(scores);
    const running = cumulativeSum(outscored, 1);
    const rank = hasPast
      ? slice(running, 1, selected - 1, addDims(sequence, selected - 1))
      : slice(pad(running, 1, window, 0), 1, 0, sequence);
    const isSelected = and(isOlder, less(rank, selected));
    const counted = selectionBias(scores);
    bias = where(inWindow, config.scoresWindow ? counted : 0, where(isSelected, counted, MASKED));
  }
  if (hasPast) bias = where(reshape(greater(scores, EMPTY / 2), [-1, 1, tokens]), bias, MASKED);
  if (documents) {
    const ownDocuments = reshape(slice(documents, 1, past, addDims(sequence, past)), [-1, sequence, 1]);
    bias = where(equal(ownDocuments, reshape(documents, [-1, 1, tokens])), bias, MASKED);
  }
  return bias.rank === 2 ? bias : reshape(bias, [-1, 1, sequence, tokens]);
}

/** [batch, 1, sequence, sequence]: tokens nearer than the window on both sides, and those of the highest scores. */
export function bidirectionalBias(scores: Tensor, { selected, window, scoresWindow }: MemorySize): Tensor {
  const tokens = scores.shape[1]!;
  const token = reshape(iota(tokens), [1, tokens]);
  const own = reshape(iota(tokens), [tokens, 1]);
  const isNear = and(less(subtract(own, token), window), less(subtract(token, own), window));
  if (selected === 0) return where(isNear, 0, MASKED);
  const isSelected = less(sum(outscores(scores), 1, { keepDims: true }), selected);
  const counted = selectionBias(scores);
  const bias = where(isNear, scoresWindow ? counted : 0, where(isSelected, counted, MASKED));
  return reshape(bias, [-1, 1, tokens, tokens]);
}

/** 1 at [batch, i, j] where token i ranks before token j: a higher score, or the same and earlier. */
function outscores(scores: Tensor): Tensor {
  const [batch, tokens] = scores.shape as [Dim, Dim];
  const fixed = detach(scores);
  const i = reshape(fixed, [batch, tokens, 1]);
  const j = reshape(fixed, [batch, 1, tokens]);
  const earlier = less(reshape(iota(tokens), [tokens, 1]), reshape(iota(tokens), [1, tokens]));
  return where(earlier, cast(greaterOrEqual(i, j), 'float32'), cast(greater(i, j), 'float32'));
}

/** log sigmoid(score): [batch, 1, tokens] */
function selectionBias(scores: Tensor): Tensor {
  return negate(softplus(negate(reshape(scores, [scores.shape[0]!, 1, scores.shape[1]!]))));
}
