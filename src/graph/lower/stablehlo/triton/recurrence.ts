/**
 * The delta rule and its kin by kernels, in chunks of tokens (ops/recurrence-chunks.ts has the equations): products of matrices on tensor
 * cores, of which nothing but the tiles of a chunk is in registers. In a chunk that begins with the state S, with c the sum of the gates up to
 * each token, (x . y) products that decay over the tokens between, and T = (I + A)^-1 for A what of (f . r) is below the diagonal,
 *
 *     u = T (v - (f e^c) S)                          what is written under k, where it is also what is taken out under (r = k), or
 *     u = T (-(f . k) v - (f e^c) S)                 what is written under r, and v under k
 *     o = (q e^c) S + (q . r) u [+ (q . k) v]        S' = e^(c_last) S + (r e^(c_last - c))^T u [+ (k e^(c_last - c))^T v]
 *
 * Chunks are independent but for S. So one kernel makes all that does not depend on it, T applied to v and to f e^c included; the next goes
 * from chunk to chunk with some columns of S; and one makes the output. The gradient does the same back in time: with G = dL/dS' and z what
 * reaches the values that are found,
 *
 *     z = -T^T du     du = (q . r)^T do + (r e^(c_last - c)) G     dL/dS = e^(c_last) G + (q e^c)^T do + (f e^c)^T z
 *     d(f e^c) = z S^T     d(f . r) = z u^T below the diagonal     dv = -z, or (q . k)^T do + (k e^(c_last - c)) G + (f . k)^T z
 *
 * and what reaches a gate is the sum, over the tokens from its own on, of q dq + f df - k dk - r dr, and of S' G.
 */
import type { Heads } from '../../../ops/recurrence.js';
import type { StableHloBuilder } from '../builder.js';
import type { CallResult } from '../custom-call.js';
import type { Plain, Value } from '../value.js';
import type { KernelPointer, KernelValue } from './builder.js';
import { callKernel } from './call.js';
import { ChunkKernel, type ChunkShape, chunksOf, MOST } from './chunk-kernel.js';

/** Sizes, how many heads share what, and what is taken out of the state. */
interface Shape extends ChunkShape {
  readonly queryHeads: number;
  /** Heads of keys, of what finds and of what removes. */
  readonly keyHeads: number;
  /** Nothing, or what is found: taken out under the key that is written to, or under one of its own. */
  readonly removes: 'nothing' | 'key' | 'other';
}

/** Sizes of states that are taken: powers of two. Larger ones in float32 would not fit into the memory that threads share. */
const SIZES = { least: 16, most: { bf16: 128, f32: 64 } };
/** Tokens of a chunk, and numbers of the state that a program carries on, of some columns. */
const STEPS = 64;
const CARRIED = { bf16: 4096, f32: 2048 };
/** Warps of a program. */
export const WARPS = 4;

/** Those of the programs with most matrices: twice as many where these are so large that registers would not hold them. */
export function warpsOf({ isPerKey, keySize, element }: Shape): number {
  return isPerKey && (keySize > 64 || element === 'f32') ? 2 * WARPS : WARPS;
}

/** Log decay in the first tokens of documents: of 8e-40, which leaves the sums of gates most of their bits. */
const NEVER = -90;

type Arrays<Name extends string> = Readonly<Partial<Record<Name, Plain | undefined>>>;

