/**
 * Attention over a long memory on ONNX Runtime's CPU: one head after the other, since the weights of many tokens over all
 * entries are the largest of all values.
 */
import { reshape, sum } from '../../ops/broadcast.js';
import { add, divide, exp, maximum, subtract } from '../../ops/elementwise.js';
import { gather } from '../../ops/indexing.js';
import { transpose } from '../../ops/layout.js';
import { loop } from '../../ops/loop.js';
import { matmul } from '../../ops/matmul.js';
import { max } from '../../ops/reduce.js';
import type { Dim } from '../../shape.js';
import type { Tensor } from '../../tensor.js';

/** Keys and values [batch, keyValueHeads, entries, size], and what is added to their logits. */
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

/** softmax(q k^T + bias) v over all parts together, for scaled queries: [batch, heads, sequence, valueDim]. */
export function attentionByHeads(query: Tensor, parts: readonly MemoryPart[]): Tensor {
  const [batch, heads, sequence, headDim] = query.shape as [Dim, number, Dim, Dim];
  const keyValueHeads = parts[0]!.keys.shape[1] as number;
  const group = heads / keyValueHeads;
  const grouped = reshape(query, [batch, keyValueHeads, group, 1, sequence, headDim]);
  const queries = transpose(grouped, [1, 2, 0, 3, 4, 5]);
  const headsFirst = (x: Tensor): Tensor =>
    transpose(reshape(x, [batch, keyValueHeads, 1, x.shape[2]!, x.shape[3]!]), [1, 0, 2, 3, 4]);
  const memory = parts.map(({ keys, values, ...part }) => {
    return { ...part, keys: headsFirst(keys), values: headsFirst(values) };
  });
  const all = loopOver(keyValueHeads, (head) => {
    const own = memory.map((part) => {
      return { ...part, keys: gather(part.keys, head), values: gather(part.values, head) };
    });
    const sharing = gather(queries, head);
    return loopOver(group, (member) => attendApart(gather(sharing, member), own));
  });
  return reshape(transpose(all, [2, 0, 1, 3, 4, 5]), [batch, heads, sequence, all.shape[5]!]);
}

/** [count, ...]: what `body` makes of each index. */
function loopOver(count: number, body: (index: Tensor) => Tensor): Tensor {
  return loop(count, [], (index) => ({ carried: [], stacked: [body(index)] })).stacked[0]!;
}

/** The softmax over all parts in more operations, but without copies of the logits. */
function attendApart(query: Tensor, parts: readonly MemoryPart[]): Tensor {
  const logits = parts.map((part) => logitsOf(query, part));
  const over = (reduce: typeof max, x: readonly Tensor[]): Tensor[] =>
    x.map((part) => reduce(part, -1, { keepDims: true }));
  const top = over(max, logits).reduce((a, b) => maximum(a, b));
  const shares = logits.map((part) => exp(subtract(part, top)));
  const total = over(sum, shares).reduce((a, b) => add(a, b));
  const mixed = parts.map(({ values }, i) => matmul(shares[i]!, values)).reduce((a, b) => add(a, b));
  return divide(mixed, total);
}
