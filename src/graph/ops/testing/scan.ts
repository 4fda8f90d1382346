/** Cases for the scan over states. */
import type { HostTensor } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { NdArray, total } from '../../testing/arrays.js';
import type { CaseTable, OperatorCase } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { transpose } from '../layout.js';
import { type ScanAttributes, scan } from '../scan.js';

/** The scan in float64, step by step: transitions [steps, rows or 1, columns or 1] or [steps, rows, rows]. */
function expected(
  { product, reverse }: ScanAttributes,
  transition: NdArray,
  added: NdArray,
  initial: NdArray,
): NdArray[] {
  const [steps, rows, columns] = added.dims as [number, number, number];
  let state = initial.data.slice();
  const states = new Float64Array(added.data.length);
  for (let step = 0; step < steps; step++) {
    const n = reverse ? steps - 1 - step : step;
    states.set(state, n * rows * columns);
    state = state.map((value, place) => {
      const [i, j] = [Math.floor(place / columns), place % columns];
      const other = state[(1 - i) * columns + j]!;
      const moved =
        product === 'elements'
          ? transition.at(n, i, j) * value
          : product === 'complex'
            ? transition.at(n, 0, j) * value + (i === 0 ? -1 : 1) * transition.at(n, 1, j) * other
            : total(rows, (k) => {
                const weight = product === 'matrix' ? transition.at(n, i, k) : transition.at(n, k, i);
                return weight * state[k * columns + j]!;
              });
      return moved + added.at(n, i, j);
    });
  }
  return [new NdArray(added.dims, states), new NdArray(initial.dims, state)];
}

function proof(attributes: ScanAttributes, transition: HostTensor): OperatorCase {
  const steps = transition.dims[0]!;
  return {
    name: `${attributes.product}${attributes.reverse ? ' from the last' : ''}, transitions [${transition.dims}]${attributes.axis === 1 ? ', steps along axis 1' : ''}`,
    operands: [transition, uniform(2, [steps, 2, 3]), uniform(3, [2, 3])],
    build(a, b, initial) {
      const placed = (x: Tensor): Tensor => (attributes.axis === 1 ? transpose(x, [1, 0, 2]) : x);
      const { states, last } = scan(placed(a!), placed(b!), initial!, attributes);
      return [placed(states), last];
    },
    expected: (a, b, initial) => expected(attributes, a!, b!, initial!),
  };
}

/** Cases of the operator in scan.ts. */
export const scanCases: CaseTable = {
  scan: [false, true].flatMap((reverse) => [
    ...[
      [4, 2, 3],
      [4, 2, 1],
      [3, 1, 1],
      [1, 1, 3],
      [21, 2, 3],
    ].map((dims) => proof({ product: 'elements', reverse }, uniform(1, dims))),
    ...[
      [4, 2, 3],
      [3, 2, 1],
    ].map((dims) => proof({ product: 'complex', reverse }, uniform(1, dims))),
    ...(['matrix', 'transposed'] as const).map((product) =>
      proof({ product, reverse }, uniform(1, [7, 2, 2])),
    ),
    ...(['elements', 'complex'] as const).map((product) =>
      proof({ product, reverse, axis: 1 }, uniform(1, [7, 2, 3])),
    ),
  ]),
};