/** Builds and calls a kernel with arrays of these names, of which those that are undefined are left out. */
export function call<Given extends string, Made extends string>(
  builder: StableHloBuilder,
  shape: Shape,
  { name, places, warps }: { name: string; places: number; warps: number },
  operands: Arrays<Given>,
  results: Readonly<Partial<Record<Made, CallResult | undefined>>>,
  body: (kernel: ChunkKernel, arrays: Record<Given | Made, KernelPointer>) => void,
): Record<Made, Plain> {
  const kernel = new ChunkKernel(shape);
  const all = [
    ...Object.entries<Plain | undefined>(operands),
    ...Object.entries<CallResult | undefined>(results),
  ];
  const arrays = Object.fromEntries(
    all.flatMap(([key, x]) => (x ? [[key, kernel.array(x.element as KernelPointer['element'])]] : [])),
  ) as Record<Given | Made, KernelPointer>;
  body(kernel, arrays);
  const made = Object.entries<CallResult | undefined>(results).flatMap(([key, x]) =>
    x ? [[key, x] as const] : [],
  );
  const values = callKernel(
    builder,
    kernel.launched(name, places, warps),
    Object.values<Plain | undefined>(operands).flatMap((x) => x ?? []),
    made.map(([, x]) => x),
  );
  return Object.fromEntries(made.map(([key], i) => [key, values[i]!])) as Record<Made, Plain>;
}

/** What the kernels are given of the operator's operands. */
export interface Prepared {
  readonly shape: Shape;
  readonly query: Plain;
  readonly key: Plain;
  readonly value: Plain;
  readonly find: Plain | undefined;
  readonly remove: Plain | undefined;
  readonly rate: Plain | undefined;
  readonly gate: Plain;
  readonly state: Plain;
  /** Whether a token is the first of its document, where there are some: [batch, sequence, 1]. */
  readonly isFirst: Plain | undefined;
}

/** Operands as the kernels take them; undefined where there is no kernel for them. */
export function prepared(
  builder: StableHloBuilder,
  operands: readonly (Value | undefined)[],
  heads: Heads,
): Prepared | undefined {
  const [query, key, value, gate, state, beta, find, remove, documents] = operands;
  if (!builder.mayCall('triton', value!.dims[0]!)) return undefined;
  const [batch, sequence, width] = value!.dims as [number, number, number];
  const [keySize, valueSize] = [query!.dims[2]! / heads.query, width / heads.value];
  const isSame = remove?.kind === 'plain' && key!.kind === 'plain' && remove.id === key!.id;
  const removes = beta || isSame ? 'key' : remove ? 'other' : 'nothing';
  const isOwn = heads.query === heads.value && heads.key === heads.value;
  // Chunks as XLA's products multiply queries and keys once for all heads that share them.
  if (removes === 'nothing' && !isOwn) return undefined;
  const element = builder.narrowElement as ChunkShape['element'];
  const fits = [keySize, valueSize].every(
    (size) => Number.isInteger(Math.log2(size)) && size >= SIZES.least && size <= SIZES.most[element],
  );
  if (!fits || sequence < 2) return undefined;
  const gates = gate ? builder.wide(gate) : builder.splat(0, 'f32', [batch, sequence, heads.value]);
  const shape: Shape = {
    ...{ batch, sequence, heads: heads.value, keySize, valueSize },
    steps: Math.min(STEPS, 2 ** Math.max(4, Math.ceil(Math.log2(sequence)))),
    columns: Math.min(CARRIED[element] / keySize, valueSize),
    isPerKey: gates.dims[2] !== heads.value,
    element,
    queryHeads: heads.query,
    keyHeads: heads.key,
    removes,
  };
  const isFirst = documents && firstOfDocument(builder, builder.plain(documents));
  return {
    shape,
    query: builder.narrow(query!),
    key: builder.narrow(key!),
    value: builder.narrow(value!),
    find: find && builder.narrow(find),
    remove: removes === 'other' ? builder.narrow(remove!) : undefined,
    rate: beta && builder.wide(beta),
    gate: isFirst
      ? builder.select(builder.broadcast(isFirst, gates.dims), builder.splat(NEVER, 'f32'), gates)
      : gates,
    state: state ? builder.wide(state) : builder.splat(0, 'f32', [batch, heads.value, keySize, valueSize]),
    isFirst,
  };
}

/** [batch, sequence, 1] of document numbers [batch, sequence]; the state before the first token belongs to document 0. */
function firstOfDocument(builder: StableHloBuilder, documents: Plain): Plain {
  const [batch, sequence] = documents.dims as [number, number];
  const before = builder.slice(builder.pad(documents, 1, 1, 0), 1, 0, sequence);
  return builder.reshape(builder.compare('NE', documents, before), [batch, sequence, 1]);
}

