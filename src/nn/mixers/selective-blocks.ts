/**
 * Selective attention over a whole sequence of known length in O(n (W + K)), the form that trains: blocks of tokens beside each
 * other, each with what the streaming form would hold before it, the K highest of all tokens older than its window and the last
 * W - 1. The places of the K highest are found from scores alone; no gradient flows through that choice.
 *
 * If a row has several documents, a block starts from the K highest tokens of its first token's document; a document that begins inside the block
 * has all of its tokens there.
 */
import {
  add,
  attention,
  broadcastTo,
  concat,
  type Dim,
  detach,
  equal,
  fill,
  gather,
  gatherElements,
  greater,
  iota,
  lastDocument,
  maximum,
  multiplyDims,
  pad,
  reshape,
  slice,
  split,
  type Tensor,
  transpose,
  where,
  zeros,
} from '../../graph/index.js';
import { causalBias, EMPTY, from, highest, join, type MemorySize, type Tokens } from './selective-memory.js';

/** Tokens of a block, at least: below it products get small and the loop long. */
const FEWEST = 32;
/** More than this many others a block needs not amortize. */
const MOST_AMORTIZED = 128;

/**
 * The tokens of a block for a sequence of this length; undefined where seeing all tokens and masking costs less. What goes on from a past
 * is cut into whole blocks or not at all.
 */
export function blockLength(length: Dim, { window, selected }: MemorySize, past?: Past): number | undefined {
  if (typeof length !== 'number') return undefined;
  const block = Math.max(FEWEST, window, Math.min(selected, MOST_AMORTIZED));
  if (length <= block + selected + window || (past && length % block !== 0)) return undefined;
  return block;
}

/** A sequence, filled up to `count` blocks of `block` tokens. */
interface Grid {
  readonly batch: Dim;
  readonly count: number;
  readonly block: number;
}

/** The memory before the sequence: the K selected tokens and the W - 1 of the window, as far as there are any. */
export interface Past {
  readonly selected?: Tokens | undefined;
  readonly window?: Tokens | undefined;
}

/**
 * What every query [batch, heads, sequence, headDim] reads of the tokens that it sees: [batch, heads, sequence, valueDim]. With a past, whose
 * sequence must be a multiple of the block, also the K tokens that are selected at the end.
 */
export function attendInBlocks(
  query: Tensor,
  tokens: Tokens,
  size: MemorySize,
  block: number,
  scale: number,
  past?: Past,
): { mixed: Tensor; selected?: Tokens } {
  const [batch, heads, length] = query.shape as [Dim, Dim, number];
  const grid = { batch, count: Math.ceil(length / block), block };
  const filling = grid.count * block - length;
  const all = filled(tokens, 0, filling);
  const chosen = size.selected > 0 ? selectedBefore(all, grid, size, past) : undefined;
  const memory = join([
    ...(chosen ? [chosen.before] : []),
    ...(size.window > 1 ? [windowBefore(all, grid, size, past)] : []),
    inBlocks(all, grid),
  ]);
  const { output } = attention(
    {
      query: headsInBlocks(pad(query, 2, 0, filling), grid),
      key: memory.keys,
      value: memory.values,
      bias: causalBias(memory, block, size, true),
    },
    { scale, causal: false },
  );
  const width = output.shape[3]!;
  const apart = transpose(reshape(output, [batch, grid.count, heads, block, width]), [0, 2, 1, 3, 4]);
  const mixed = slice(reshape(apart, [batch, heads, grid.count * block, width]), 2, 0, length);
  return { mixed, ...(chosen?.after && { selected: chosen.after }) };
}

/** x [batch, heads, count * block, size] -> [batch * count, heads, block, size] */
function headsInBlocks(x: Tensor, { batch, count, block }: Grid): Tensor {
  const [, heads, , size] = x.shape as [Dim, Dim, Dim, Dim];
  const apart = transpose(reshape(x, [batch, heads, count, block, size]), [0, 2, 1, 3, 4]);
  return reshape(apart, [multiplyDims([batch, count]), heads, block, size]);
}

function inBlocks({ keys, values, scores, documents }: Tokens, grid: Grid): Tokens {
  return {
    keys: headsInBlocks(keys, grid),
    values: headsInBlocks(values, grid),
    scores: reshape(scores, [-1, grid.block]),
    ...(documents && { documents: reshape(documents, [-1, grid.block]) }),
  };
}

