/** The gradient of the recurrence by kernels: recurrence.ts has its equations. */
import type { Heads } from '../../../ops/recurrence.js';
import type { StableHloBuilder } from '../builder.js';
import type { CallResult } from '../custom-call.js';
import type { Plain, Value } from '../value.js';
import type { KernelPointer, KernelValue } from './builder.js';
import { type ChunkKernel, chunksOf } from './chunk-kernel.js';
import { call, carried, prepared, tilesOf, WARPS, warpsOf, writesOf } from './recurrence.js';

/** The gradient by each of `linearRecurrence`'s operands but the documents; undefined where there is no kernel for it. */
export function recurrenceGradientByKernels(
  builder: StableHloBuilder,
  operands: readonly (Value | undefined)[],
  seeds: { readonly dOutput: Value; readonly dLast: Value },
  heads: Heads,
): (Plain | undefined)[] | undefined {
  const given = prepared(builder, operands, heads);
  if (!given) return undefined;
  const { shape, query, key, value, find, remove, rate, gate, state, isFirst } = given;
  const { batch, sequence, heads: count, keySize, valueSize, steps, columns, element, removes } = shape;
  const chunks = chunksOf(shape);
  const erases = removes !== 'nothing';
  // The builder emits the same instruction once, so that these are the values of the forward pass.
  const { sums, reach, asked, kept, seen, found, inverse, foundValues, states, written } = carried(
    builder,
    given,
  );
  const dOutput = builder.narrow(seeds.dOutput);
  const dLast = builder.wide(seeds.dLast);
  const per = (size: number, as: CallResult['element'] = element): CallResult => ({
    element: as,
    dims: [batch, sequence, count * size],
  });

  const back = erases
    ? call(
        builder,
        shape,
        { name: 'recurrence_chunks_back', places: chunks, warps: WARPS },
        { seen: seen.at(-1)!, inverse: inverse!, kept: kept.at(-1)!, dOutput },
        { own: per(valueSize), perState: per(keySize) },
        (kernel, arrays) => {
          const chunk = kernel.place;
          // Negated: what is found is taken out.
          const inverse = kernel.narrow(
            kernel.negative(kernel.wide(kernel.transposed(kernel.read(arrays.inverse, chunk, steps)))),
            element,
          );
          const dWritten = kernel.transposedProduct(
            kernel.read(arrays.seen, chunk, steps),
            kernel.read(arrays.dOutput, chunk, valueSize),
          );
          kernel.write(arrays.own, chunk, kernel.product(inverse, dWritten));
          kernel.write(
            arrays.perState,
            chunk,
            kernel.product(inverse, kernel.read(arrays.kept, chunk, keySize)),
          );
        },
      )
    : undefined;

  const through = call(
    builder,
    shape,
    { name: 'recurrence_states_back', places: valueSize / columns, warps: WARPS },
    { sums, asked, dOutput, found, own: back?.own, perState: back?.perState, dLast },
    {
      dStates: { element, dims: [batch, chunks, count, keySize, valueSize] },
      ...(erases && { dFound: per(valueSize) }),
      dState: { element: 'f32', dims: state.dims },
    },
    (kernel, arrays) => {
      const part = kernel.part();
      const end = kernel.chunks(
        (chunk) => ({
          last: kernel.lastGatesAsColumn(arrays.sums, chunk),
          asked: kernel.read(arrays.asked, chunk, keySize),
          dOutput: kernel.read(arrays.dOutput, chunk, valueSize, { part }),
          ...(erases && {
            found: kernel.read(arrays.found, chunk, keySize),
            own: kernel.read(arrays.own, chunk, valueSize, { part }),
            perState: kernel.read(arrays.perState, chunk, keySize),
          }),
        }),
        kernel.wide(kernel.readOnly(arrays.dLast, part)),
        true,
        (chunk, now: Record<string, KernelValue>, after) => {
          kernel.writeState(arrays.dStates, chunk, after, part);
          const before = kernel.multiply(after, kernel.exp2(now.last!));
          const asked = kernel.transposedProduct(now.asked!, now.dOutput!, before);
          if (!erases) return asked;
          const dFound = kernel.product(now.perState!, after, kernel.wide(now.own!));
          kernel.write(arrays.dFound, chunk, dFound, { ...part, size: valueSize });
          return kernel.transposedProduct(now.found!, dFound, asked);
        },
      );
      kernel.writeOnly(arrays.dState, end, part);
    },
  );

  /** Where heads share an operand the gradients of all are summed, in float32. */
  const like = (x: Plain, size: number): CallResult =>
    per(size, x.dims[2] === count * size ? x.element : 'f32');
  const [write, other] = writesOf(given, written);
  const { dFound, dStates } = through;
  const both = {
    ...{ query, key, find, remove, rate, sums, reach, states },
    ...{ dOutput, dFound, write: write!, other },
  };
  const total = (kernel: ChunkKernel, terms: readonly KernelValue[]): KernelValue =>
    terms.reduce((a, b) => kernel.add(a, b));
  /** Tiles of both kernels: gradients by what is read and by what is found, and what was written. */
  const tilesBack = (kernel: ChunkKernel, arrays: Record<keyof typeof both, KernelPointer>) => {
    const values = (array: KernelPointer): KernelValue => kernel.read(array, kernel.place, valueSize);
    return {
      ...tilesOf(kernel, shape, arrays),
      seeds: [arrays.dOutput, ...(erases ? [arrays.dFound] : [])].map(values),
      writes: [arrays.write, ...(other ? [arrays.other] : [])].map(values),
    };
  };

  const warps = warpsOf(shape);
  // By what asks and, apart from it, by what is written under: registers do not hold both.
  const byAsking = call(
    builder,
    shape,
    { name: 'recurrence_asking_back', places: chunks, warps },
    { ...both, ...(rate && { value }) },
    {
      dQuery: like(query, keySize),
      gained: { element: 'f32', dims: gate.dims },
      ...(find && { dFind: like(find, keySize) }),
      ...(rate && { dKey: per(keySize), dRate: { element: 'f32', dims: rate.dims } }),
      ...(removes === 'key' && { dValue: { element: value.element, dims: value.dims } }),
    },
    (kernel, arrays) => {
      const { chunk, seeds, writes, ...tiles } = tilesBack(kernel, arrays);
      const written = tiles.written();
      // Nothing decays between a token and itself.
      const own = writes.map((x) => kernel.sum(kernel.times(seeds[0]!, x), 1));
      const within = kernel.decayedProductsBack('later', seeds, writes, written, tiles.decays);
      const before = kernel.readState(arrays.states, chunk);
      const sinceStart = tiles.sinceStart();
      const made = within.map((x, i) =>
        kernel.add(x, kernel.multiply(kernel.productTransposed(seeds[i]!, before), sinceStart)),
      );
      const asking = tiles.asking();
      const gained = made.map((x, i) => kernel.times(asking[i]!, x));
      kernel.write(arrays.gained, chunk, kernel.perGate(total(kernel, gained)));
      kernel.write(
        arrays.dQuery,
        chunk,
        total(kernel, [made[0]!, ...own.map((x, i) => kernel.times(written[i]!, x))]),
      );
      const dFind = made[1]!;
      if (find) kernel.write(arrays.dFind, chunk, dFind);
      if (removes === 'key') {
        const dValue = kernel.negative(kernel.wide(seeds[1]!));
        kernel.write(arrays.dValue, chunk, rate ? kernel.multiply(dValue, tiles.rate!) : dValue);
      }
      if (!rate) return;
      kernel.write(arrays.dKey, chunk, kernel.multiply(dFind, tiles.rate!));
      const ofValue = kernel.times(kernel.read(arrays.value, chunk, valueSize), seeds[1]!);
      const dRate = kernel.subtract(kernel.sum(kernel.times(written[0]!, dFind), 1), kernel.sum(ofValue, 1));
      kernel.write(arrays.dRate, chunk, dRate);
    },
  );
  const byWritten = call(
    builder,
    shape,
    { name: 'recurrence_written_back', places: chunks, warps },
    {
      ...{ ...both, dStates, gained: byAsking.gained },
      ...(rate && { ofKey: byAsking.dKey }),
    },
    {
      dKey: like(key, keySize),
      changes: { element: 'f32', dims: gate.dims },
      ...(remove && { dRemove: like(remove, keySize) }),
    },
    (kernel, arrays) => {
      const { chunk, seeds, writes, last, ...tiles } = tilesBack(kernel, arrays);
      const asking = tiles.asking();
      const own = writes.map((x) => kernel.sum(kernel.times(seeds[0]!, x), 1));
      const within = kernel.decayedProductsBack('earlier', writes, seeds, asking, tiles.decays);
      const written = tiles.written();
      const dAfter = kernel.readState(arrays.dStates, chunk);
      const untilEnd = tiles.untilEnd();
      const before = kernel.readState(arrays.states, chunk);
      const held = kernel.sum(kernel.times(before, dAfter), 1, 0);
      let ends = kernel.multiply(held, kernel.exp2(last));
      const lost: KernelValue[] = [];
      for (const [i, array] of [arrays.dKey, arrays.dRemove].slice(0, written.length).entries()) {
        const ofState = kernel.multiply(kernel.productTransposed(writes[i]!, dAfter), untilEnd);
        ends = kernel.add(ends, kernel.sum(kernel.times(written[i]!, ofState), 0));
        const all = kernel.add(within[i]!, ofState);
        lost.push(kernel.times(written[i]!, all));
        const terms = [all, kernel.times(asking[0]!, own[i]!)];
        if (rate) terms.push(kernel.wide(kernel.read(arrays.ofKey, chunk, keySize)));
        kernel.write(array, chunk, total(kernel, terms));
      }
      const gained = kernel.read(arrays.gained, chunk, kernel.gateSize);
      const changes = kernel.subtract(gained, kernel.perGate(total(kernel, lost)));
      kernel.write(arrays.changes, chunk, kernel.add(changes, kernel.atLast(chunk, kernel.perGate(ends))));
    },
  );
  const { dValue } =
    removes === 'key'
      ? byAsking
      : call(
          builder,
          shape,
          { name: 'recurrence_values_back', places: chunks, warps: WARPS },
          { seen: seen[0]!, dOutput, kept: kept[0]!, dStates, foundValues, dFound },
          { dValue: { element: value.element, dims: value.dims } },
          (kernel, arrays) => {
            const chunk = kernel.place;
            const values = (array: KernelPointer): KernelValue => kernel.read(array, chunk, valueSize);
            const within = (array: KernelPointer): KernelValue => kernel.read(array, chunk, steps);
            const kept = kernel.read(arrays.kept, chunk, keySize);
            let sum = kernel.product(kept, kernel.readState(arrays.dStates, chunk));
            sum = kernel.transposedProduct(within(arrays.seen), values(arrays.dOutput), sum);
            if (erases)
              sum = kernel.transposedProduct(within(arrays.foundValues), values(arrays.dFound), sum);
            kernel.write(arrays.dValue, chunk, sum);
          },
        );
  const { dGate } = call(
    builder,
    shape,
    { name: 'recurrence_gates_back', places: chunks, warps: WARPS },
    { changes: byWritten.changes },
    { dGate: { element: shape.isPerKey ? element : 'f32', dims: gate.dims } },
    (kernel, arrays) => {
      const changes = kernel.read(arrays.changes, kernel.place, kernel.gateSize);
      kernel.write(arrays.dGate, kernel.place, kernel.cumulative(changes, 0, true));
    },
  );

  const shared = (x: Plain, like: Plain): Plain =>
    builder.as(gathered(builder, x, keySize, like.dims[2]! / keySize), like.element);
  return [
    shared(byAsking.dQuery, query),
    shared(byWritten.dKey, key),
    dValue,
    isFirst
      ? builder.select(
          builder.broadcast(isFirst, dGate.dims),
          builder.splat(0, dGate.element, dGate.dims),
          dGate,
        )
      : dGate,
    through.dState,
    byAsking.dRate,
    find && shared(byAsking.dFind, find),
    remove && shared(byWritten.dRemove, remove),
  ];
}

/** The sum over heads that share one of `own`: [batch, sequence, own * size]. */
function gathered(builder: StableHloBuilder, x: Plain, size: number, own: number): Plain {
  const [batch, sequence, width] = x.dims as [number, number, number];
  const heads = width / size;
  if (own === heads) return x;
  const apart = builder.reshape(x, [batch, sequence, own, heads / own, size]);
  return builder.reshape(builder.reduce('add', apart, [3]), [batch, sequence, own * size]);
}
