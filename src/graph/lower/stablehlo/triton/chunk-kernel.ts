/** Tiles of a chunk of tokens, of one head of one sequence, and products of tiles that decay over the tokens between. */
import { KernelBuilder, type KernelPointer, type KernelValue } from './builder.js';
import type { Kernel } from './call.js';

/** Sizes of a recurrence, and how it is cut. */
export interface ChunkShape {
  readonly batch: number;
  readonly sequence: number;
  readonly heads: number;
  readonly keySize: number;
  readonly valueSize: number;
  /** Tokens of a chunk: a power of two, at least 16. */
  readonly steps: number;
  /** Columns of the state that a program has which goes from chunk to chunk. */
  readonly columns: number;
  /** Whether each row of the state decays at a rate of its own. */
  readonly isPerKey: boolean;
  /** In what matrices are multiplied, and kept between kernels. */
  readonly element: 'f32' | 'bf16';
}

/** How many chunks a sequence has. */
export function chunksOf({ sequence, steps }: ChunkShape): number {
  return Math.ceil(sequence / steps);
}

/** Where decays of a chunk are to be found. */
export interface Decays {
  /** Cumulative log decays, to base 2: the array, and those of the chunk. */
  readonly sums: KernelPointer;
  readonly own: KernelValue;
  readonly chunk: KernelValue;
  /** With a gate for each key: log2 of the tokens in which no key decays to less than 2^-MOST. */
  readonly reach: KernelValue | undefined;
}

/** A factor of a product is at most 2^MOST, which leaves float32 and bfloat16 room for sums of them. */
export const MOST = 100;

/** Columns of a matrix: so many, from one on. */
interface Part {
  readonly from: KernelValue;
  readonly columns: number;
}

/**
 * A kernel with programs for each head and each sequence along the last two axes of the grid, which reads and writes arrays
 * [batch, sequence, heads * size], a chunk at a time as a matrix [steps, size], and states [batch, chunks, heads, keySize, valueSize].
 */
export class ChunkKernel extends KernelBuilder {
  /** The program's place along the first axis: its chunk, or its columns of the state. */
  readonly place = this.program('x');
  private readonly head = this.program('y');
  private readonly row = this.program('z');

  constructor(readonly shape: ChunkShape) {
    super();
  }

  launched(name: string, places: number, warps: number): Kernel {
    const { heads, batch } = this.shape;
    return { name, text: this.text(name), grid: [places, heads, batch], warps };
  }

  /** A product of matrices in the precision of the shape, in float32. */
  product(a: KernelValue, b: KernelValue, added?: KernelValue): KernelValue {
    const { element } = this.shape;
    return this.dot(this.narrow(a, element), this.narrow(b, element), added);
  }

  /** a^T b */
  transposedProduct(a: KernelValue, b: KernelValue, added?: KernelValue): KernelValue {
    return this.product(this.transposed(this.narrow(a, this.shape.element)), b, added);
  }

  /** a b^T */
  productTransposed(a: KernelValue, b: KernelValue): KernelValue {
    return this.product(a, this.transposed(this.narrow(b, this.shape.element)));
  }

  /** The product of two tensors of any types, in float32. */
  times(a: KernelValue, b: KernelValue): KernelValue {
    return this.multiply(this.wide(a), this.wide(b));
  }

  /** Of some integers, such ones. */
  private scaled(x: KernelValue, by: number): KernelValue {
    return by === 1 ? x : this.multiply(x, this.integer(by));
  }

  /** Places of the tokens of a chunk: [steps, 1]. */
  private tokens(): KernelValue {
    return this.range([this.shape.steps, 1], 0);
  }

  /** How many tokens there are from a chunk's first on; undefined where each chunk is whole. */
  private remaining(chunk: KernelValue): KernelValue | undefined {
    const { sequence, steps } = this.shape;
    if (sequence % steps === 0) return undefined;
    return this.subtract(this.integer(sequence), this.scaled(chunk, steps));
  }

