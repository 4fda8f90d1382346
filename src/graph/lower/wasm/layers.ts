/** Lowerings of sequence layers, token by token: recurrences, scans and convolutions with their states. */
import type { CompleteScan } from '../../ops/scan.js';
import type { Node, Tensor } from '../../tensor.js';
import type { WasmBuilder } from './builder.js';
import { Instruction, Kernel } from './codes.js';
import { concatInWasm, matmulInWasm, part, transposed } from './operators.js';
import type { Word } from './step.js';
import { type Buffer, count, reshaped, type Value, type View } from './value.js';

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
