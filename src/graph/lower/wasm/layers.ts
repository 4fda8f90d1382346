/** Lowerings of composite operators with kernels of their own. */
import type { AttentionOptions } from '../../ops/attention.js';
import type { CompleteScan } from '../../ops/scan.js';
import type { Node, Tensor } from '../../tensor.js';
import type { WasmBuilder } from './builder.js';
import { Element, Instruction, Kernel, PAGE_ENTRIES } from './codes.js';
import { around, computed, concatInWasm, matmulInWasm, narrowed, part, transposed } from './operators.js';
import { floatBits, type Word } from './step.js';
import {
  type Buffer,
  type Coded,
  count,
  ELEMENT_BYTES,
  type Kept,
  reshaped,
  type Value,
  type View,
} from './value.js';

/** Softmax along the last axis. */
export function softmaxInWasm(builder: WasmBuilder, input: Value, isLog: boolean): View {
  const x = builder.contiguous(input);
  const to = builder.allocate(x.dims, 'float32', [x.buffer]);
  const size = x.dims.at(-1)!;
  if (count(x.dims) === 0) return to;
  const words = [count(x.dims) / size, size, builder.at(x), builder.at(to), isLog ? 1 : 0];
  builder.step(Kernel.softmax, words, { reads: [x.buffer], writes: [to.buffer] });
  return to;
}

/** Cumulative sums along an axis. */
export function cumulativeInWasm(builder: WasmBuilder, input: Value, axis: number, isReverse: boolean): View {
  const x = builder.contiguous(computed(builder, input));
  const to = builder.allocate(x.dims, x.dtype, [x.buffer]);
  const words = [x.element, builder.at(x), builder.at(to), ...around(x.dims, axis), isReverse ? 1 : 0];
  if (count(x.dims) > 0) builder.step(Kernel.cumulative, words, { reads: [x.buffer], writes: [to.buffer] });
  return narrowed(builder, to, input.dtype);
}

/** `gatherElements` along an axis: indices have the result's shape. */
export function gatherElementsInWasm(builder: WasmBuilder, input: Value, indices: Value, axis: number): View {
  const x = builder.contiguous(input);
  const places = builder.contiguous(indices);
  const to = builder.allocate(places.dims, x.dtype, [x.buffer, places.buffer]);
  if (count(to.dims) === 0) return to;
  const [outer, size, inner] = around(x.dims, axis);
  builder.step(
    Kernel.gatherElements,
    [
      ELEMENT_BYTES[x.element],
      builder.at(x),
      builder.at(places),
      places.element,
      builder.at(to),
      outer,
      size,
      places.dims[axis]!,
      inner,
    ],
    { reads: [x.buffer, places.buffer], writes: [to.buffer] },
  );
  return to;
}

/** A copy of the input in which updates are added at the indices along an axis. */
export function scatterElementsInWasm(
  builder: WasmBuilder,
  [input, indices, updates]: readonly [Value, Value, Value],
  axis: number,
): View {
  const [x, places, added] = [computed(builder, input), indices, computed(builder, updates)].map((value) =>
    builder.contiguous(value),
  ) as [View, View, View];
  const reads = [x.buffer, places.buffer, added.buffer];
  const to = builder.allocate(x.dims, x.dtype, reads);
  if (count(to.dims) === 0) return narrowed(builder, to, input.dtype);
  const [outer, size, inner] = around(x.dims, axis);
  builder.step(
    Kernel.scatterElements,
    [
      x.element,
      builder.at(x),
      builder.at(places),
      places.element,
      builder.at(added),
      builder.at(to),
      outer,
      size,
      places.dims[axis]!,
      inner,
    ],
    { reads, writes: [to.buffer] },
  );
  return narrowed(builder, to, input.dtype);
}

