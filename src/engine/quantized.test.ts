/** Quantized constants: a product and a table of rows are what the numbers say that the codes stand for. */
import { expect, test } from 'vitest';
import { gather, input, matmul } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import { int64, openDevice, type QuantizedTensor } from './index.js';

const device = await openDevice('cpu', { threads: 1 });
const ROWS = 40;

function matrix(columns: number, bits: 4 | 8, block: number) {
  const blocks = Math.ceil(columns / block);
  const codes = Uint8Array.from(
    { length: (ROWS * blocks * block * bits) / 8 },
    (_, i) => (i * 151 + 7) & 255,
  );
  const scales = Float32Array.from({ length: ROWS * blocks }, (_, i) => 0.01 + 0.002 * (i % 5));
  const tensor: QuantizedTensor = { dims: [ROWS, columns], bits, block, codes, scales };
  const valueAt = (row: number, column: number): number => {
    const at = row * blocks * block + column;
    const code = bits === 8 ? codes[at]! : at % 2 === 1 ? codes[at >> 1]! >> 4 : codes[at >> 1]! & 15;
    return scales[row * blocks + Math.floor(column / block)]! * (code - 2 ** (bits - 1));
  };
  return { tensor, valueAt };
}

for (const bits of [4, 8] as const) {
  for (const block of [32, 64, 128]) {
    test.each([256, 144])(`a product, ${bits} bits in blocks of ${block}, %i columns`, async (columns) => {
      const { tensor, valueAt } = matrix(columns, bits, block);
      const w = input('w', 'float32', [ROWS, columns]);
      const x = uniform(3, [2, 3, columns], -1, 1);
      const executable = await device.compile({
        outputs: {
          y: matmul(input('x', 'float32', ['batch', 'sequence', columns]), w, { transposeB: true }),
        },
        weights: new Map([['w', tensor]]),
      });
      const { y } = await executable.run({ x });
      const expected = Float32Array.from({ length: 6 * ROWS }, (_, i) => {
        let sum = 0;
        for (let c = 0; c < columns; c++) {
          sum += (x.data[Math.floor(i / ROWS) * columns + c] as number) * valueAt(i % ROWS, c);
        }
        return sum;
      });
      expect(y!.dims).toEqual([2, 3, ROWS]);
      // The kernel rounds x to 8 bits.
      expect(relativeError(y!.data as Float32Array, expected)).toBeLessThan(0.01);
      await executable.dispose();
    });

    test(`a table of rows, ${bits} bits in blocks of ${block}`, async () => {
      const { tensor, valueAt } = matrix(256, bits, block);
      const w = input('w', 'float32', [ROWS, 256]);
      const executable = await device.compile({
        outputs: { rows: gather(w, input('ids', 'int64', ['n'])) },
        weights: new Map([['w', tensor]]),
      });
      const { rows } = await executable.run({ ids: int64([0, 39, 7], [3]) });
      const expected = [0, 39, 7].flatMap((row) => Array.from({ length: 256 }, (_, c) => valueAt(row, c)));
      expect(relativeError(rows!.data as Float32Array, Float32Array.from(expected))).toBeLessThan(1e-6);
      await executable.dispose();
    });
  }
}
