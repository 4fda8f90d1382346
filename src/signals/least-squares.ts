/** Linear maps by least squares, from sums over examples. */

/** Penalties that are tried, as shares of the features' mean square. */
const PENALTIES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];

/** Sums over examples of a feature vector x and of what is to come of it. */
export class LeastSquares {
  /** How many were taken in. */
  examples = 0;
  private readonly gram: Float64Array;
  private readonly moments: Float64Array;

  /** From `features` numbers, the constant 1 among them if one is wanted, to `outputs`. */
  constructor(
    private readonly features: number,
    private readonly outputs: number,
  ) {
    this.gram = new Float64Array(features * features);
    this.moments = new Float64Array(features * outputs);
  }

  /** Takes in an example. */
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

  /** The sum over all examples of the squared errors of a map [features, outputs], less the constant that is the same for all maps. */
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

  /** The map [features, outputs] that misses least; `penalty` times the features' mean square is added to the squares of its numbers. */
  solve(penalty: number): Float64Array {
    const { features, outputs } = this;
    const penalized = this.gram.slice();
    let trace = 0;
    for (let i = 0; i < features; i++) trace += penalized[i * features + i]!;
    for (let i = 0; i < features; i++) penalized[i * features + i]! += (penalty * trace) / features + 1e-9;
    return solved(penalized, this.moments, features, outputs);
  }

  /** The map [features, outputs] with the penalty, among some powers of ten, that misses least over the examples of `held`. */
  solveFor(held: LeastSquares): Float64Array {
    const maps = PENALTIES.map((penalty) => this.solve(penalty));
    const errors = maps.map((map) => held.errorOf(map));
    return maps[errors.indexOf(Math.min(...errors))]!;
  }
}

/** a [size, size] symmetric and positive, of which the lower half is read, b [size, columns] -> a^-1 b, by Cholesky's factors. */
function solved(a: Float64Array, b: Float64Array, size: number, columns: number): Float64Array {
  const l = a.slice();
  for (let j = 0; j < size; j++) {
    for (let k = 0; k < j; k++)
      for (let i = j; i < size; i++) l[i * size + j]! -= l[i * size + k]! * l[j * size + k]!;
    const root = Math.sqrt(l[j * size + j]!);
    for (let i = j; i < size; i++) l[i * size + j]! /= root;
  }
  const x = b.slice();
  for (let c = 0; c < columns; c++) {
    for (let i = 0; i < size; i++) {
      for (let k = 0; k < i; k++) x[i * columns + c]! -= l[i * size + k]! * x[k * columns + c]!;
      x[i * columns + c]! /= l[i * size + i]!;
    }
    for (let i = size - 1; i >= 0; i--) {
      for (let k = i + 1; k < size; k++) x[i * columns + c]! -= l[k * size + i]! * x[k * columns + c]!;
      x[i * columns + c]! /= l[i * size + i]!;
    }
  }
  return x;
}