  /** Where the numbers of a chunk's first token are: of this head, or of the one of `own` that it shares with others. */
  private begin(array: KernelPointer, chunk: KernelValue, size: number, own: number): KernelPointer {
    const { sequence, steps, heads } = this.shape;
    const first = this.add(
      this.multiply(this.long(this.row), this.integer(sequence, 'i64')),
      this.long(this.scaled(chunk, steps)),
    );
    const head = own === heads ? this.head : this.divide(this.head, this.integer(heads / own));
    const place = this.add(this.multiply(first, this.integer(own, 'i64')), this.long(head));
    return this.at(array, this.multiply(place, this.integer(size, 'i64')));
  }

  /** The distances of columns, [1, columns]. */
  private across(size: number, part: Part | undefined): KernelValue {
    const columns = this.range([1, part?.columns ?? size], 1);
    return part ? this.add(columns, part.from) : columns;
  }

  /** The tokens of a chunk of an array [batch, sequence, own * size]: [steps, size], zeros behind the last token. */
  read(
    array: KernelPointer,
    chunk: KernelValue,
    size: number,
    { own = this.shape.heads, part }: { own?: number; part?: Part } = {},
  ): KernelValue {
    const distances = this.add(this.scaled(this.tokens(), own * size), this.across(size, part));
    const remaining = this.remaining(chunk);
    const exists = remaining && this.compare('slt', this.tokens(), remaining);
    return this.load(this.begin(array, chunk, size, own), distances, exists);
  }

  /** Writes the tokens of a chunk into an array [batch, sequence, heads * size]. */
  write(array: KernelPointer, chunk: KernelValue, x: KernelValue, part?: Part & { size: number }): void {
    const { heads } = this.shape;
    const size = part?.size ?? x.dims[1]!;
    const distances = this.add(this.scaled(this.tokens(), heads * size), this.across(size, part));
    const remaining = this.remaining(chunk);
    const exists = remaining && this.compare('slt', this.tokens(), remaining);
    this.store(this.begin(array, chunk, size, heads), distances, x, exists);
  }

  /** Numbers of each gate: as many as keys, or one. */
  get gateSize(): number {
    return this.shape.isPerKey ? this.shape.keySize : 1;
  }

  /** Rows of gates [batch, sequence, heads * gateSize], one for each of some tokens of the chunk, [rows, 1]. */
  private gatesAt(gates: KernelPointer, chunk: KernelValue, tokens: KernelValue): KernelValue {
    const size = this.gateSize;
    const remaining = this.remaining(chunk);
    const there = remaining ? this.minimum(tokens, this.subtract(remaining, this.integer(1))) : tokens;
    const distances = this.add(this.scaled(there, this.shape.heads * size), this.range([1, size], 1));
    return this.load(this.begin(gates, chunk, size, this.shape.heads), distances);
  }

  /** The place of the last token of a chunk. */
  private lastToken(chunk: KernelValue): KernelValue {
    const remaining = this.remaining(chunk);
    const last = this.integer(this.shape.steps - 1);
    return remaining ? this.minimum(last, this.subtract(remaining, this.integer(1))) : last;
  }

  /** Those of the last token: [1, gateSize]. */
  lastGates(gates: KernelPointer, chunk: KernelValue): KernelValue {
    return this.gatesAt(gates, chunk, this.broadcast(this.lastToken(chunk), [1, 1]));
  }

  /** The same as a column: [gateSize, 1]. */
  lastGatesAsColumn(gates: KernelPointer, chunk: KernelValue): KernelValue {
    const { heads } = this.shape;
    const size = this.gateSize;
    const start = this.scaled(this.lastToken(chunk), heads * size);
    const distances = this.add(this.range([size, 1], 0), start);
    return this.load(this.begin(gates, chunk, size, heads), distances);
  }

  /** Where a state of [batch, count, heads, keySize, valueSize] is, and the distances of (a part of) its columns. */
  private state(
    array: KernelPointer,
    place: KernelValue,
    count: number,
    part?: Part,
  ): [KernelPointer, KernelValue] {
    const { heads, keySize, valueSize } = this.shape;
    const before = this.add(this.multiply(this.long(this.row), this.integer(count, 'i64')), this.long(place));
    const number = this.add(this.multiply(before, this.integer(heads, 'i64')), this.long(this.head));
    const begin = this.at(array, this.multiply(number, this.integer(keySize * valueSize, 'i64')));
    const rows = this.scaled(this.range([keySize, 1], 0), valueSize);
    return [begin, this.add(rows, this.across(valueSize, part))];
  }