/** The k largest values along an axis, the largest first, and their int64 indices. */
export function topKInWasm(builder: WasmBuilder, input: Value, k: number, axis: number): View[] {
  const x = builder.contiguous(computed(builder, input));
  const dims = x.dims.map((dim, i) => (i === axis ? k : dim));
  const values = builder.allocate(dims, 'float32', [x.buffer]);
  const indices = builder.allocate(dims, 'int64', [x.buffer]);
  if (count(dims) === 0) return [narrowed(builder, values, input.dtype), indices];
  const heaps = builder.allocate([builder.threads, k, 2], 'float32', [x.buffer]);
  const words = [
    builder.at(x),
    builder.at(values),
    builder.at(indices),
    ...around(x.dims, axis),
    k,
    builder.at(heaps),
    8 * k,
  ];
  const writes = [values.buffer, indices.buffer, heaps.buffer];
  builder.step(Kernel.topK, words, { reads: [x.buffer], writes });
  return [narrowed(builder, values, input.dtype), indices];
}

/** Operands [batch, sequence, size] as words, and the buffers that they read. */
export function tokenOperands(builder: WasmBuilder, values: readonly (Value | undefined)[]) {
  const views = values.map((value) => value && builder.withRows(value));
  return {
    views,
    words: views.flatMap((view): Word[] => (view ? builder.tokens(view) : [0, 0, 0])),
    reads: views.flatMap((view) => (view ? [view.buffer] : [])),
  };
}

/** The state before the run, if there is one, as a table of rows. */
export function statesBefore(builder: WasmBuilder, state: Value | undefined) {
  return state ? builder.rowsOf(state) : { word: 0, reads: [] as Buffer[] };
}

/** The linear recurrence with any update rule, token by token. */
export function recurrenceInWasm(
  builder: WasmBuilder,
  [query, key, value, gate, state, beta, find, remove]: readonly (Value | undefined)[],
  { outputs }: Node<unknown>,
  heads: { query: number; key: number; value: number },
): Value[] {
  const [output, after] = outputs as readonly [Tensor, Tensor];
  const [batch, sequence] = value!.dims as [number, number];
  const keySize = query!.dims[2]! / heads.query;
  const valueSize = value!.dims[2]! / heads.value;
  const operands = tokenOperands(builder, [query, key, value, gate, beta, find, remove]);
  const before = statesBefore(builder, state);
  const reads = [...operands.reads, ...before.reads];
  const to = builder.rowsTo(after, reads);
  const y = builder.allocate(builder.dims(output.shape), 'float32', reads);
  const gates = gate ? (gate.dims[2] === heads.value ? 1 : 2) : 0;
  builder.step(
    Kernel.recurrence,
    [
      batch,
      sequence,
      heads.value,
      heads.query,
      heads.key,
      keySize,
      valueSize,
      gates,
      ...operands.words,
      before.word,
      to.word,
      builder.at(y),
    ],
    {
      reads,
      writes: [y.buffer, ...to.writes],
      ...stateUse(before, to),
      ...(sequence === 1 && {
        share: { length: count(y.dims), unit: valueSize, along: [operands.views[2]!] },
      }),
    },
  );
  return [y, to.value];
}

/** The fields of a step for the states that it reads and writes. */
export function stateUse(before: { readsStates?: number[] }, to: { writesStates?: number[] }) {
  return {
    ...(before.readsStates && { readsStates: before.readsStates }),
    ...(to.writesStates && { writesStates: to.writesStates }),
  };
}

/** Channels that a thread processes together; see kernels/scan.ts and kernels/convolution.ts. */
const CHANNELS = 16;

/** The partition of [batch, sequence, channels] over threads, for one token of each row. */
function channelShare(y: View, along: readonly View[]) {
  const isEven = y.dims[1] === 1 && y.dims[2]! % CHANNELS === 0;
  return isEven ? { share: { length: count(y.dims), unit: CHANNELS, along } } : {};
}

/** The linear scan over states, unrolled. */
export function linearScanInWasm(
  builder: WasmBuilder,
  [transition, added, initial]: readonly (Value | undefined)[],
  { product, reverse, axis }: CompleteScan,
): View[] {
  const [a, b] = [builder.view(transition!), builder.view(added!)];
  const steps = b.dims[axis]!;
  let state = builder.view(initial!);
  const states = builder.allocate(b.dims, 'float32', [a.buffer, b.buffer, state.buffer]);
  for (let i = 0; i < steps; i++) {
    const n = reverse ? steps - 1 - i : i;
    const [moving, entering, place] = [a, b, states].map((view): View => {
      const { dims, strides, ...step } = part(view, axis, n, 1);
      const others = (sizes: readonly number[]): number[] => sizes.filter((_, i) => i !== axis);
      return { ...step, dims: others(dims), strides: others(strides) };
    }) as [View, View, View];
    builder.store(place, state, 'scan');
    const moved =
      product === 'elements'
        ? builder.map(Instruction.multiplyF, 'float32', [moving, state])
        : product === 'complex'
          ? complexInWasm(builder, moving, state)
          : matmulInWasm(builder, moving, state, {
              transposeA: product === 'transposed',
              transposeB: false,
            });
    state = builder.map(Instruction.addF, 'float32', [moved, entering]);
  }
  return [states, state];
}

