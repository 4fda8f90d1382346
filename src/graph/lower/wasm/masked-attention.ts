/** Attention with a bias that masks entries: sliding windows, and sets of selected tokens. */
import type { WasmBuilder } from './builder.js';
import { Kernel } from './codes.js';
import { transposed } from './operators.js';
import { floatBits, type Word } from './step.js';
import { broadcast, count, type Value, type View } from './value.js';

/** softmax(q k^T * scale + bias) v of [batch, heads, sequence, size], over contiguous entries. */
export function maskedAttentionInWasm(
  builder: WasmBuilder,
  [query, key, value, bias]: readonly [Value, Value, Value, Value],
  scale: number,
): View[] {
  const [batch, heads, sequence, headDim] = query.dims as [number, number, number, number];
  const [, groups, entries, valueDim] = value.dims as [number, number, number, number];
  const rows = [query, key, value].map((operand) => builder.withRows(operand)) as [View, View, View];
  const added = broadcast(builder.contiguous(bias), [batch, heads, sequence, entries]);
  const reads = [...rows, added].map(({ buffer }) => buffer);
  // The heads of a token are contiguous, since they are concatenated next.
  const joined = builder.allocate([batch, sequence, heads, valueDim], 'float32', reads);
  const y = transposed(joined, [0, 2, 1, 3]);
  if (count(joined.dims) === 0) return [y];
  const laid = (view: View, axes: number): Word[] => [
    builder.at(view),
    ...view.strides.slice(0, axes).map((stride) => 4 * stride),
  ];
  builder.step(
    Kernel.maskedAttention,
    [
      ...[batch, heads, groups, sequence, entries, headDim, valueDim, floatBits(scale)],
      ...[...rows, y].flatMap((view) => laid(view, 3)),
      ...laid(added, 4),
    ],
    { reads, writes: [joined.buffer] },
  );
  return [y];
}
