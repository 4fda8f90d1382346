/** Lowering of attention over the pages of growing states. */
import type { AttentionOptions } from '../../ops/attention.js';
import type { WasmBuilder } from './builder.js';
import { Element, Kernel, PAGE_ENTRIES } from './codes.js';
import { transposed } from './operators.js';
import { floatBits, type Word } from './step.js';
import { type Coded, count, type Kept, type Value, type View } from './value.js';

/** Quantized entries of growing states, which attention reads in place; undefined for others. */
export function codedInWasm(codes: Value, scales: Value | undefined): Value[] | undefined {
  if (codes.kind !== 'state' || codes.grows === undefined || (scales && scales.kind !== 'state'))
    return undefined;
  const coded: Value = {
    kind: 'coded',
    dtype: 'float32',
    // Reading the dims makes the schedule depend on the state's buffer size.
    get dims() {
      return codes.dims;
    },
    codes,
    scales,
  };
  return [coded];
}

/** The growing states whose pages hold keys or values; null if they are not such states. */
function pagesOf(past: Value): Pick<Coded, 'codes' | 'scales'> | null {
  if (past.kind !== 'state' && past.kind !== 'coded') return null;
  const pages = past.kind === 'state' ? { codes: past, scales: undefined } : past;
  return pages.codes.grows === 2 && pages.codes.isBatched ? pages : null;
}

/**
 * Causal attention of new tokens over the pages of growing states and over themselves. Undefined if the past is not such a state, and for
 * options that the kernel does not support.
 */
export function attentionInWasm(
  builder: WasmBuilder,
  [query, key, value, bias, pastKeys, pastValues, lengths]: readonly (Value | undefined)[],
  { scale, causal, window = 0, valueSize }: AttentionOptions,
): View[] | undefined {
  if (bias || !causal) return undefined;
  const pasts = [pastKeys, valueSize === undefined ? pastValues : pastKeys].map(
    (past) => past && pagesOf(past),
  );
  if (pasts.includes(null)) return undefined;
  const [batch, heads, sequence, headDim] = query!.dims as [number, number, number, number];
  const groups = key!.dims[1]!;
  const fresh = [query, key, value ?? key].map((operand) => builder.withRows(operand!)) as [View, View, View];
  const held = lengths && builder.contiguous(lengths);
  const reads = [...fresh.map(({ buffer }) => buffer), ...(held ? [held.buffer] : [])];
  // The heads of a token are contiguous, since they are concatenated next.
  const width = valueSize ?? value!.dims[3]!;
  const joined = builder.allocate([batch, sequence, heads, width], 'float32', reads);
  const y = transposed(joined, [0, 2, 1, 3]);
  const apart = (view: View): Word[] => view.strides.slice(0, 3).map((stride) => 4 * stride);
  const table = (state: Kept | undefined): Word => (state ? { state: state.index, side: 'before' } : 0);
  const states = pasts.flatMap((past) => [past?.codes, past?.scales].flatMap((kept) => kept?.index ?? []));
  const isCoded = pasts.some((past) => past && past.codes.dtype !== 'float32');
  const room = isCoded
    ? builder.allocate([builder.threads, PAGE_ENTRIES, Math.max(headDim, width)], 'float32', reads)
    : undefined;
  if (count(joined.dims) === 0) return [y];
  builder.step(
    Kernel.attention,
    [
      batch,
      heads,
      groups,
      sequence,
      headDim,
      floatBits(scale),
      ...fresh.flatMap((view) => [builder.at(view), ...apart(view)]),
      ...pasts.map((past) => table(past?.codes)),
      held ? builder.at(held) : 0,
      held && count(held.dims) > 1 ? 8 : 0,
      builder.at(y),
      ...apart(y),
      window,
      width,
      valueSize === undefined ? width : headDim,
      ...pasts.map((past) => Element[past?.codes.dtype ?? 'float32']),
      ...pasts.map((past) => table(past?.scales)),
      room ? builder.at(room) : 0,
      room ? (4 * count(room.dims)) / builder.threads : 0,
    ],
    {
      reads,
      writes: [joined.buffer, ...(room ? [room.buffer] : [])],
      ...(states.length > 0 && { readsStates: states }),
    },
  );
  return [y];
}
