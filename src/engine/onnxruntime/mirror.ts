/**
 * Keys and values live in JavaScript's memory, so that forks share them. To avoid uploading them for each run, a run on a GPU also leaves
 * its updated copy, the mirror, in GPU memory.
 */
import {
  add,
  and,
  type Dim,
  dimension,
  gather,
  iota,
  less,
  lessOrEqual,
  multiply,
  reshape,
  subtract,
  type Tensor,
  topologicalOrder,
  transpose,
  where,
} from '../../graph/index.js';
import type { StateChange } from '../program.js';

/**
 * The buffers of the growing states after a run, by name, with their unused room; only of states that `values` depend on. `lengths` int64
 * [batch] has the number of entries of each row before the run.
 */
export function mirrorsOf(
  values: Readonly<Record<string, Tensor>>,
  state: readonly StateChange[],
  lengths: Tensor,
): Map<string, Tensor> {
  const used = new Set(topologicalOrder(Object.values(values)));
  const growing = state.filter(({ spec, before }) => spec.grows !== undefined && used.has(before.node));
  return new Map(
    growing.map(({ spec, before, after }) => [spec.name, inserted(before, after, spec.grows!, lengths)]),
  );
}

/** `buffer` with `entries` written from each row's length on along `axis`. The buffer has room for them. */
function inserted(buffer: Tensor, entries: Tensor, axis: number, lengths: Tensor): Tensor {
  const room = buffer.shape[axis]!;
  const count = entries.shape[axis]!;
  // A buffer without a batch axis is one row.
  const batched = axis > 0;
  const rows: Dim = batched ? buffer.shape[0]! : 1;
  const place = subtract(iota(room), reshape(lengths, [rows, 1]));
  const isNew = and(lessOrEqual(0, place), less(place, dimension(count)));
  const firsts = multiply(reshape(iota(rows), [rows, 1]), dimension(count));
  const index = add(where(isNew, place, 0), firsts);
  // [rows, count, ...], flattened to [rows * count, ...] for indexing.
  const others = buffer.shape.map((_, i) => i).filter((i) => i !== axis && !(batched && i === 0));
  const front = [...(batched ? [0] : []), axis, ...others];
  const rest = others.map((i) => buffer.shape[i]!);
  const taken = gather(reshape(transpose(entries, front), [-1, ...rest]), index);
  const spread = batched ? taken : reshape(taken, [room, ...rest]);
  const back = front.map((_, i) => front.indexOf(i));
  const along = buffer.shape.map((_, i): Dim => (i === axis ? room : batched && i === 0 ? rows : 1));
  return where(reshape(isNew, along), transpose(spread, back), buffer);
}
