/** Cases for softmax, the cross-entropy loss and RMS normalisation. */
import { int64 } from '../../../engine/index.js';
import type { Tensor } from '../../tensor.js';
import { type NdArray, tabulate, total } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { spaced, uniform } from '../../testing/random.js';
import { crossEntropy, logSoftmax, logSumExp, rmsNorm, softmax } from '../normalize.js';

const DIMS = [[4], [2, 3], [1, 1], [2, 1, 5]];

/** f(x, sum(exp(x))) for each element x, with the sum over its row. */
function byRow(x: NdArray, f: (value: number, sum: number) => number): NdArray {
  const size = x.dims.at(-1)!;
  return tabulate(x.dims, (...index) => {
    const row = index.slice(0, -1);
    return f(
      x.at(...index),
      total(size, (i) => Math.exp(x.at(...row, i))),
    );
  });
}

/** Tokens, vocabulary and labels. */
const LOSSES: readonly [number, number, readonly number[]][] = [
  [3, 5, [4, 0, 2]],
  [1, 2, [1]],
  [2, 1, [0, 0]],
];

/** Cases of the operators in normalize.ts. */
export const normalizeCases: CaseTable = {
  softmax: DIMS.map((dims) => ({
    name: `[${dims}]`,
    operands: [uniform(1, dims, -2, 2)],
    build: (...[x]: Tensor[]) => softmax(x!),
    expected: (...[x]: NdArray[]) => byRow(x!, (value, sum) => Math.exp(value) / sum),
  })),
  logSoftmax: DIMS.map((dims) => ({
    name: `[${dims}]`,
    operands: [uniform(1, dims, -2, 2)],
    build: (...[x]: Tensor[]) => logSoftmax(x!),
    expected: (...[x]: NdArray[]) => byRow(x!, (value, sum) => value - Math.log(sum)),
  })),
  max: DIMS.map((dims) => ({
    name: `logSumExp of [${dims}]`,
    operands: [spaced(1, dims, -1)],
    build: (...[x]: Tensor[]) => logSumExp(x!),
    expected: (...[x]: NdArray[]) =>
      tabulate(dims.slice(0, -1), (...row) =>
        Math.log(total(dims.at(-1)!, (i) => Math.exp(x!.at(...row, i)))),
      ),
  })),
  crossEntropy: LOSSES.map(([tokens, vocabulary, labels]) => ({
    name: `${tokens} tokens of ${vocabulary}`,
    operands: [uniform(2, [tokens, vocabulary], -2, 2), int64(labels, [tokens])],
    build: (...[logits, target]: Tensor[]) => crossEntropy(logits!, target!),
    expected: (...[logits]: NdArray[]) =>
      tabulate([tokens], (i) => {
        const sum = total(vocabulary, (j) => Math.exp(logits!.at(i, j)));
        return Math.log(sum) - logits!.at(i, labels[i]!);
      }),
  })),
  rmsNorm: [...DIMS, [3, 7]].map((dims) => ({
    name: `[${dims}]`,
    operands: [uniform(3, dims, -2, 2), uniform(4, dims.slice(-1), 0.5, 1.5)],
    build: (...[x, weight]: Tensor[]) => rmsNorm(x!, weight!, 1e-2),
    expected: (...[x, weight]: NdArray[]) =>
      tabulate(dims, (...index) => {
        const size = dims.at(-1)!;
        const row = index.slice(0, -1);
        const square = total(size, (i) => x!.at(...row, i) ** 2) / size;
        return (x!.at(...index) / Math.sqrt(square + 1e-2)) * weight!.at(index.at(-1)!);
      }),
  })),
};
