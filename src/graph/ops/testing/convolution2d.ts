/** Cases for 2D convolution: strides, sides that the stride does not divide, one channel, depthwise. */
import { NdArray, tabulate, total } from '../../testing/arrays.js';
import type { CaseTable } from '../../testing/operator-case.js';
import { uniform } from '../../testing/random.js';
import { convolution2d } from '../convolution2d.js';

interface Case {
  readonly x: readonly [batch: number, height: number, width: number, channels: number];
  readonly weight: readonly [outputs: number, channels: number, rows: number, columns: number];
  readonly stride: number;
}

const CASES: readonly Case[] = [
  { x: [2, 3, 2, 2], weight: [3, 2, 3, 3], stride: 1 },
  { x: [1, 5, 4, 2], weight: [2, 2, 3, 3], stride: 2 },
  { x: [1, 4, 3, 1], weight: [2, 1, 3, 3], stride: 2 },
  { x: [1, 2, 3, 2], weight: [3, 2, 1, 1], stride: 1 },
  { x: [2, 2, 3, 2], weight: [2, 1, 3, 3], stride: 1 },
  { x: [1, 2, 2, 2], weight: [2, 1, 3, 5], stride: 1 },
  { x: [1, 3, 4, 2], weight: [2, 1, 3, 3], stride: 2 },
  { x: [1, 5, 4, 1], weight: [2, 1, 1, 1], stride: 3 },
  { x: [1, 5, 3, 2], weight: [1, 2, 5, 3], stride: 2 },
  { x: [1, 4, 5, 2], weight: [2, 2, 3, 7], stride: 3 },
  { x: [1, 2, 3, 0], weight: [0, 0, 3, 3], stride: 1 },
];

/** Cases of the operator in convolution2d.ts. */
export const convolution2dCases: CaseTable = {
  convolution2d: CASES.map(({ x, weight, stride }, i) => ({
    name: `[${x}] by [${weight}]${stride === 1 ? '' : `, every ${stride} places`}`,
    operands: [uniform(10 + i, x), uniform(20 + i, weight)],
    build: (image, kernel) => convolution2d(image!, kernel!, { stride }),
    expected(image, kernel) {
      const [batch, height, width, channels] = x;
      const [outputs, inner, rows, columns] = weight;
      const [p, q] = [(rows - 1) / 2, (columns - 1) / 2];
      const at = (b: number, r: number, c: number, k: number): number =>
        r < 0 || r >= height || c < 0 || c >= width ? 0 : image!.at(b, r, c, k);
      const dims = [batch, Math.ceil(height / stride), Math.ceil(width / stride), outputs];
      const isDepthwise = inner === 1 && channels > 1;
      return new NdArray(
        dims,
        tabulate(dims, (b, r, c, o) =>
          total(rows, (i) =>
            total(columns, (j) =>
              total(
                inner,
                (k) =>
                  kernel!.at(o, k, i, j) * at(b, r * stride + i - p, c * stride + j - q, isDepthwise ? o : k),
              ),
            ),
          ),
        ).data,
      );
    },
  })),
};
