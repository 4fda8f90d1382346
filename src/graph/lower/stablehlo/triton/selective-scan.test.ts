/** The selective scan by kernels of Triton's dialect is the selective scan, forward and backward: as the evaluator runs them. */
import { test } from 'vitest';
import type { HostTensor } from '../../../../engine/index.js';
import { input, selectiveScan, type Tensor } from '../../../index.js';
import { uniform } from '../../../testing/random.js';
import { expectSame } from './testing/kernels.js';

const [BATCH, SEQUENCE] = [2, 5];

function check(width: number, size: number, withDocuments = false): void {
  const operands: Record<string, HostTensor> = {
    value: uniform(1, [BATCH, SEQUENCE, width]),
    step: uniform(2, [BATCH, SEQUENCE, width], 0, 1),
    rate: uniform(3, [width, size], -2, -0.25),
    key: uniform(4, [BATCH, SEQUENCE, size]),
    query: uniform(5, [BATCH, SEQUENCE, size]),
    state: uniform(6, [BATCH, size, width]),
    ...(withDocuments && {
      documents: {
        dtype: 'int64',
        dims: [BATCH, SEQUENCE],
        data: BigInt64Array.of(0n, 0n, 1n, 1n, 2n, 1n, 1n, 1n, 1n, 1n),
      },
    }),
  };
  const leaf = Object.fromEntries(
    Object.entries(operands).map(([name, { dtype, dims }]) => [name, input(name, dtype, dims)]),
  );
  const { output, state } = selectiveScan(leaf as unknown as Parameters<typeof selectiveScan>[0]);
  expectSame(leaf as Record<string, Tensor>, operands, { output, state }, 3);
}

test('states of 16 numbers, in several programs', () => check(128, 16));

test('states of 8 numbers, of documents', () => check(32, 8, true));

test('states of 64 numbers', () => check(64, 64));
