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
  readonly element: KernelPointer['element'];
}

/** How many chunks a sequence has. */
export function chunksOf({ sequence, steps }: ChunkShape): number {
  return Math.ceil(sequence / steps);
}

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
  productTransposed(a: KernelValue, b: KernelValue, added?: KernelValue): KernelValue {
    return this.product(a, this.transposed(this.narrow(b, this.shape.element)), added);
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

  /** Those of the last token: [1, gateSize]. */
  lastGates(gates: KernelPointer, chunk: KernelValue): KernelValue {
    const last = this.broadcast(this.integer(this.shape.steps - 1), [1, 1]);
    return this.gatesAt(gates, chunk, last);
  }

  /** The same as a column: [gateSize, 1]. */
  lastGatesAsColumn(gates: KernelPointer, chunk: KernelValue): KernelValue {
    const { heads, steps } = this.shape;
    const size = this.gateSize;
    const remaining = this.remaining(chunk);
    const all = this.integer(steps - 1);
    const last = remaining ? this.minimum(all, this.subtract(remaining, this.integer(1))) : all;
    const distances = this.add(this.range([size, 1], 0), this.scaled(last, heads * size));
    return this.load(this.begin(gates, chunk, size, heads), distances);
  }

  /** Where a state of [batch, count, heads, keySize, valueSize] is, and the distances of (a part of) its columns. */
  private state(
    array: KernelPointer,
    place: KernelValue,
    count: number,
    part: Part | undefined,
  ): [KernelPointer, KernelValue] {
    const { heads, keySize, valueSize } = this.shape;
    const before = this.add(this.multiply(this.long(this.row), this.integer(count, 'i64')), this.long(place));
    const number = this.add(this.multiply(before, this.integer(heads, 'i64')), this.long(this.head));
    const begin = this.at(array, this.multiply(number, this.integer(keySize * valueSize, 'i64')));
    const rows = this.scaled(this.range([keySize, 1], 0), valueSize);
    return [begin, this.add(rows, this.across(valueSize, part))];
  }

  /** The state before or after a chunk, of those of all chunks. */
  readState(array: KernelPointer, chunk: KernelValue, part?: Part): KernelValue {
    return this.load(...this.state(array, chunk, chunksOf(this.shape), part));
  }

  writeState(array: KernelPointer, chunk: KernelValue, x: KernelValue, part?: Part): void {
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

  /** x where a token comes after another, else 0. */
  below(x: KernelValue): KernelValue {
    return this.where(this.isLater(), x);
  }

  /** Whether two tokens are in one pair of blocks of a size, and in different ones of them: [steps, steps]. */
  private inPair(size: KernelValue): KernelValue {
    const bits = this.difference(this.tokens(), this.range([1, this.shape.steps], 1));
    const isLess = this.compare('slt', bits, this.add(size, size));
    return this.both(isLess, this.compare('sgt', bits, this.subtract(size, this.integer(1))));
  }

  /** Whether a token is in the second block of its pair: [steps, 1]. */
  private isSecond(size: KernelValue): KernelValue {
    return this.compare('sgt', this.both(this.tokens(), size), this.integer(0));
  }

  /** The decay between each token and the last one of the first block of its pair: [steps, keySize]. */
  private fromBoundary(
    sums: KernelPointer,
    own: KernelValue,
    chunk: KernelValue,
    size: KernelValue,
  ): KernelValue {
    const lastOfPair = this.either(this.tokens(), this.subtract(this.add(size, size), this.integer(1)));
    const boundary = this.gatesAt(sums, chunk, this.subtract(lastOfPair, size));
    return this.exp2(this.negative(this.absolute(this.subtract(own, boundary))));
  }

  /** Goes through the sizes of blocks from 2^first on, in a loop, since one size after the other is in registers. */
  private sizes(
    first: number,
    initial: readonly KernelValue[],
    body: (size: KernelValue, carried: readonly KernelValue[]) => readonly KernelValue[],
  ): KernelValue[] {
    const trips = Math.log2(this.shape.steps) - first;
    return this.loop(trips, initial, (i, carried) =>
      body(this.shifted(this.integer(2 ** first), i), carried),
    );
  }

  /** The decay between tokens, 0 for those that do not come later: [steps, steps]. */
  private betweenAll(sums: KernelPointer, own: KernelValue, chunk: KernelValue): KernelValue {
    const { heads, steps } = this.shape;
    const distances = this.scaled(this.range([1, steps], 1), heads);
    const remaining = this.remaining(chunk);
    const exists = remaining && this.compare('slt', this.range([1, steps], 1), remaining);
    const row = this.load(this.begin(sums, chunk, 1, heads), distances, exists);
    return this.below(this.exp2(this.negative(this.absolute(this.subtract(own, row)))));
  }

  /**
   * Of each x with each y, sum over d of x_id y_jd 2^(c_id - c_jd) for j < i, else 0: [steps, steps], as ops/decayed-products.ts has it.
   * `sums` are c, and `own` those of the chunk.
   */
  decayedProducts(
    xs: readonly KernelValue[],
    ys: readonly KernelValue[],
    sums: KernelPointer,
    own: KernelValue,
    chunk: KernelValue,
  ): KernelValue[][] {
    const { isPerKey, steps } = this.shape;
    if (!isPerKey) {
      const decay = this.betweenAll(sums, own, chunk);
      return xs.map((x) => ys.map((y) => this.multiply(this.productTransposed(x, y), decay)));
    }
    const zeros = xs.flatMap(() => ys.map(() => this.fill(0, [steps, steps])));
    const products = this.sizes(0, zeros, (size, before) => {
      const decay = this.narrow(this.fromBoundary(sums, own, chunk, size), this.shape.element);
      const isOwn = this.both(this.inPair(size), this.isLater());
      const [decayedX, decayedY] = [xs, ys].map((all) => all.map((x) => this.multiply(x, decay))) as [
        KernelValue[],
        KernelValue[],
      ];
      return before.map((sum, n) => {
        const [x, y] = [decayedX[Math.floor(n / ys.length)]!, decayedY[n % ys.length]!];
        return this.where(isOwn, this.productTransposed(x, y), sum);
      });
    });
    return xs.map((_, i) => products.slice(i * ys.length, (i + 1) * ys.length));
  }

  /**
   * Of `gradients` of these products, for each x and y, those of the xs and of the ys. With a gate for each key the rows of an x in the second
   * block of a pair and of a y in the first are multiplied at once, by a symmetric matrix.
   */
  decayedProductsBack(
    xs: readonly KernelValue[],
    ys: readonly KernelValue[],
    gradients: readonly (readonly KernelValue[])[],
    sums: KernelPointer,
    own: KernelValue,
    chunk: KernelValue,
  ): [KernelValue[], KernelValue[]] {
    const { isPerKey, steps, keySize } = this.shape;
    const total = (terms: readonly KernelValue[]): KernelValue => terms.reduce((a, b) => this.add(a, b));
    if (!isPerKey) {
      const decay = this.betweenAll(sums, own, chunk);
      const each = gradients.map((row) => row.map((g) => this.multiply(g, decay)));
      return [
        xs.map((_, i) => total(ys.map((y, j) => this.product(each[i]![j]!, y)))),
        ys.map((_, j) => total(xs.map((x, i) => this.transposedProduct(each[i]![j]!, x)))),
      ];
    }
    const symmetric = gradients.map((row) =>
      row.map((g) => {
        const low = this.narrow(this.below(g), this.shape.element);
        return this.narrow(this.add(this.wide(low), this.wide(this.transposed(low))), this.shape.element);
      }),
    );
    const zero = this.fill(0, [steps, keySize]);
    let dX = xs.map(() => zero);
    // A loop for each y, since the registers do not hold the gradients of all.
    const dY = ys.map((y, j) => {
      const ends = this.sizes(0, [...dX, zero], (size, before) => {
        const decay = this.fromBoundary(sums, own, chunk, size);
        const narrow = this.narrow(decay, this.shape.element);
        const [isOwn, isSecond] = [this.inPair(size), this.isSecond(size)];
        const through = xs.map((x, i) => {
          const joint = this.multiply(this.where(isSecond, x, y), narrow);
          return this.product(this.maskedNarrow(isOwn, symmetric[i]![j]!), joint);
        });
        const back = (terms: readonly KernelValue[]): KernelValue => this.multiply(total(terms), decay);
        return before.map((sum, i) =>
          this.add(
            sum,
            i < xs.length
              ? this.where(isSecond, back([through[i]!]))
              : this.where(isSecond, zero, back(through)),
          ),
        );
      });
      dX = ends.slice(0, xs.length);
      return ends[xs.length]!;
    });
    return [dX, dY];
  }

  private maskedNarrow(condition: KernelValue, x: KernelValue): KernelValue {
    return this.where(condition, x, this.fill(0, x.dims, x.element as KernelPointer['element']));
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
    const [inverse] = this.sizes(1, [pairs], (size, [inverse]) => {
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
    const ends = this.loop(count, [initial, ...Object.values(first)], (i, [state, ...values]) => {
      const tiles = Object.fromEntries(names.map((name, n) => [name, values[n]!])) as Tiles;
      const next = load(at(this.minimum(this.add(i, this.integer(1)), last)));
      return [body(at(i), tiles, state!), ...Object.values(next)];
    });
    return ends[0]!;
  }

  /** The sum of all numbers that belong to one gate: those of a row; with a gate for each key each number. */
  perGate(x: KernelValue): KernelValue {
    return this.shape.isPerKey ? x : this.sum(x, 1);
  }

  /**
   * Of numbers of the tokens, [steps, keySize], for each gate the sum from its token on: [steps, gateSize]. One column is summed as a matrix:
   * not every version of the compiler has cumulative sums of what tensor cores made.
   */
  sinceGate(x: KernelValue): KernelValue {
    if (this.shape.isPerKey) return this.cumulative(x, 0, true);
    const isEarlier = this.compare('sgt', this.tokens(), this.range([1, this.shape.steps], 1));
    const row = this.sum(x, 1, 0);
    return this.sum(this.where(isEarlier, this.fill(0, row.dims), row), 1);
  }
}
