/** Matrix inversion by Newton's iteration. */
import { ShapeError } from '../../errors.js';
import { applyOne, defineComposite, type Tensor } from '../tensor.js';
import { sum } from './broadcast.js';
import { divide, multiply, negate, subtract } from './elementwise.js';
import { transpose } from './layout.js';
import { matmul } from './matmul.js';
import { identity } from './triangular.js';

/**
 * Newton's iteration X' = X (2 - A X) (Schulz, 1933), started at A^T / |A|^2 (Frobenius norm), always converges: linearly for about
 * 2 log2(|A| |A^-1|) steps, then quadratically for 5 more. This number is enough for a condition number of 1000.
 */
const ITERATIONS = 26;

const inverseOperator = defineComposite<null>({
  name: 'inverse',
  infer([a]) {
    const [rows, columns] = a!.shape.slice(-2);
    if (a!.dtype !== 'float32' || a!.shape.length < 2 || rows !== columns) {
      throw new ShapeError('expected square float32 matrices');
    }
    return [{ dtype: 'float32', shape: a!.shape }];
  },
  gradient: ({ outputs: [inverse], outputGradients: [g] }) => [
    negate(matmul(matmul(inverse!, g!, { transposeA: true }), inverse!, { transposeB: true })),
  ],
  expand([a]) {
    const axes = [...a!.shape.keys()];
    const swapped = transpose(a!, [...axes.slice(0, -2), axes.at(-1)!, axes.at(-2)!]);
    const two = multiply(identity(a!.shape.at(-1)!), 2);
    let x = divide(swapped, sum(multiply(a!, a!), [-2, -1], { keepDims: true }));
    for (let i = 0; i < ITERATIONS; i++) x = matmul(x, subtract(two, matmul(a!, x)));
    return [x];
  },
});

/**
 * The inverses of A [..., size, size], for condition numbers |A| |A^-1| up to 1000 (Frobenius norm of A, spectral norm of the
 * inverse), such as I plus a matrix with a positive symmetric part. Throws `ShapeError` for matrices that are not square.
 */
export function inverse(a: Tensor): Tensor {
  return applyOne(inverseOperator, [a], null);
}
