/**
 * Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon): a momentum of the gradients of a matrix, of which only the directions count.
 * All its singular values are brought near to 1, so that a step changes what a layer makes of rare directions as much as of frequent ones.
 *
 * The step is scaled by 0.2 sqrt(max(rows, columns)) as in Moonlight (Liu et al., 2025, arXiv 2502.16982): its root mean square is then that
 * of a usual step of AdamW, whose learning rate and weight decay serve for both.
 */
import { add, divide, matmul, multiply, sqrt, subtract, sum, type Tensor, wide } from '../graph/index.js';
import { lettersOf, type Model } from '../models/index.js';
import type { ParameterSpec } from '../nn/index.js';
import type { StepFactors } from './optimizer.js';

/** Coefficients of the polynomial a x + b x^3 + c x^5, whose slope at 0 is large: it does not settle at 1, but between 0.7 and 1.2. */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const ITERATIONS = 5;

/**
 * Whether Muon steps a parameter: the matrices of layers, and those of experts, of which one tensor [experts, rows, columns] has several.
 * Embeddings and heads, biases, convolutions, and what sets time scales stay with AdamW.
 */
export function isMatrixOfLayer(spec: ParameterSpec, model: Model): boolean {
  const { name, shape, decay, isMatrix = shape.length === 2 } = spec;
  return lettersOf(model, name).length > 0 && decay && isMatrix && Math.min(...shape.slice(-2)) > 1;
}

/** One matrix's step [.., rows, columns]: the new one, and its new momentum. The gradient comes unclipped. */
export function muon(
  decay: number,
  parameter: Tensor,
  gradient: Tensor,
  momentum: Tensor,
  { clip, kept, learningRate }: StepFactors,
): { parameter: Tensor; momentum: Tensor } {
  const clipped = multiply(wide(gradient), clip);
  const next = add(multiply(momentum, decay), clipped);
  // Nesterov's: where the momentum will be.
  const direction = orthogonal(add(clipped, multiply(next, decay)));
  const longest = Math.max(...(parameter.shape.slice(-2) as number[]));
  const update = multiply(direction, multiply(learningRate, 0.2 * Math.sqrt(longest)));
  return { parameter: subtract(multiply(parameter, kept), update), momentum: next };
}

/** Matrices [.., rows, columns] with the same singular vectors, and singular values of about 1, by the iteration of Newton and Schulz. */
export function orthogonal(matrix: Tensor): Tensor {
  const [rows, columns] = matrix.shape.slice(-2) as [number, number];
  const isTall = rows > columns;
  const last = [matrix.rank - 2, matrix.rank - 1];
  const norm = sqrt(sum(multiply(matrix, matrix), last, { keepDims: true }));
  let x = divide(matrix, add(norm, 1e-7));
  for (let i = 0; i < ITERATIONS; i++) {
    // Products of the shorter side with itself: x^T x commutes with x as x x^T does.
    const squared = isTall ? matmul(x, x, { transposeA: true }) : matmul(x, x, { transposeB: true });
    const factor = add(multiply(squared, B), multiply(matmul(squared, squared), C));
    x = add(multiply(x, A), isTall ? matmul(x, factor) : matmul(factor, x));
  }
  return x;
}