/** What is made when it is first called for. */
function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** What a chunk's tokens are multiplied with: the operands' tiles, and their decay. */
export function tilesOf(
  kernel: ChunkKernel,
  shape: Shape,
  arrays: Readonly<
    Record<'query' | 'key' | 'sums', KernelPointer> &
      Partial<Record<'find' | 'remove' | 'rate' | 'reach', KernelPointer>>
  >,
) {
  const { keySize, queryHeads, keyHeads, removes, element } = shape;
  const chunk = kernel.place;
  const ofKeys = (array: KernelPointer): KernelValue =>
    kernel.narrow(kernel.read(array, chunk, keySize, { own: keyHeads }), element);
  const rate = arrays.rate && kernel.read(arrays.rate, chunk, 1);
  const key = once(() => ofKeys(arrays.key));
  const query = once(() =>
    kernel.narrow(kernel.read(arrays.query, chunk, keySize, { own: queryHeads }), element),
  );
  const find = once(() =>
    arrays.find ? ofKeys(arrays.find) : rate && kernel.narrow(kernel.times(key(), rate), element),
  );
  const sums = kernel.read(arrays.sums, chunk, kernel.gateSize);
  const last = kernel.lastGates(arrays.sums, chunk);
  const reach = arrays.reach && kernel.readOne(arrays.reach, chunk);
  return {
    ...{ chunk, rate, last },
    decays: { sums: arrays.sums, own: sums, chunk, reach },
    /** By these the state, and what was written, is asked. Each tile is loaded where it is first called for. */
    query,
    find,
    asking: () => [query(), find() ?? []].flat(),
    /** Keys under which is written: the key and, if there is, what removes. Loaded where it is first called. */
    written: once(() =>
      removes === 'other' ? ([key(), ofKeys(arrays.remove!)] as const) : ([key()] as const),
    ),
    sinceStart: () => kernel.exp2(sums),
    untilEnd: () => kernel.exp2(kernel.negative(kernel.absolute(kernel.subtract(last, sums)))),
  };
}

/** What the forward pass makes for the output, and for the gradient. */
interface Carried {
  readonly sums: Plain;
  /** How far decays reach, see chunk-kernel.ts: [batch, chunks, heads], with a gate for each key. */
  readonly reach: Plain | undefined;
  /** q e^c, [batch, sequence, heads * keySize]. */
  readonly asked: Plain;
  /** k e^(c_last - c), of the same shape, and the same of r. */
  readonly kept: readonly Plain[];
  /** q . k and q . r, [batch, sequence, heads * steps]. */
  readonly seen: readonly Plain[];
  /** f e^c, T, and f . k where r is another key than k. */
  readonly found?: Plain;
  readonly inverse?: Plain;
  readonly foundValues?: Plain;
  /** The state before each chunk, [batch, chunks, heads, keySize, valueSize]. */
  readonly states: Plain;
  /** u, [batch, sequence, heads * valueSize]. */
  readonly written?: Plain;
  readonly last: Plain;
}

