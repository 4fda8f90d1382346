/**
 * A chain of masses between two walls, with a spring between neighbours and a damper at each mass, whose first mass is driven by a
 * force: a system with known poles.
 *
 *     q'' = -K q - C q' + F e_1      K = k tridiag(-1, 2, -1)      C = diag(c_1 .. c_n)
 */
import type { Random } from '../nn/index.js';

/** Masses of the chain. */
export const MASSES = 4;
/** k of the springs and c of the dampers, for masses of 1 and the sampling interval as the unit of time. */
const STIFFNESS = 0.15;
const DAMPING = [0.04, 0.07, 0.1, 0.13];

/** A square matrix, by rows. */
export type Matrix = readonly (readonly number[])[];

/** A complex number. */
export interface Complex {
  readonly re: number;
  readonly im: number;
}

/** A of x' = A x + B F, where x is the positions, then the velocities. */
function chainMatrix(): Matrix {
  const size = 2 * MASSES;
  return Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (_, j) => {
      if (i < MASSES) return j === i + MASSES ? 1 : 0;
      const mass = i - MASSES;
      if (j === i) return -DAMPING[mass]!;
      if (j === mass) return -2 * STIFFNESS;
      return Math.abs(j - mass) === 1 && j < MASSES ? STIFFNESS : 0;
    }),
  );
}

/** The exact response to a piecewise constant force, from rest: the positions after each sample, [samples, MASSES]. */
export function driven(force: Float32Array): Float32Array {
  const A = chainMatrix();
  const size = A.length;
  // The upper rows of the exponential of [[A, B], [0, 0]] are both matrices of a discrete step.
  const augmented = Array.from({ length: size + 1 }, (_, i) =>
    Array.from({ length: size + 1 }, (_, j) =>
      i === size ? 0 : j < size ? A[i]![j]! : i === MASSES ? 1 : 0,
    ),
  );
  const step = exponential(augmented).slice(0, size);
  const places = new Float32Array(force.length * MASSES);
  let x = new Array<number>(size).fill(0);
  for (const [t, F] of force.entries()) {
    const given = [...x, F];
    x = step.map((row) => row.reduce((sum, value, j) => sum + value * given[j]!, 0));
    places.set(x.slice(0, MASSES), t * MASSES);
  }
  return places;
}

/** A random force: independent normal samples. */
export function randomForce(random: Random, length: number): Float32Array {
  return Float32Array.from({ length }, () => random.normal());
}

/** e^A by the series for A / 256, squared eight times. */
function exponential(A: Matrix): Matrix {
  const small = A.map((row) => row.map((value) => value / 256));
  let [sum, term] = [identity(A.length), identity(A.length)];
  for (let i = 1; i < 12; i++) {
    term = product(term, small).map((row) => row.map((value) => value / i));
    sum = sum.map((row, a) => row.map((value, b) => value + term[a]![b]!));
  }
  for (let i = 0; i < 8; i++) sum = product(sum, sum);
  return sum;
}

function identity(size: number): number[][] {
  return Array.from({ length: size }, (_, i) => Array.from({ length: size }, (_, j) => (i === j ? 1 : 0)));
}

function product(a: Matrix, b: Matrix): number[][] {
  return a.map((row) => b[0]!.map((_, j) => row.reduce((sum, value, k) => sum + value * b[k]![j]!, 0)));
}

/**
 * The eigenvalues of a small matrix: the characteristic polynomial by the Faddeev-LeVerrier algorithm, and all its roots at once by
 * the Weierstrass (Durand-Kerner) iteration.
 */
export function eigenvalues(A: Matrix): Complex[] {
  const size = A.length;
  const coefficients = [1];
  let M = identity(size);
  for (let k = 1; k <= size; k++) {
    const next = product(A, M);
    const c = -next.reduce((sum, row, i) => sum + row[i]!, 0) / k;
    coefficients.push(c);
    M = next.map((row, i) => row.map((value, j) => (i === j ? value + c : value)));
  }
  const bound = 1 + Math.max(...coefficients.map(Math.abs));
  let roots = Array.from({ length: size }, (_, i) => {
    const angle = (2 * Math.PI * (i + 0.3)) / size;
    const radius = Math.min(bound, 1.1);
    return { re: radius * Math.cos(angle), im: radius * Math.sin(angle) };
  });
  for (let i = 0; i < 1000; i++) {
    roots = roots.map((root, a) => {
      const value = coefficients.reduce((sum, c) => plus(times(sum, root), { re: c, im: 0 }), {
        re: 0,
        im: 0,
      });
      const others = roots.filter((_, b) => b !== a);
      const slope = others.reduce((all, other) => times(all, plus(root, negative(other))), { re: 1, im: 0 });
      return plus(root, negative(over(value, slope)));
    });
  }
  return roots.sort((a, b) => a.im - b.im || a.re - b.re);
}

/** The poles of the chain that have a positive imaginary part. */
export function chainPoles(): Complex[] {
  return eigenvalues(chainMatrix()).filter(({ im }) => im > 0);
}

/** The logarithm: converts a pole in discrete time with step 1 to continuous time. */
export function logarithm({ re, im }: Complex): Complex {
  return { re: Math.log(Math.hypot(re, im)), im: Math.atan2(im, re) };
}

function plus(a: Complex, b: Complex): Complex {
  return { re: a.re + b.re, im: a.im + b.im };
}

function negative({ re, im }: Complex): Complex {
  return { re: -re, im: -im };
}

function times(a: Complex, b: Complex): Complex {
  return { re: a.re * b.re - a.im * b.im, im: a.re * b.im + a.im * b.re };
}

function over(a: Complex, b: Complex): Complex {
  const length = b.re ** 2 + b.im ** 2;
  const { re, im } = times(a, { re: b.re, im: -b.im });
  return { re: re / length, im: im / length };
}