  /** The state before or after a chunk, of those of all chunks. */
  readState(array: KernelPointer, chunk: KernelValue): KernelValue {
    return this.load(...this.state(array, chunk, chunksOf(this.shape)));
  }

  writeState(array: KernelPointer, chunk: KernelValue, x: KernelValue, part: Part): void {
    this.store(...this.state(array, chunk, chunksOf(this.shape), part), x);
  }

  /** The state of this sequence, of [batch, heads, keySize, valueSize]. */
  readOnly(array: KernelPointer, part: Part): KernelValue {
    return this.load(...this.state(array, this.integer(0), 1, part));
  }

  writeOnly(array: KernelPointer, x: KernelValue, part: Part): void {
    this.store(...this.state(array, this.integer(0), 1, part), x);
  }

  /** Whether a token comes after another: [steps, steps]. */
  isLater(): KernelValue {
    return this.compare('sgt', this.tokens(), this.range([1, this.shape.steps], 1));
  }

  /** Whether a token comes before another. */
  private isEarlier(): KernelValue {
    return this.compare('slt', this.tokens(), this.range([1, this.shape.steps], 1));
  }

  /** x where a token comes after another, else 0. */
  below(x: KernelValue): KernelValue {
    return this.where(this.isLater(), x);
  }

  /** The bits in which the places of two tokens differ: [steps, steps]. */
  private differences(): KernelValue {
    return this.difference(this.tokens(), this.range([1, this.shape.steps], 1));
  }

  /** Whether two tokens are in one pair of blocks of a size, and in different ones of them: [steps, steps]. */
  private inPair(size: KernelValue): KernelValue {
    const bits = this.differences();
    const isLess = this.compare('slt', bits, this.add(size, size));
    return this.both(isLess, this.compare('sgt', bits, this.subtract(size, this.integer(1))));
  }

  /** Goes through the sizes of blocks 2^i, from one i on, in a loop, since one size after the other is in registers. */
  private sizes(
    first: KernelValue,
    initial: readonly KernelValue[],
    body: (size: KernelValue, carried: readonly KernelValue[], i: KernelValue) => readonly KernelValue[],
  ): KernelValue[] {
    return this.loop(first, Math.log2(this.shape.steps), initial, (i, carried) =>
      body(this.shifted(this.integer(1), i), carried, i),
    );
  }

  /** The place of this head's number for a chunk, in an array [batch, chunks, heads]. */
  private ofChunk(array: KernelPointer, chunk: KernelValue): KernelPointer {
    const { heads } = this.shape;
    const row = this.add(
      this.multiply(this.long(this.row), this.integer(chunksOf(this.shape), 'i64')),
      this.long(chunk),
    );
    return this.at(array, this.add(this.multiply(row, this.integer(heads, 'i64')), this.long(this.head)));
  }

  /** The number of this head for a chunk, of an array [batch, chunks, heads]. */
  readOne(array: KernelPointer, chunk: KernelValue): KernelValue {
    return this.loadOne(this.ofChunk(array, chunk));
  }

  writeOne(array: KernelPointer, chunk: KernelValue, x: KernelValue): void {
    this.storeOne(this.ofChunk(array, chunk), x);
  }