/** The forward pass without the output: what each chunk writes, the state before each chunk, and the last state. */
export function carried(builder: StableHloBuilder, given: Prepared): Carried {
  const { shape, query, key, value, find, remove, rate, gate, state } = given;
  const { batch, sequence, heads, keySize, valueSize, steps, columns, element, removes } = shape;
  const chunks = chunksOf(shape);
  const erases = removes !== 'nothing';
  const per = (size: number): CallResult => ({ element, dims: [batch, sequence, heads * size] });

  const { sums, fastest } = summedGates(builder, shape, gate);
  const reach = fastest && reachOf(builder, shape, fastest);
  const made = call(
    builder,
    shape,
    { name: 'recurrence_chunks', places: chunks, warps: warpsOf(shape) },
    { query, key, find, remove, rate, ...(erases && { value }), sums, reach },
    {
      asked: per(keySize),
      kept: per(keySize),
      seen: per(steps),
      ...(remove && { keptRemove: per(keySize), seenRemove: per(steps), foundValues: per(steps) }),
      ...(erases && {
        found: per(keySize),
        inverse: per(steps),
        perState: per(keySize),
        own: per(valueSize),
      }),
    },
    (kernel, arrays) => {
      const tiles = tilesOf(kernel, shape, arrays);
      const { chunk, rate } = tiles;
      const written = tiles.written();
      const untilEnd = tiles.untilEnd();
      kernel.write(arrays.kept, chunk, kernel.times(written[0]!, untilEnd));
      if (remove) kernel.write(arrays.keptRemove, chunk, kernel.times(written[1]!, untilEnd));
      const query = tiles.query();
      kernel.write(arrays.asked, chunk, kernel.times(query, tiles.sinceStart()));
      const own = written.map((x) => kernel.sum(kernel.times(query, x), 1));
      const [seen] = kernel.decayedProducts([query], written, tiles.decays);
      for (const [i, array] of [arrays.seen, arrays.seenRemove].slice(0, written.length).entries())
        kernel.write(array, chunk, kernel.withDiagonal(seen![i]!, own[i]!));
      const find = tiles.find();
      if (!find) return;
      const found = kernel.narrow(kernel.times(find, tiles.sinceStart()), element);
      kernel.write(arrays.found, chunk, found);
      const [asked] = kernel.decayedProducts([find], written, tiles.decays);
      const inverse = kernel.narrow(kernel.inverse(asked!.at(-1)!), element);
      kernel.write(arrays.inverse, chunk, inverse);
      kernel.write(arrays.perState, chunk, kernel.product(inverse, found));
      const value = kernel.read(arrays.value, chunk, valueSize);
      let given = rate ? kernel.times(value, rate) : value;
      if (remove) {
        kernel.write(arrays.foundValues, chunk, asked![0]!);
        given = kernel.negative(kernel.product(asked![0]!, value));
      }
      kernel.write(arrays.own, chunk, kernel.product(inverse, given));
    },
  );

  const { kept, keptRemove, perState, own } = made;
  const through = call(
    builder,
    shape,
    { name: 'recurrence_states', places: valueSize / columns, warps: WARPS },
    { sums, kept, keptRemove, perState, own, ...(removes !== 'key' && { value }), state },
    {
      states: { element, dims: [batch, chunks, heads, keySize, valueSize] },
      ...(erases && { written: per(valueSize) }),
      last: { element: 'f32', dims: state.dims },
    },
    (kernel, arrays) => {
      const part = kernel.part();
      const end = kernel.chunks(
        (chunk) => ({
          last: kernel.lastGatesAsColumn(arrays.sums, chunk),
          kept: kernel.read(arrays.kept, chunk, keySize),
          ...(remove && { keptRemove: kernel.read(arrays.keptRemove, chunk, keySize) }),
          ...(removes !== 'key' && { value: kernel.read(arrays.value, chunk, valueSize, { part }) }),
          ...(erases && {
            perState: kernel.read(arrays.perState, chunk, keySize),
            own: kernel.read(arrays.own, chunk, valueSize, { part }),
          }),
        }),
        kernel.wide(kernel.readOnly(arrays.state, part)),
        false,
        (chunk, now: Record<string, KernelValue>, before) => {
          kernel.writeState(arrays.states, chunk, before, part);
          let next = kernel.multiply(before, kernel.exp2(now.last!));
          const add = (key: KernelValue, x: KernelValue): void => {
            next = kernel.transposedProduct(key, x, next);
          };
          if (removes !== 'key') add(now.kept!, now.value!);
          if (!erases) return next;
          const written = kernel.subtract(kernel.wide(now.own!), kernel.product(now.perState!, before));
          kernel.write(arrays.written, chunk, written, { ...part, size: valueSize });
          add(now.keptRemove ?? now.kept!, written);
          return next;
        },
      );
      kernel.writeOnly(arrays.last, end, part);
    },
  );
  return {
    ...{
      sums,
      reach,
      asked: made.asked,
      found: made.found,
      inverse: made.inverse,
      foundValues: made.foundValues,
    },
    kept: [kept, ...(remove ? [keptRemove] : [])],
    seen: [made.seen, ...(remove ? [made.seenRemove] : [])],
    ...through,
  };
}

