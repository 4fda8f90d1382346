/** Cases for cumulative sums of angles. */
import { tabulate, total } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { runningAngles } from '../angles.js';

/** Cases of the operators in angles.ts. */
export const angleCases: CaseTable = {
  runningAngles: [
    {
      name: '[2,4,3] from 0',
      operands: [uniform(1, [2, 4, 3], -0.7, 0.7)],
      build: (steps) => runningAngles(steps!),
      expected: (steps) => tabulate([2, 4, 3], (b, t, i) => total(t + 1, (s) => steps!.at(b, s, i))),
    },
    {
      name: '[1,3,2,1] behind others',
      operands: [uniform(1, [1, 3, 2, 1], -0.7, 0.7), uniform(2, [1, 2, 1], -0.7, 0.7)],
      build: (steps, before) => runningAngles(steps!, before!),
      expected: (steps, before) =>
        tabulate(
          [1, 3, 2, 1],
          (b, t, i, j) => before!.at(b, i, j) + total(t + 1, (s) => steps!.at(b, s, i, j)),
        ),
    },
  ],
};