/** Pads the tokens with empty places before and after. */
function filled({ keys, values, scores, documents }: Tokens, before: number, after: number): Tokens {
  return {
    keys: pad(keys, 2, before, after),
    values: pad(values, 2, before, after),
    scores: withEmpty(scores, before, after),
    ...(documents && { documents: pad(documents, 1, before, after) }),
  };
}

function withEmpty(scores: Tensor, before: number, after: number): Tensor {
  const empty = (count: number): Tensor[] => (count > 0 ? [fill([scores.shape[0]!, count], EMPTY)] : []);
  return concat([...empty(before), scores, ...empty(after)], 1);
}

/** The W - 1 tokens before each block, which is no shorter. */
function windowBefore(all: Tokens, grid: Grid, { window }: MemorySize, past: Past | undefined): Tokens {
  const { block, count } = grid;
  const shifted = past?.window
    ? join([filled(past.window, block - window + 1, 0), all])
    : filled(all, block, 0);
  const before = inBlocks(from(shifted, 0, count * block), grid);
  return from(before, block - window + 1, block);
}

/** The K highest of all tokens that have left the window when each block begins; with a past, also when the last one has ended. */
function selectedBefore(
  all: Tokens,
  grid: Grid,
  size: MemorySize,
  past: Past | undefined,
): { before: Tokens; after?: Tokens } {
  const { batch, count } = grid;
  const { selected } = size;
  const of = all.documents && documentsOf(all.documents, grid, past);
  const chosen = placesBefore(all, of, grid, size, past);
  const known = past ? join([past.selected!, ...(past.window ? [past.window] : []), all]) : all;
  const [, heads, tokens, keyDim] = known.keys.shape as [Dim, number, number, number];
  const valueDim = known.values.shape[3] as number;
  // A token's keys, values and score as one row of a table.
  const rowsOf = (x: Tensor): Tensor => transpose(x, [0, 2, 1, 3]);
  const scores = reshape(known.scores, [batch, tokens, 1]);
  const flat = (x: Tensor, width: number): Tensor => reshape(rowsOf(x), [batch, tokens, heads * width]);
  const row = heads * (keyDim + valueDim) + 1;
  const table = concat([flat(known.keys, keyDim), flat(known.values, valueDim), scores], -1);
  const found = gather(table, chosen.places, 1);
  const isHeld = chosen.isHeld;
  /** Those of the blocks `from` to `to - 1`, as batches of their own. */
  const ofBlocks = (first: number, last: number): Tokens => {
    const rows = reshape(slice(found, 1, first, last), [-1, selected, row]);
    const [keys, values, score] = split(rows, -1, [heads * keyDim, heads * valueDim, 1]) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const apart = (x: Tensor, width: number): Tensor =>
      transpose(reshape(x, [-1, selected, heads, width]), [0, 2, 1, 3]);
    const held = reshape(slice(isHeld, 1, first, last), [-1, selected]);
    const stretches = last - first;
    const documents = of && broadcastTo(slice(of, 1, first, last), [batch, stretches, selected]);
    return {
      keys: apart(keys, keyDim),
      values: apart(values, valueDim),
      scores: where(held, reshape(score, [-1, selected]), EMPTY),
      ...(documents && { documents: reshape(documents, [-1, selected]) }),
    };
  };
  return { before: ofBlocks(0, count), ...(past && { after: ofBlocks(count, count + 1) }) };
}

/**
 * The document of which tokens are selected before each block, int64 [batch, count, 1]: that of its first token. With a past one more says
 * which it is at the end, that of the last token.
 */
function documentsOf(documents: Tensor, { batch, count, block }: Grid, past: Past | undefined): Tensor {
  const apart = reshape(documents, [batch, count, block]);
  const first = slice(apart, 2, 0, 1);
  return past ? concat([first, reshape(lastDocument(documents), [batch, 1, 1])], 1) : first;
}

/**
 * For each block, int64 [batch, count, K], in the order of their age: the places of the K highest of the tokens that are older than
 * the window of its first token. `isHeld` tells them from empty places, which say 0. With a past its tokens have the first places, and one
 * more block says what is selected at the end.
 *
 * The tokens held after a block are the highest of all that have left the window so far. This is a prefix scan whose operation is "the K
 * highest of both": each pass doubles the number of blocks that are combined, for all blocks at once. Of documents, those before the one that a block begins with count for nothing: what the
 * blocks before it have selected is of that document, or of one that has ended.
 */
