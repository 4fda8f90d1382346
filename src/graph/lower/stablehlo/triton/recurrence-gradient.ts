/**
 * The gradient of the recurrence by kernels, back in time over the chunks of recurrence.ts, whose letters these are: with G = dL/dS',
 *
 *     y = T^T du     du = (q . r)^T do + (r e^(c_last - c)) G     dL/dS = e^(c_last) G + (q e^c)^T do - (f e^c)^T y
 *     d(f e^c) = -y S^T     dA = -(y u^T) below the diagonal     dv = y, or (q . k)^T do + (k e^(c_last - c)) G - (f . k)^T y
 *
 * and what reaches a gate is the sum, over the tokens from its own on, of q dq + f df - k dk - r dr, and of S' G.
 */
import type { Heads } from '../../../ops/recurrence.js';
import type { StableHloBuilder } from '../builder.js';
import type { CallResult } from '../custom-call.js';
import type { Plain, Value } from '../value.js';
import type { KernelValue } from './builder.js';
import { chunksOf } from './chunk-kernel.js';
import { call, carried, prepared, tilesOf, WARPS, writesOf } from './recurrence.js';

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
  const { sums, asked, kept, seen, found, inverse, foundValues, states, written } = carried(builder, given);
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
        { name: 'recurrence_chunks_back', places: chunks, warps: WARPS.few },
        { seen: seen.at(-1)!, inverse: inverse!, kept: kept.at(-1)!, dOutput },
        { own: per(valueSize), perState: per(keySize) },
        (kernel, arrays) => {
          const chunk = kernel.place;
          const inverse = kernel.transposed(kernel.read(arrays.inverse, chunk, steps));
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
    { name: 'recurrence_states_back', places: valueSize / columns, warps: WARPS.few },
    { sums, asked, dOutput, found, own: back?.own, perState: back?.perState, dLast },
    {
      dStates: { element, dims: [batch, chunks, count, keySize, valueSize] },
      ...(erases && { solved: per(valueSize) }),
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
          const solved = kernel.product(now.perState!, after, kernel.wide(now.own!));
          kernel.write(arrays.solved, chunk, solved, { ...part, size: valueSize });
          return kernel.subtract(asked, kernel.transposedProduct(now.found!, solved));
        },
      );
      kernel.writeOnly(arrays.dState, end, part);
    },
  );

  /** Where heads share an operand the gradients of all are summed, in float32. */
  const like = (x: Plain, size: number): CallResult =>
    per(size, x.dims[2] === count * size ? x.element : 'f32');
  const [write, other] = writesOf(given, written);
  const made = call(
    builder,
    shape,
    { name: 'recurrence_back', places: chunks, warps: WARPS.many },
    {
      ...{ query, key, find, remove, rate, sums, states, dStates: through.dStates, dOutput },
      ...{ write: write!, other, solved: through.solved, ...(rate && { value }) },
      ...(removes !== 'key' && { seen: seen[0]!, foundValues }),
    },
    {
      dQuery: like(query, keySize),
      dKey: like(key, keySize),
      dValue: { element: value.element, dims: value.dims },
      dGate: { element: 'f32', dims: gate.dims },
      ...(find && { dFind: like(find, keySize) }),
      ...(remove && { dRemove: like(remove, keySize) }),
      ...(rate && { dRate: { element: 'f32', dims: rate.dims } }),
    },
    (kernel, arrays) => {
      const tiles = tilesOf(kernel, shape, arrays);
      const { chunk, query, key, rate, find, asking, written } = tiles;
      const sum = (terms: readonly KernelValue[]): KernelValue => terms.reduce((a, b) => kernel.add(a, b));
      const readAll = () => ({
        seeds: (erases ? [arrays.dOutput, arrays.solved] : [arrays.dOutput]).map((array) =>
          kernel.read(array, chunk, valueSize),
        ),
        writes: (other ? [arrays.write, arrays.other] : [arrays.write]).map((array) =>
          kernel.read(array, chunk, valueSize),
        ),
        dAfter: kernel.readState(arrays.dStates, chunk),
      });

      const given = readAll();
      const [dOutput, solved] = given.seeds as [KernelValue, KernelValue?];
      const gradients = given.seeds.map((seed, i) =>
        given.writes.map((x) => {
          const all = kernel.below(kernel.productTransposed(seed, x));
          return i === 0 ? all : kernel.negative(all);
        }),
      );
      // Nothing decays between a token and itself.
      const onDiagonal = given.writes.map((x) => kernel.sum(kernel.times(dOutput, x), 1));
      let dValue = rate ? kernel.times(solved!, rate) : solved;
      if (removes !== 'key') {
        dValue = kernel.transposedProduct(kernel.read(arrays.seen, chunk, steps), dOutput);
        dValue = kernel.product(kernel.times(key, tiles.untilEnd()), given.dAfter, dValue);
        if (solved) {
          const found = kernel.read(arrays.foundValues, chunk, steps);
          dValue = kernel.subtract(dValue, kernel.transposedProduct(found, solved));
        }
      }
      kernel.write(arrays.dValue, chunk, dValue!);
      const ofValue =
        rate && kernel.sum(kernel.times(kernel.read(arrays.value, chunk, valueSize), solved!), 1);

      const within = kernel.decayedProductsBack(asking, written, gradients, arrays.sums, tiles.sums, chunk);

      // Read once more, so that they are not in registers meanwhile.
      const { seeds, writes, dAfter } = readAll();
      const before = kernel.readState(arrays.states, chunk);
      const sinceStart = tiles.sinceStart();
      const [dQuery, dFind] = within[0].map((x, i) => {
        const ofState = kernel.multiply(kernel.productTransposed(seeds[i]!, before), sinceStart);
        return i === 0 ? kernel.add(x, ofState) : kernel.subtract(x, ofState);
      });
      const gained = [kernel.times(query, dQuery!), ...(dFind ? [kernel.times(find!, dFind)] : [])];
      const dQueries = [dQuery!, ...written.map((x, i) => kernel.times(x, onDiagonal[i]!))];
      kernel.write(arrays.dQuery, chunk, sum(dQueries));
      if (arrays.dFind) kernel.write(arrays.dFind, chunk, dFind!);
      if (rate)
        kernel.write(arrays.dRate, chunk, kernel.add(ofValue!, kernel.sum(kernel.times(key, dFind!), 1)));

      const untilEnd = tiles.untilEnd();
      const held = kernel.sum(kernel.times(before, dAfter), 1, 0);
      let ends = kernel.multiply(held, kernel.exp2(tiles.last));
      let changes = sum(gained);
      for (const [i, array] of [arrays.dKey, arrays.dRemove].slice(0, written.length).entries()) {
        const ofState = kernel.multiply(kernel.productTransposed(writes[i]!, dAfter), untilEnd);
        ends = kernel.add(ends, kernel.sum(kernel.times(written[i]!, ofState), 0));
        const all = kernel.add(within[1][i]!, ofState);
        changes = kernel.subtract(changes, kernel.times(written[i]!, all));
        const dKeys = [
          all,
          kernel.times(query, onDiagonal[i]!),
          ...(rate ? [kernel.multiply(dFind!, rate)] : []),
        ];
        kernel.write(array, chunk, sum(dKeys));
      }
      kernel.write(arrays.dGate, chunk, kernel.add(kernel.sinceGate(changes), kernel.perGate(ends)));
    },
  );

  const shared = (x: Plain, like: Plain): Plain =>
    builder.as(gathered(builder, x, keySize, like.dims[2]! / keySize), like.element);
  const { dGate } = made;
  return [
    shared(made.dQuery, query),
    shared(made.dKey, key),
    made.dValue,
    isFirst
      ? builder.select(builder.broadcast(isFirst, dGate.dims), builder.splat(0, 'f32', dGate.dims), dGate)
      : dGate,
    through.dState,
    made.dRate,
    find && shared(made.dFind, find),
    remove && shared(made.dRemove, remove),
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
