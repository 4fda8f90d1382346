/** Softmax attention over a memory in parts: what was kept before, and what is new. */
import {
  add,
  concat,
  type Dim,
  divide,
  divideDim,
  exp,
  gather,
  iota,
  less,
  loop,
  matmul,
  max,
  maximum,
  multiply,
  reshape,
  softmax,
  split,
  subtract,
  sum,
  type Tensor,
  transpose,
  where,
} from '../graph/index.js';

export interface MemoryPart {
  /** [batch, keyValueHeads, entries, headDim] */
  readonly keys: Tensor;
  readonly values: Tensor;
  /** Added to the logits: broadcasts to [batch, 1, sequence, entries]. `MASKED` hides an entry. */
  readonly bias?: Tensor | undefined;
}

/** Hides the room behind the `lengths` (int64 [] or [batch]) entries that a growing state holds: float32 [batch or 1, 1, 1, room]. */
export function heldBias(room: Dim, lengths: Tensor): Tensor {
  const isHeld = less(reshape(iota(room), [1, room]), reshape(lengths, [-1, 1]));
  return where(reshape(isHeld, [-1, 1, 1, room]), 0, MASKED);
}

/** Low enough that exp() of it is 0 in float32, without the NaN of infinity minus infinity. */
export const MASKED = -1e30;

export interface AttendOptions {
  readonly watch?: ((weights: Tensor) => void) | undefined;
  readonly headsAtOnce?: boolean | undefined;
}

/**
 * softmax(q k^T * scale + bias) v over all parts together: query [batch, heads, sequence, headDim], consecutive heads
 * sharing a key-value head where there are fewer of those -> [batch, heads, sequence, headDim]. `watch` is told the weights
 * [batch, heads, sequence, entries]; `headsAtOnce` is as in a mixer's context.
 */
export function attend(
  query: Tensor,
  parts: readonly MemoryPart[],
  scale: number,
  { watch, headsAtOnce = false }: AttendOptions = {},
): Tensor {
  const [batch, heads, sequence, headDim] = query.shape as [Dim, number, Dim, number];
  const keyValueHeads = parts[0]!.keys.shape[1] as number;
  const group = divideDim(heads, keyValueHeads) as number;
  const scaled = multiply(query, scale);
  if (watch || headsAtOnce || parts.length === 1 || sequence === 1) {
    return attendAll(scaled, parts, (logits) => together(logits, watch));
  }
  if (keyValueHeads === 1) return attendAll(scaled, parts, apart);
  // One head after the other: the weights of many tokens over a long memory are the largest of all values.
  const grouped = reshape(scaled, [batch, keyValueHeads, group, 1, sequence, headDim]);
  const queries = transpose(grouped, [1, 2, 0, 3, 4, 5]);
  const headsFirst = (x: Tensor): Tensor =>
    transpose(reshape(x, [batch, keyValueHeads, 1, x.shape[2]!, headDim]), [1, 0, 2, 3, 4]);
  const memory = parts.map((part) => ({
    ...part,
    keys: headsFirst(part.keys),
    values: headsFirst(part.values),
  }));
  const all = loopOver(keyValueHeads, (head) => {
    const own = memory.map((part) => ({
      ...part,
      keys: gather(part.keys, head),
      values: gather(part.values, head),
    }));
    const sharing = gather(queries, head);
    return loopOver(group, (member) => attendAll(gather(sharing, member), own, apart));
  });
  return reshape(transpose(all, [2, 0, 1, 3, 4, 5]), [batch, heads, sequence, headDim]);
}

/** [count, ...]: what `body` makes of each index. */
function loopOver(count: number, body: (index: Tensor) => Tensor): Tensor {
  return loop(count, [], (index) => ({ carried: [], stacked: [body(index)] })).stacked[0]!;
}

function attendAll(
  query: Tensor,
  parts: readonly MemoryPart[],
  share: (logits: readonly Tensor[]) => Shares,
): Tensor {
  const [batch, heads, sequence, headDim] = query.shape as [Dim, number, Dim, number];
  const keyValueHeads = parts[0]!.keys.shape[1] as number;
  const group = divideDim(heads, keyValueHeads) as number;
  const rows = reshape(query, [batch, keyValueHeads, -1, headDim]);
  const logits = parts.map(({ keys, bias }) => {
    const entries = keys.shape[2]!;
    const raw = reshape(matmul(rows, keys, { transposeB: true }), [batch, heads, sequence, entries]);
    return bias ? add(raw, bias) : raw;
  });
  const { shares, sums } = share(logits);
  const outputs = parts.map(({ values }, i) => {
    const entries = values.shape[2]!;
    return matmul(reshape(shares[i]!, [batch, keyValueHeads, -1, entries]), values);
  });
  const total = outputs.reduce((sum, part) => add(sum, part));
  const mixed = group === 1 ? total : reshape(total, [batch, heads, sequence, headDim]);
  return sums ? divide(mixed, sums) : mixed;
}

interface Shares {
  /** One of each part. */
  readonly shares: readonly Tensor[];
  /** [batch, heads, sequence, 1]: what they add up to, where that is not 1. */
  readonly sums?: Tensor;
}

function together(logits: readonly Tensor[], watch?: (weights: Tensor) => void): Shares {
  const weights = softmax(concat(logits, -1));
  watch?.(weights);
  const sizes = logits.map(({ shape }) => shape.at(-1)!);
  return { shares: logits.length === 1 ? [weights] : split(weights, -1, sizes) };
}

/** The same in more operations, but without copies of the logits: over a long memory there is nothing larger. */
function apart(logits: readonly Tensor[]): Shares {
  const over = (reduce: typeof max, parts: readonly Tensor[]): Tensor[] =>
    parts.map((part) => reduce(part, -1, { keepDims: true }));
  const top = over(max, logits).reduce((a, b) => maximum(a, b));
  const shares = logits.map((part) => exp(subtract(part, top)));
  return { shares, sums: over(sum, shares).reduce((a, b) => add(a, b)) };
}
