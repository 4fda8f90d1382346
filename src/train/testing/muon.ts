/** Muon in float64, matrix by matrix, as Jordan et al. (2024) and Liu et al. (2025) write it. */

/** A parameter and its momentum in float64. */
export interface MuonState {
  readonly parameter: Float64Array;
  readonly momentum: Float64Array;
}

/** The settings of one step of Muon. */
export interface MuonStep {
  readonly momentumDecay: number;
  readonly weightDecay: number;
  readonly learningRate: number;
}

/** A step of matrices [count, rows, columns] with a gradient that is clipped already. */
export function muonReference(
  { momentumDecay, weightDecay, learningRate }: MuonStep,
  { parameter, momentum }: MuonState,
  gradient: Float64Array,
  [count, rows, columns]: readonly [number, number, number],
): MuonState {
  const next = momentum.map((m, i) => momentumDecay * m + gradient[i]!);
  const direction = next.map((m, i) => gradient[i]! + momentumDecay * m);
  const scale = 0.2 * Math.sqrt(Math.max(rows, columns)) * learningRate;
  const stepped = parameter.map((p) => p * (1 - learningRate * weightDecay));
  for (let i = 0; i < count; i++) {
    const [start, size] = [i * rows * columns, rows * columns];
    const update = orthogonalReference(direction.subarray(start, start + size), rows, columns);
    for (const [j, value] of update.entries()) stepped[start + j]! -= scale * value;
  }
  return { parameter: stepped, momentum: next };
}

/** Five times x <- 3.4445 x - 4.775 (x x^T) x + 2.0315 (x x^T)^2 x, from a matrix of norm 1. */
function orthogonalReference(matrix: Float64Array, rows: number, columns: number): Float64Array {
  const norm = Math.hypot(...matrix);
  let x = matrix.map((value) => value / (norm + 1e-7));
  for (let step = 0; step < 5; step++) {
    const transposed = x.map((_, i) => x[(i % rows) * columns + Math.floor(i / rows)]!);
    const squared = product(x, transposed, rows, columns, rows);
    const once = product(squared, x, rows, rows, columns);
    const twice = product(squared, once, rows, rows, columns);
    x = x.map((value, i) => 3.4445 * value - 4.775 * once[i]! + 2.0315 * twice[i]!);
  }
  return x;
}

function product(
  a: Float64Array,
  b: Float64Array,
  rows: number,
  inner: number,
  columns: number,
): Float64Array {
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++)
      for (let k = 0; k < inner; k++) result[i * columns + j]! += a[i * inner + k]! * b[k * columns + j]!;
  return result;
}
