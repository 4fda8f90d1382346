/**
 * Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon): momentum of a matrix's gradients, orthogonalized: all singular values are
 * brought close to 1, so that a step changes rare directions as much as frequent ones.
 *
 * The step is scaled by 0.2 sqrt(max(rows, columns)) as in Moonlight (Liu et al., 2025, arXiv 2502.16982), which gives it the root mean square of
 * a typical AdamW step, so that both share the learning rate and weight decay.
 */
import { add, divide, matmul, multiply, sqrt, subtract, sum, type Tensor, wide } from '../graph/index.js';
import { lettersOf, type Model } from '../models/index.js';
import type { ParameterSpec } from '../nn/index.js';
import type { StepFactors } from './optimizer.js';

/** Coefficients of the polynomial a x + b x^3 + c x^5, with a large slope at 0: it converges not to 1, but to between 0.7 and 1.2. */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const ITERATIONS = 5;

/**
 * Whether Muon updates a parameter: the matrices of layers, including experts' matrices [experts, rows, columns]. Embeddings, heads, biases,
 * convolutions and time-scale parameters use AdamW.
 */
export function isMatrixOfLayer(spec: ParameterSpec, model: Model): boolean {
  const { name, shape, decay, isMatrix = shape.length === 2 } = spec;
  return lettersOf(model, name).length > 0 && decay && isMatrix && Math.min(...shape.slice(-2)) > 1;
}

/** One step of a matrix [.., rows, columns]: its new value and momentum, from the unclipped gradient. */
export function muon(
  decay: number,
  parameter: Tensor,
  gradient: Tensor,
  momentum: Tensor,
  { clip, kept, learningRate }: StepFactors,
): { parameter: Tensor; momentum: Tensor } {
  const clipped = multiply(wide(gradient), clip);
  const next = add(multiply(momentum, decay), clipped);
  // Nesterov momentum.
  const direction = orthogonal(add(clipped, multiply(next, decay)));
  const longest = Math.max(...(parameter.shape.slice(-2) as number[]));
  const update = multiply(direction, multiply(learningRate, 0.2 * Math.sqrt(longest)));
  return { parameter: subtract(multiply(parameter, kept), update), momentum: next };
}

/** Orthogonalizes matrices [.., rows, columns] by the Newton-Schulz iteration: same singular vectors, singular values of about 1. */
function orthogonal(matrix: Tensor): Tensor {
  const [rows, columns] = matrix.shape.slice(-2) as [number, number];
  const isTall = rows > columns;
  const last = [matrix.rank - 2, matrix.rank - 1];
  const norm = sqrt(sum(multiply(matrix, matrix), last, { keepDims: true }));
  let x = divide(matrix, add(norm, 1e-7));
  for (let i = 0; i < ITERATIONS; i++) {
    // Uses the smaller of the Gram matrices x x^T and x^T x.
    const squared = isTall ? matmul(x, x, { transposeA: true }) : matmul(x, x, { transposeB: true });
    const factor = add(multiply(squared, B), multiply(matmul(squared, squared), C));
    x = add(multiply(x, A), isTall ? matmul(x, factor) : matmul(factor, x));
  }
  return x;
}