function placesBefore(
  { scores, documents }: Tokens,
  of: Tensor | undefined,
  { batch, count, block }: Grid,
  { window, selected }: MemorySize,
  past: Past | undefined,
): { places: Tensor; isHeld: Tensor } {
  const steps = past ? count + 1 : count;
  // Between the starts of two blocks, as many tokens leave the window as a block has.
  const lead = block + window - 1;
  const before = past?.window
    ? withEmpty(concat([past.window.scores, scores], 1), block, 0)
    : withEmpty(scores, lead, 0);
  let leaving = reshape(slice(detach(before), 1, 0, steps * block), [batch, steps, block]);
  if (documents && of) {
    const remembered = zeros([batch, window - 1], 'int64');
    const all = past?.window
      ? pad(concat([remembered, documents], 1), 1, block, 0)
      : pad(documents, 1, lead, 0);
    const each = reshape(slice(all, 1, 0, steps * block), [batch, steps, block]);
    leaving = where(equal(each, of), leaving, EMPTY);
  }
  const first = (past ? selected + window - 1 : 0) - lead;
  const place = maximum(add(iota(steps * block), first), 0);
  let held = best(
    {
      scores: leaving,
      places: broadcastTo(reshape(place, [1, steps, block]), [batch, steps, block]),
    },
    selected,
  );
  if (past) {
    const remembered = {
      scores: reshape(detach(past.selected!.scores), [batch, 1, selected]),
      places: broadcastTo(reshape(iota(selected), [1, 1, selected]), [batch, 1, selected]),
    };
    held = joined([remembered, held], 1);
  }
  const total = past ? steps + 1 : steps;
  // The remembered tokens belong to document 0.
  const own = of && past ? pad(of, 1, 1, 0) : of;
  for (let shift = 1; shift < total; shift *= 2) {
    const [start, earlier, later] = [
      part(held, 0, shift),
      ofSame(part(held, 0, total - shift), own, shift),
      part(held, shift, total),
    ];
    held = joined([start, best(joined([earlier, later], 2), selected)], 1);
  }
  const { scores: highestScores, places } = part(held, total - steps, total);
  return { places, isHeld: greater(highestScores, EMPTY / 2) };
}

/** Tokens that may be selected, of each of several stretches: [batch, stretches, tokens] in the order of their age. */
interface Candidates {
  readonly scores: Tensor;
  readonly places: Tensor;
}

function joined(parts: readonly Candidates[], axis: number): Candidates {
  return {
    scores: concat(
      parts.map(({ scores }) => scores),
      axis,
    ),
    places: concat(
      parts.map(({ places }) => places),
      axis,
    ),
  };
}

/** Empties the stretches whose document `own` differs from that of the stretch `shift` later. */
function ofSame({ scores, places }: Candidates, own: Tensor | undefined, shift: number): Candidates {
  if (!own) return { scores, places };
  const total = own.shape[1] as number;
  const goesOn = equal(slice(own, 1, 0, total - shift), slice(own, 1, shift, total));
  return { scores: where(goesOn, scores, EMPTY), places };
}

/** The stretches from `start` to `end`. */
function part({ scores, places }: Candidates, start: number, end: number): Candidates {
  return { scores: slice(scores, 1, start, end), places: slice(places, 1, start, end) };
}

/** The `count` highest of each stretch, padded in front with empty places. */
function best({ scores, places }: Candidates, count: number): Candidates {
  const [batch, stretches, tokens] = scores.shape as [Dim, number, number];
  if (tokens <= count) {
    const none = [batch, stretches, count - tokens] as const;
    const empty = { scores: fill(none, EMPTY), places: zeros(none, 'int64') };
    return tokens === count ? { scores, places } : joined([empty, { scores, places }], 2);
  }
  const flat = (x: Tensor): Tensor => reshape(x, [-1, tokens]);
  const chosen = highest(flat(scores), count);
  const pick = (x: Tensor): Tensor => reshape(gatherElements(flat(x), chosen, 1), [batch, stretches, count]);
  return { scores: pick(scores), places: pick(places) };
}
