/** Definitions in float64 as their papers write them, one token after the other: the pieces that recurrent mixers share. */
import { type NdArray, tabulate, total } from '../../graph/testing/arrays.js';
import { silu } from './definition.js';

/** A parameter's value by its name. */
export type Weight = (name: string) => NdArray;

/** The integers from 0 to below `size`. */
export const range = (size: number): number[] => Array.from({ length: size }, (_, i) => i);

/** The inner product of two vectors. */
export const dot = (a: readonly number[], b: readonly number[]): number =>
  total(a.length, (i) => a[i]! * b[i]!);

/** x W^T (+ b) for the weight called `NAME.weight`: [batch, sequence, outputs]. */
export function linearOf(weight: Weight, name: string, x: NdArray, withBias = false): NdArray {
  const [batch, sequence, inputs] = x.dims as [number, number, number];
  const matrix = weight(`${name}.weight`);
  return tabulate(
    [batch, sequence, matrix.dims[0]!],
    (b, t, i) =>
      (withBias ? weight(`${name}.bias`).at(i!) : 0) +
      total(inputs, (j) => matrix.at(i!, j) * x.at(b!, t!, j)),
  );
}

/** silu of the causal convolution with `weight`, whose first channel for x is `first`. */
export function convolvedOf(weight: NdArray, x: NdArray, first = 0): NdArray {
  const kernel = weight.dims[2]!;
  return tabulate(x.dims, (b, t, i) =>
    silu(
      total(kernel, (j) => {
        const from = t! - kernel + 1 + j;
        return from < 0 ? 0 : weight.at(first + i!, 0, j) * x.at(b!, from, i!);
      }),
    ),
  );
}

/** The numbers of head `head` of size `size` at a token. */
export function headOf(x: NdArray, b: number, t: number, head: number, size: number): number[] {
  return range(size).map((i) => x.at(b, t, head * size + i));
}

/** Scaled to length 1, as the delta nets do. */
export function unit(values: readonly number[]): number[] {
  const length = Math.sqrt(dot(values, values) + 1e-6);
  return values.map((value) => value / length);
}

/** A vector divided by the root of its mean square, without a weight. */
export function rmsNormed(values: readonly number[], epsilon: number): number[] {
  const rms = Math.sqrt(dot(values, values) / values.length + epsilon);
  return values.map((value) => value / rms);
}

/** A state [keySize][valueSize] for a head, and what is done with it. */
export class Memory {
  constructor(private rows: number[][]) {}

  static zeros(keySize: number, valueSize: number): Memory {
    return new Memory(range(keySize).map(() => Array<number>(valueSize).fill(0)));
  }

  /** Multiplies each row by a factor of its own. */
  decay(factors: readonly number[]): void {
    this.rows = this.rows.map((row, i) => row.map((value) => value * factors[i]!));
  }

  /** S^T q */
  read(q: readonly number[]): number[] {
    return this.rows[0]!.map((_, j) => total(q.length, (i) => q[i]! * this.rows[i]![j]!));
  }

  /** S + k v^T */
  write(k: readonly number[], v: readonly number[]): void {
    this.rows = this.rows.map((row, i) => row.map((value, j) => value + k[i]! * v[j]!));
  }
}

/** What is computed for each token of each row in turn, from the first to the last: [batch, sequence, size]. */
export function tokenByToken(
  [batch, sequence, size]: readonly [number, number, number],
  startRow: (b: number) => (t: number) => readonly number[],
): NdArray {
  const rows = range(batch).map((b) => {
    const step = startRow(b);
    return range(sequence).map((t) => step(t));
  });
  return tabulate([batch, sequence, size], (b, t, i) => rows[b!]![t!]![i!]!);
}
