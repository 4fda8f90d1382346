/**
 * Attention over many entries on ONNX Runtime's CPU, in blocks of queries, since the attention weights of many tokens over all entries would
 * be the largest of all values.
 */
import { reshape, sum } from '../../ops/broadcast.js';
import { add, divide, exp, maximum, subtract } from '../../ops/elementwise.js';
import { gather } from '../../ops/indexing.js';
import { concat, slice, transpose } from '../../ops/layout.js';
import { loop } from '../../ops/loop.js';
import { matmul } from '../../ops/matmul.js';
import { max } from '../../ops/reduce.js';
import { addDims, type Dim, divideDimUp, multiplyDims } from '../../shape.js';
import type { Tensor } from '../../tensor.js';

/** Keys and values [batch, keyValueHeads, entries, size], with a bias that is added to the logits. */
export interface MemoryPart {
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly bias?: Tensor | undefined;
}

/** The logits [batch, heads, sequence, entries] of scaled queries [batch, heads, sequence, headDim]. */
export function logitsOf(query: Tensor, { keys, bias }: MemoryPart): Tensor {
  const [batch, heads, sequence, headDim] = query.shape as [Dim, Dim, Dim, Dim];
  const rows = reshape(query, [batch, keys.shape[1]!, -1, headDim]);
  const raw = reshape(matmul(rows, keys, { transposeB: true }), [batch, heads, sequence, keys.shape[2]!]);
  return bias ? add(raw, bias) : raw;
}

/** The most weights of an entry, over all heads and queries of a block: those of all entries are in memory at the same time. */
const WEIGHTS_AT_ONCE = 384;

/** softmax(q k^T + bias) v over all parts together, for scaled queries: [batch, heads, sequence, valueDim]. */
export function attentionInBlocks(query: Tensor, parts: readonly MemoryPart[]): Tensor {
  const [batch, heads, sequence] = query.shape as [Dim, number, Dim, Dim];
  // Each block reads all keys and values, so that a few queries are one block. A power of two divides the usual chunks.
  const rows = 2 ** Math.max(0, Math.floor(Math.log2(WEIGHTS_AT_ONCE / heads)));
  const blocks = divideDimUp(addDims(sequence, 1 - rows), rows);
  const first = multiplyDims([blocks, rows]);
  /** [..., sequence, size] -> [blocks, ..., rows, size] of the whole blocks, and what is left. */
  const inBlocks = (x: Tensor): { whole: Tensor; rest: Tensor } => {
    const outer = x.shape.slice(0, -2);
    const size = x.shape.at(-1)!;
    const axis = outer.length;
    const cut = reshape(slice(x, axis, 0, first), [...outer, blocks, rows, size]);
    const whole = transpose(cut, [axis, ...outer.keys(), axis + 1, axis + 2]);
    return { whole, rest: slice(x, axis, first, sequence) };
  };
  const queries = inBlocks(query);
  const biases = parts.map(({ bias }) => (bias && bias.shape.at(-2) !== 1 ? inBlocks(bias) : undefined));
  const { stacked } = loop(blocks, [], (block) => {
    const own = parts.map((part, i) => ({
      ...part,
      bias: biases[i] ? gather(biases[i].whole, block) : part.bias,
    }));
    return { carried: [], stacked: [attendApart(gather(queries.whole, block), own)] };
  });
  const inOrder = transpose(stacked[0]!, [1, 2, 0, 3, 4]);
  const whole = reshape(inOrder, [batch, heads, first, inOrder.shape[4]!]);
  const last = parts.map((part, i) => ({ ...part, bias: biases[i]?.rest ?? part.bias }));
  return concat([whole, attendApart(queries.rest, last)], 2);
}

/** The softmax over all parts without concatenating their logits: more operations, but no copies. */
function attendApart(query: Tensor, parts: readonly MemoryPart[]): Tensor {
  const [batch, heads, rows] = query.shape as [Dim, number, Dim, Dim];
  const logits = parts.map((part) => logitsOf(query, part));
  const over = (reduce: typeof max, x: readonly Tensor[]): Tensor[] =>
    x.map((part) => reduce(part, -1, { keepDims: true }));
  const top = over(max, logits).reduce((a, b) => maximum(a, b));
  const shares = logits.map((part) => exp(subtract(part, top)));
  const total = over(sum, shares).reduce((a, b) => add(a, b));
  const mixed = parts.map(({ values }, i) => {
    const [, keyValueHeads, entries] = values.shape as [Dim, number, Dim, Dim];
    return matmul(reshape(shares[i]!, [batch, keyValueHeads, -1, entries]), values);
  });
  const output = reshape(
    mixed.reduce((a, b) => add(a, b)),
    [batch, heads, rows, mixed[0]!.shape[3]!],
  );
  return divide(output, total);
}
