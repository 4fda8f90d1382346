/** How threads divide element-wise steps. */
import { expect, test } from 'vitest';
import { exp, input, lowerToWasm, multiply, type Tensor } from '../../index.js';

/** The length of the lines along which the step is divided that writes so many numbers. */
function lineOf(count: number, outputs: Readonly<Record<string, Tensor>>): number {
  const { steps } = lowerToWasm({
    ...{ outputs, states: [], lengths: undefined, rows: 0, weights: new Map(), threads: 2 },
    sizes: (symbol) => {
      throw new Error(`${symbol} has no size`);
    },
  });
  const { words } = steps.find(({ writes: [to] }) => to!.bytes === 4 * count)!;
  const rank = words[0] as number;
  return words[rank + 2] as number;
}

test('a step that reads a number, or a short row, that was made before is all threads’ work, in long pieces', () => {
  const x = input('x', 'float32', [100, 960]);
  const scale = exp(input('scale', 'float32', []));
  expect(lineOf(96_000, { scale, y: multiply(x, scale) })).toBe(96_000);
  const rows = input('rows', 'float32', [20_000, 8]);
  const row = exp(input('row', 'float32', [8]));
  expect(lineOf(160_000, { row, y: multiply(rows, row) })).toBe(160_000);
  // What has been made in lines as long as these is gone on with by the same threads.
  const long = exp(input('long', 'float32', [960]));
  const few = input('few', 'float32', [20, 960]);
  expect(lineOf(19_200, { long, y: multiply(few, long) })).toBe(960);
  // Parts of many lines would lie apart in memory.
  expect(lineOf(96_000, { long, y: multiply(x, long) })).toBe(96_000);
});
