/** Cases for inverses of triangular matrices. */
import { NdArray } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { unitTriangularInverse } from '../triangular.js';

/** (I + A)^-1 for the part of A [..., n, n] below the diagonal, by forward substitution in float64. */
function expected({ dims, data }: NdArray): NdArray {
  const size = dims.at(-1)!;
  const inverse = new Float64Array(data.length);
  for (let start = 0; start < data.length; start += size * size) {
    for (let i = 0; i < size; i++) {
      const row = start + i * size;
      inverse[row + i] = 1;
      for (let k = 0; k < i; k++) {
        for (let j = 0; j <= k; j++) inverse[row + j]! -= data[row + k]! * inverse[start + k * size + j]!;
      }
    }
  }
  return new NdArray(dims, inverse);
}

/** Cases of the operator in triangular.ts. */
export const triangularCases: CaseTable = {
  unitTriangularInverse: [
    [1, 1],
    [2, 2],
    [4, 4],
    [2, 5, 5],
    [2, 1, 8, 8],
  ].map((dims) => ({
    name: `[${dims}]`,
    operands: [uniform(1, dims, -0.5, 0.5)],
    build: (a) => unitTriangularInverse(a!),
    expected: (a) => expected(a!),
  })),
};
