/** What is proved of an operator: a small graph of it, and what that means. */
import type { HostTensor } from '../../engine/index.js';
import { constant, gradient, input, type Tensor } from '../index.js';
import type { NdArray } from './arrays.js';
import { uniform } from './random.js';

/** One use of an operator: its operands, the graph, and what it must compute. */
export interface OperatorCase {
  readonly name: string;
  readonly operands: readonly HostTensor[];
  build(...operands: Tensor[]): Tensor | readonly Tensor[];
  /** What `build` means, in float64. */
  expected(...operands: NdArray[]): NdArray | readonly NdArray[];
}

/** Cases by the name of the operator that they prove. */
export type CaseTable = Readonly<Record<string, readonly OperatorCase[]>>;

/** A case's graph: operands named `operand0`, results `value0` and, if wanted, gradients `gradient0`. */
export function graphOf(
  { operands, build }: Pick<OperatorCase, 'operands' | 'build'>,
  withGradients: boolean,
): Record<string, Tensor> {
  const leaves = operands.map(({ dtype, dims }, i) => input(`operand${i}`, dtype, dims));
  const results = [build(...leaves)].flat() as Tensor[];
  const graph: Record<string, Tensor> = {};
  for (const [i, result] of results.entries()) graph[`value${i}`] = result;
  if (!withGradients) return graph;
  const smooth = results.filter(({ dtype }) => dtype === 'float32');
  const seeds = smooth.map(({ shape }, i) => {
    const dims = shape as readonly number[];
    return constant(uniform(1000 + i, dims).data as Float32Array, dims);
  });
  const parts = gradient(
    smooth,
    leaves.filter(({ dtype }) => dtype === 'float32'),
    seeds,
  );
  for (const [i, leaf] of leaves.entries()) {
    if (leaf.dtype === 'float32') graph[`gradient${i}`] = parts.shift()!;
  }
  return graph;
}

/** The operands of a case by the names of the inputs that `build` gets. */
export function feedsOf({ operands }: Pick<OperatorCase, 'operands'>): Record<string, HostTensor> {
  return Object.fromEntries(operands.map((operand, i) => [`operand${i}`, operand]));
}