  /**
   * The decay between a later token and an earlier one as a product of two numbers, one of each, for each key: from and to the last token of
   * the first block of their pair, with blocks of 2^i tokens, for tokens in different blocks of a pair. Neither is above 1 there. Of the
   * smallest blocks, those of 2^reach tokens, it is the decay between any tokens of a pair, since no number is above 2^MOST in these.
   */
  private decaysOf(
    { sums, own, chunk, reach }: Decays,
    size: KernelValue,
    i: KernelValue,
  ): { ofLater: KernelValue; ofEarlier: KernelValue; isOwn: KernelValue } {
    const lastOfPair = this.either(this.tokens(), this.subtract(this.add(size, size), this.integer(1)));
    const boundary = this.gatesAt(sums, chunk, this.subtract(lastOfPair, size));
    const isSmallest = this.compare('eq', i, reach!);
    const most = this.where(isSmallest, this.fill(MOST, [1, 1]), this.fill(0, [1, 1]));
    const decay = (from: KernelValue, to: KernelValue): KernelValue =>
      this.exp2(this.minimum(this.subtract(to, from), most));
    const bits = this.differences();
    const isApart = this.compare('sgt', bits, this.subtract(size, this.integer(1)));
    const isInPair = this.compare('slt', bits, this.add(size, size));
    return {
      ofLater: decay(boundary, own),
      ofEarlier: decay(own, boundary),
      isOwn: this.both(isInPair, this.either(isApart, isSmallest)),
    };
  }

  /** One number of each token of a chunk, of an array [batch, sequence, heads], as a row: [1, steps]. */
  private readRow(array: KernelPointer, chunk: KernelValue): KernelValue {
    const { heads, steps } = this.shape;
    const distances = this.scaled(this.range([1, steps], 1), heads);
    const remaining = this.remaining(chunk);
    const exists = remaining && this.compare('slt', this.range([1, steps], 1), remaining);
    return this.load(this.begin(array, chunk, 1, heads), distances, exists);
  }

  /** The decay between tokens: [steps, steps]. */
  private betweenAll({ sums, own, chunk }: Decays): KernelValue {
    return this.exp2(this.negative(this.absolute(this.subtract(own, this.readRow(sums, chunk)))));
  }

  /**
   * Of each x with each y, sum over d of x_id y_jd 2^(c_id - c_jd) for j < i, else 0: [steps, steps], for the cumulative decays c. With a gate
   * for each key as ops/decayed-products.ts has it, but with larger blocks to begin with.
   */
  decayedProducts(xs: readonly KernelValue[], ys: readonly KernelValue[], decays: Decays): KernelValue[][] {
    const { steps, element } = this.shape;
    if (!decays.reach) {
      const decay = this.below(this.betweenAll(decays));
      return xs.map((x) => ys.map((y) => this.multiply(this.productTransposed(x, y), decay)));
    }
    const zeros = xs.flatMap(() => ys.map(() => this.fill(0, [steps, steps])));
    const products = this.sizes(decays.reach, zeros, (size, before, i) => {
      const { ofLater, ofEarlier, isOwn } = this.decaysOf(decays, size, i);
      const isThere = this.both(isOwn, this.isLater());
      const decayedX = xs.map((x) => this.multiply(x, this.narrow(ofLater, element)));
      const decayedY = ys.map((y) => this.multiply(y, this.narrow(ofEarlier, element)));
      return before.map((sum, n) => {
        const [x, y] = [decayedX[Math.floor(n / ys.length)]!, decayedY[n % ys.length]!];
        return this.where(isThere, this.productTransposed(x, y), sum);
      });
    });
    return xs.map((_, i) => products.slice(i * ys.length, (i + 1) * ys.length));
  }

  /**
   * The gradients of these products by the xs, which are the later tokens, or by the ys, the earlier ones. The gradient of the product of x and y
   * is a b^T, with an a for each `own` operand by which it is asked, and b for each of the `others`; only where a token comes later than another.
   */
  decayedProductsBack(
    side: 'later' | 'earlier',
    own: readonly KernelValue[],
    across: readonly KernelValue[],
    others: readonly KernelValue[],
    decays: Decays,
  ): KernelValue[] {
    const { steps, keySize, element } = this.shape;
    const isOther = side === 'later' ? this.isLater() : this.isEarlier();
    const through = (a: KernelValue, mask: KernelValue, factors: readonly KernelValue[]): KernelValue =>
      across.reduce<KernelValue | undefined>((sum, b, i) => {
        const gradient = this.narrow(this.productTransposed(a, b), mask.element as 'f32' | 'bf16');
        return this.product(this.multiply(gradient, mask), factors[i]!, sum);
      }, undefined)!;
    if (!decays.reach) {
      const decay = this.where(isOther, this.betweenAll(decays));
      return own.map((a) => through(a, decay, others));
    }
    const zeros = own.map(() => this.fill(0, [steps, keySize]));
    return this.sizes(decays.reach, zeros, (size, before, i) => {
      const { ofLater, ofEarlier, isOwn } = this.decaysOf(decays, size, i);
      const [ofOwn, ofOther] = side === 'later' ? [ofLater, ofEarlier] : [ofEarlier, ofLater];
      // Numbers to multiply with, two of which are in a register: a condition of all would be kept as bytes.
      const ones = this.where(this.both(isOwn, isOther), this.fill(1, [steps, steps]));
      const mask = this.narrow(ones, element);
      const factors = others.map((x) => this.multiply(x, this.narrow(ofOther, element)));
      return own.map((a, n) => this.add(before[n]!, this.multiply(through(a, mask, factors), ofOwn)));
    });
  }