/** The product of complex numbers, with real and imaginary parts along the first axis. */
function complexInWasm(builder: WasmBuilder, a: View, b: View): View {
  const [aRe, aIm, bRe, bIm] = [part(a, 0, 0, 1), part(a, 0, 1, 1), part(b, 0, 0, 1), part(b, 0, 1, 1)];
  const of = (instruction: Instruction, ...operands: View[]): View =>
    builder.map(instruction, 'float32', operands);
  const { multiplyF, subtractF, addF } = Instruction;
  const re = of(subtractF, of(multiplyF, aRe, bRe), of(multiplyF, aIm, bIm));
  const im = of(addF, of(multiplyF, aRe, bIm), of(multiplyF, aIm, bRe));
  return concatInWasm(builder, [re, im], 0);
}

/** Mamba's selective scan, token by token. */
export function scanInWasm(
  builder: WasmBuilder,
  [value, step, rate, key, query, state]: readonly (Value | undefined)[],
  { outputs }: Node<unknown>,
): Value[] {
  const [output, after] = outputs as readonly [Tensor, Tensor];
  const [batch, sequence, width] = value!.dims as [number, number, number];
  const operands = tokenOperands(builder, [value, step, key, query]);
  const rates = builder.contiguous(transposed(builder.view(rate!), [1, 0]));
  const before = statesBefore(builder, state);
  const reads = [...operands.reads, rates.buffer, ...before.reads];
  const to = builder.rowsTo(after, reads);
  const y = builder.allocate(builder.dims(output.shape), 'float32', reads);
  builder.step(
    Kernel.scan,
    [
      batch,
      sequence,
      width,
      rates.dims[0]!,
      ...operands.words,
      builder.at(rates),
      before.word,
      to.word,
      builder.at(y),
    ],
    {
      reads,
      writes: [y.buffer, ...to.writes],
      ...stateUse(before, to),
      ...channelShare(y, [operands.views[0]!, operands.views[1]!]),
    },
  );
  return [y, to.value];
}

/** The causal convolution, and the last inputs as its state. */
export function convolutionInWasm(
  builder: WasmBuilder,
  [x, weight, bias, state]: readonly (Value | undefined)[],
  { outputs }: Node<unknown>,
): Value[] {
  const [output, after] = outputs as readonly [Tensor, Tensor];
  const [batch, sequence, channels] = x!.dims as [number, number, number];
  const width = weight!.dims[2]!;
  const operands = tokenOperands(builder, [x]);
  const flat = reshaped(builder.contiguous(weight!), [channels, width])!;
  const taps = builder.contiguous(transposed(flat, [1, 0]));
  const shift = bias && builder.contiguous(bias);
  const before = statesBefore(builder, state);
  const reads = [...operands.reads, taps.buffer, ...(shift ? [shift.buffer] : []), ...before.reads];
  const isKept = builder.used.has(after) && width > 1;
  const to = isKept
    ? builder.rowsTo(after, reads)
    : { word: 0, writes: [], value: builder.allocate(builder.dims(after.shape), 'float32', reads) };
  const y = builder.allocate(builder.dims(output.shape), 'float32', reads);
  builder.step(
    Kernel.convolution,
    [
      batch,
      sequence,
      channels,
      width,
      ...operands.words,
      builder.at(taps),
      shift ? builder.at(shift) : 0,
      before.word,
      to.word,
      builder.at(y),
    ],
    { reads, writes: [y.buffer, ...to.writes], ...stateUse(before, to), ...channelShare(y, []) },
  );
  return [y, to.value];
}

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
