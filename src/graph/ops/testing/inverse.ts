/** Cases for inverses of matrices. */
import { NdArray, toArray } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { GRID, uniform } from '../../testing/random.js';
import { inverse } from '../inverse.js';

/** A^-1 for A [..., n, n] by Gauss and Jordan in float64. */
function expected({ dims, data }: NdArray): NdArray {
  const size = dims.at(-1)!;
  const result = new Float64Array(data.length);
  for (let start = 0; start < data.length; start += size * size) {
    const rows = Array.from({ length: size }, (_, i) => [
      ...data.subarray(start + i * size, start + (i + 1) * size),
      ...Array.from({ length: size }, (_, j) => Number(i === j)),
    ]);
    for (let i = 0; i < size; i++) {
      const pivot = rows
        .slice(i)
        .reduce((best, row) => (Math.abs(row[i]!) > Math.abs(best[i]!) ? row : best));
      const at = rows.indexOf(pivot);
      [rows[i], rows[at]] = [pivot, rows[i]!];
      const scaled = pivot.map((value) => value / pivot[i]!);
      for (const [j, row] of rows.entries()) {
        rows[j] = j === i ? scaled : row.map((value, k) => value - row[i]! * scaled[k]!);
      }
    }
    for (const [i, row] of rows.entries()) result.set(row.slice(size), start + i * size);
  }
  return new NdArray(dims, result);
}

/** I - A for a random A of which `spread` is the largest element: its symmetric part may be indefinite, but not by much. */
function nearIdentity(dims: readonly number[], spread: number) {
  const random = uniform(1, dims, -spread, spread);
  const size = dims.at(-1)!;
  const array = toArray(random);
  const data = Float32Array.from(array.data, (value, place) => {
    const [i, j] = [Math.floor(place / size) % size, place % size];
    return Math.round((Number(i === j) - value) / GRID) * GRID;
  });
  return { ...random, data };
}

/** Cases of the operator in inverse.ts. */
export const inverseCases: CaseTable = {
  inverse: [
    [[1, 1], 0.5],
    [[4, 4], 0.5],
    [[2, 5, 5], 0.25],
  ].map(([dims, spread]) => ({
    name: `[${dims}]`,
    operands: [nearIdentity(dims as number[], spread as number)],
    build: (a) => inverse(a!),
    expected: (a) => expected(a!),
  })),
};