  /**
   * The inverse of I + A for A [steps, steps], of which only what is below the diagonal counts: ops/triangular.ts has it. Where bfloat16 is
   * what products are in, float16's three bits more are multiplied here: no number is large where the state is bounded.
   */
  inverse(a: KernelValue): KernelValue {
    const { steps } = this.shape;
    const element = this.shape.element === 'f32' ? 'f32' : 'f16';
    const multiplied = (x: KernelValue, y: KernelValue): KernelValue =>
      this.dot(this.narrow(x, element), this.narrow(y, element));
    const low = this.below(a);
    const between = (size: KernelValue): KernelValue => this.where(this.inPair(size), low);
    const ones = this.withDiagonal(this.fill(0, [steps, steps]), this.fill(1, [steps, 1]));
    const pairs = this.subtract(ones, between(this.integer(1)));
    const [inverse] = this.sizes(this.integer(1), [pairs], (size, [inverse]) => {
      const change = multiplied(multiplied(inverse!, between(size)), inverse!);
      return [this.subtract(inverse!, change)];
    });
    return inverse!;
  }

  /** A matrix with other numbers on its diagonal, [steps, 1]. */
  withDiagonal(x: KernelValue, own: KernelValue): KernelValue {
    const isDiagonal = this.compare('eq', this.tokens(), this.range([1, this.shape.steps], 1));
    return this.where(isDiagonal, own, x);
  }

  /** The columns of the state that this program has, of those that go from chunk to chunk. */
  part(): Part {
    const { columns } = this.shape;
    return { from: this.scaled(this.place, columns), columns };
  }

  /** Goes through the chunks, each of which is loaded while the one before it is computed; returns the last state. */
  chunks<Tiles extends Readonly<Record<string, KernelValue>>>(
    load: (chunk: KernelValue) => Tiles,
    initial: KernelValue,
    reverse: boolean,
    body: (chunk: KernelValue, tiles: Tiles, state: KernelValue) => KernelValue,
  ): KernelValue {
    const count = chunksOf(this.shape);
    const last = this.integer(count - 1);
    const at = (i: KernelValue): KernelValue => (reverse ? this.subtract(last, i) : i);
    const first = load(at(this.integer(0)));
    const names = Object.keys(first);
    const ends = this.loop(
      this.integer(0),
      count,
      [initial, ...Object.values(first)],
      (i, [state, ...values]) => {
        const tiles = Object.fromEntries(names.map((name, n) => [name, values[n]!])) as Tiles;
        const next = load(at(this.minimum(this.add(i, this.integer(1)), last)));
        return [body(at(i), tiles, state!), ...Object.values(next)];
      },
    );
    return ends[0]!;
  }

  /** The sum of all numbers that belong to one gate: those of a row; with a gate for each key each number. */
  perGate(x: KernelValue): KernelValue {
    return this.shape.isPerKey ? x : this.sum(x, 1);
  }

  /** Numbers of each gate, [1, gateSize], at the last token of a chunk, and 0 at others: [steps, gateSize]. */
  atLast(chunk: KernelValue, x: KernelValue): KernelValue {
    return this.where(this.compare('eq', this.tokens(), this.lastToken(chunk)), x);
  }
}