/**
 * The sums of gates up to each token of a chunk, as logarithms to base 2; with a gate for each key also the largest decay of a token in each
 * chunk, [batch, chunks, heads].
 */
function summedGates(builder: StableHloBuilder, shape: Shape, gates: Plain) {
  const { batch, heads } = shape;
  const chunks = chunksOf(shape);
  return call(
    builder,
    shape,
    { name: 'recurrence_sums', places: chunks, warps: WARPS },
    { gates },
    {
      sums: { element: 'f32', dims: gates.dims },
      ...(shape.isPerKey && { fastest: { element: 'f32', dims: [batch, chunks, heads] } }),
    },
    (kernel, arrays) => {
      const chunk = kernel.place;
      const gates = kernel.read(arrays.gates, chunk, kernel.gateSize);
      const sums = kernel.cumulative(gates, 0, false);
      kernel.write(arrays.sums, chunk, kernel.multiply(sums, kernel.fill(Math.LOG2E, sums.dims)));
      if (shape.isPerKey) kernel.writeOne(arrays.fastest, chunk, kernel.largest(kernel.absolute(gates)));
    },
  );
}

/** log2 of the tokens, at least one and at most half a chunk, in which no key of a head's chunk decays to less than 2^-MOST. */
function reachOf(builder: StableHloBuilder, { steps }: Shape, fastest: Plain): Plain {
  const tokens = builder.binary('divide', builder.splat(MOST * Math.LN2, 'f32', fastest.dims), fastest);
  const bits = builder.binary('divide', builder.unary('log', tokens), builder.splat(Math.LN2, 'f32'));
  const [least, largest] = [0, Math.log2(steps) - 1].map((bound) => builder.splat(bound, 'f32'));
  return builder.as(builder.binary('minimum', builder.binary('maximum', bits, least!), largest!), 'i32');
}

/** What is written under k and under r: v, u or both. */
export function writesOf({ value, shape: { removes } }: Prepared, written: Plain | undefined): Plain[] {
  if (removes === 'other') return [value, written!];
  return [removes === 'key' ? written! : value];
}

/** Output, last state, and what each step writes; undefined where there is no kernel for it. */
export function recurrenceByKernels(
  builder: StableHloBuilder,
  operands: readonly (Value | undefined)[],
  heads: Heads,
): Plain[] | undefined {
  const given = prepared(builder, operands, heads);
  if (!given) return undefined;
  const { shape, value } = given;
  const { valueSize, keySize, steps, element } = shape;
  const { asked, seen, states, written, last } = carried(builder, given);
  const [write, other] = writesOf(given, written);
  const { output } = call(
    builder,
    shape,
    { name: 'recurrence_output', places: chunksOf(shape), warps: WARPS },
    { asked, states, seen: seen[0]!, seenRemove: seen[1], write: write!, other },
    { output: { element, dims: value.dims } },
    (kernel, arrays) => {
      const chunk = kernel.place;
      let sum = kernel.product(
        kernel.read(arrays.asked, chunk, keySize),
        kernel.readState(arrays.states, chunk),
      );
      const pairs = [[arrays.seen, arrays.write], ...(other ? [[arrays.seenRemove, arrays.other]] : [])] as [
        KernelPointer,
        KernelPointer,
      ][];
      for (const [by, what] of pairs)
        sum = kernel.product(kernel.read(by, chunk, steps), kernel.read(what, chunk, valueSize), sum);
      kernel.write(arrays.output, chunk, sum);
    },
  );
  return [output, last, written ?? builder.splat(0, 'f32', value.dims)];
}
