/** Cases for mixtures of experts: each token's sum over its experts, one MLP at a time. */
import { float32, type HostTensor } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { type NdArray, tabulate, total } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { type ExpertActivation, experts } from '../experts.js';

/** Sizes of a mixture of experts. */
export interface Sizes {
  readonly tokens: number;
  readonly hidden: number;
  readonly count: number;
  readonly inner: number;
  readonly activation: ExpertActivation;
}

/** x, weights, up and down, in which token t uses the experts `chosen[t]`. */
export function expertOperands(
  { tokens, hidden, count, inner, activation }: Sizes,
  chosen: readonly (readonly number[])[],
): [HostTensor, HostTensor, HostTensor, HostTensor] {
  const weights = tabulate([tokens, count], (t, e) => {
    const rank = chosen[t]!.indexOf(e);
    return rank < 0 ? 0 : 0.75 / (rank + 1);
  });
  return [
    uniform(1, [tokens, hidden], -2, 2),
    float32(weights.data, weights.dims),
    uniform(3, [count, activation === 'swiglu' ? 2 * inner : inner, hidden]),
    uniform(4, [count, hidden, inner]),
  ];
}

/** The definition of `experts` in float64. */
export function referenceExperts(
  { tokens, hidden, count, inner, activation }: Sizes,
  [x, weights, up, down]: readonly NdArray[],
): NdArray {
  return tabulate([tokens, hidden], (t, h) =>
    total(count, (e) => {
      if (weights!.at(t, e) === 0) return 0;
      const raised = (row: number): number => total(hidden, (i) => up!.at(e, row, i) * x!.at(t, i));
      const activated = (i: number): number =>
        activation === 'relu2'
          ? Math.max(raised(i), 0) ** 2
          : (raised(i) / (1 + Math.exp(-raised(i)))) * raised(inner + i);
      return weights!.at(t, e) * total(inner, (i) => down!.at(e, h, i) * activated(i));
    }),
  );
}

/** By name: the experts that each token uses, and the number of experts. */
const CHOICES: Readonly<Record<string, { count: number; chosen: readonly (readonly number[])[] }>> = {
  'two of four each': {
    count: 4,
    chosen: [
      [3, 0],
      [1, 3],
      [0, 1],
    ],
  },
  'two at most, of one token none': { count: 3, chosen: [[2], [], [0, 2]] },
  'all of two, one token': { count: 2, chosen: [[1, 0]] },
  'the only one': { count: 1, chosen: [[0], [0]] },
};

/** Cases of the operator in experts.ts. */
export const expertCases: CaseTable = {
  experts: (['swiglu', 'relu2'] as const).flatMap((activation) =>
    Object.entries(CHOICES).map(([name, { count, chosen }]) => {
      const sizes: Sizes = { tokens: chosen.length, hidden: 3, count, inner: 2, activation };
      const perToken = Math.max(...chosen.map(({ length }) => length));
      return {
        name: `${activation}, ${name}`,
        operands: expertOperands(sizes, chosen),
        build: (...[x, weights, up, down]: Tensor[]) =>
          experts({ x: x!, weights: weights!, up: up!, down: down! }, { activation, perToken }),
        expected: (...operands: NdArray[]) => referenceExperts(sizes, operands),
      };
    }),
  ),
};
