/** Linear least squares from the sums of products over examples. */

/** Ridge penalties that are tried, relative to the features' mean square. */
const PENALTIES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];

/** Sums over examples of x x^T and x y^T, for feature vectors x and outputs y. */
export class LeastSquares {
  /** The number of examples. */
  examples = 0;
  private readonly gram: Float64Array;
  private readonly moments: Float64Array;

  /** `features` includes a constant 1 if the map has a bias. */
  constructor(
    private readonly features: number,
    private readonly outputs: number,
  ) {
    this.gram = new Float64Array(features * features);
    this.moments = new Float64Array(features * outputs);
  }

  /** Adds an example: x [features], y [outputs]. */
  add(x: Float64Array, y: ArrayLike<number>): void {
    const { features, outputs, gram, moments } = this;
    this.examples++;
    for (let i = 0; i < features; i++) {
      const value = x[i]!;
      if (value === 0) continue;
      for (let j = 0; j <= i; j++) gram[i * features + j]! += value * x[j]!;
      for (let h = 0; h < outputs; h++) moments[i * outputs + h]! += value * y[h]!;
    }
  }

  /** The sum of squared errors of a map [features, outputs] over all examples, less a constant that is the same for all maps. */
  errorOf(map: Float64Array): number {
    const { features, outputs, gram, moments } = this;
    let error = 0;
    for (let h = 0; h < outputs; h++)
      for (let i = 0; i < features; i++) {
        const value = map[i * outputs + h]!;
        let product = 0;
        for (let j = 0; j < i; j++) product += gram[i * features + j]! * map[j * outputs + h]!;
        error += value * (2 * product + gram[i * features + i]! * value - 2 * moments[i * outputs + h]!);
      }
    return error;
  }

  /**
   * The map [features, outputs] of least squared error, by ridge regression; `penalty` is relative to the features' mean square. Without
   * `constant` the map ignores the last feature.
   */
  solve(penalty: number, constant = true): Float64Array {
    const { features, outputs, gram, moments } = this;
    const size = constant ? features : features - 1;
    let trace = 0;
    for (let i = 0; i < features; i++) trace += gram[i * features + i]!;
    const penalized = new Float64Array(size * size);
    for (let i = 0; i < size; i++) {
      penalized.set(gram.subarray(i * features, i * features + i + 1), i * size);
      penalized[i * size + i]! += (penalty * trace) / features + 1e-9;
    }
    const map = new Float64Array(features * outputs);
    map.set(solved(penalized, moments.subarray(0, size * outputs), size, outputs));
    return map;
  }

  /** The sums over the examples of both. */
  plus(other: LeastSquares): LeastSquares {
    const { features, outputs } = this;
    const both = new LeastSquares(features, outputs);
    both.examples = this.examples + other.examples;
    both.gram.set(this.gram.map((value, i) => value + other.gram[i]!));
    both.moments.set(this.moments.map((value, i) => value + other.moments[i]!));
    return both;
  }

  /** The penalty, of six powers of ten, whose map has the least squared error over the examples of `held`. */
  penaltyFor(held: LeastSquares): number {
    return leastBy(PENALTIES, (penalty) => held.errorOf(this.solve(penalty)));
  }

  /** The map with the least squared error over these examples; the first one among equals. */
  bestOf(maps: readonly Float64Array[]): Float64Array {
    return leastBy(maps, (map) => this.errorOf(map));
  }
}

/** The first of the items for which `measure` is the least. */
function leastBy<T>(items: readonly T[], measure: (item: T) => number): T {
  const values = items.map(measure);
  return items[values.indexOf(Math.min(...values))]!;
}

/** Solves a x = b for a [size, size] symmetric and positive definite (the lower half is read), b [size, columns], by Cholesky decomposition. */
function solved(a: Float64Array, b: Float64Array, size: number, columns: number): Float64Array {
  const l = a.slice();
  for (let j = 0; j < size; j++) {
    subtractProducts(l, size, j);
    const root = Math.sqrt(l[j * size + j]!);
    for (let i = j; i < size; i++) l[i * size + j]! /= root;
  }
  const x = b.slice();
  const substitute = (i: number, from: number, to: number, factorAt: (k: number) => number): void => {
    for (let k = from; k < to; k++) {
      const factor = l[factorAt(k)]!;
      for (let c = 0; c < columns; c++) x[i * columns + c]! -= factor * x[k * columns + c]!;
    }
    for (let c = 0; c < columns; c++) x[i * columns + c]! /= l[i * size + i]!;
  };
  for (let i = 0; i < size; i++) substitute(i, 0, i, (k) => i * size + k);
  for (let i = size - 1; i >= 0; i--) substitute(i, i + 1, size, (k) => k * size + i);
  return x;
}

/**
 * Column j of the factor l [size, size], from the diagonal on, before it is divided by its first element: subtracts the dot products of
 * row j with each row, over the columns before j. Four rows at a time: each element is a chain of dependent subtractions, and four
 * chains run side by side.
 */
function subtractProducts(l: Float64Array, size: number, j: number): void {
  const row = l.subarray(j * size, j * size + j);
  let i = j;
  for (; i + 4 <= size; i += 4) {
    const [p, q, r, s] = [i * size, (i + 1) * size, (i + 2) * size, (i + 3) * size];
    let [a, b, c, d] = [l[p + j]!, l[q + j]!, l[r + j]!, l[s + j]!];
    for (let k = 0; k < j; k++) {
      const value = row[k]!;
      a -= l[p + k]! * value;
      b -= l[q + k]! * value;
      c -= l[r + k]! * value;
      d -= l[s + k]! * value;
    }
    l[p + j] = a;
    l[q + j] = b;
    l[r + j] = c;
    l[s + j] = d;
  }
  for (; i < size; i++) {
    let value = l[i * size + j]!;
    for (let k = 0; k < j; k++) value -= l[i * size + k]! * row[k]!;
    l[i * size + j] = value;
  }
}
