/** Values that a graph holds itself, also where their size is known only at run time. */

import { expect, test } from 'vitest';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { input } from '../tensor.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { sum } from './broadcast.js';
import { dimension, fill, iota } from './constant.js';
import { constantCases } from './testing/constant.js';

prove(constantCases);

test('fills, ranges and sizes follow a symbolic dimension at run time', async () => {
  const x = input('x', 'float32', ['batch', 'sequence']);
  const outputs = {
    total: sum(x),
    filled: fill(['sequence', 2, 'batch'], 3),
    range: iota('batch+sequence', 'int32'),
    size: dimension('2*batch*sequence-1'),
  };
  const executable = await (await cpu()).compile(withInputs({ outputs }));
  for (const [batch, sequence] of [
    [2, 3],
    [1, 1],
  ] as const) {
    const { filled, range, size } = await executable.run({ x: uniform(1, [batch, sequence]) });
    expect(filled!.dims).toEqual([sequence, 2, batch]);
    expect(new Set(filled!.data as Float32Array)).toEqual(new Set([3]));
    expect([...range!.data]).toEqual(Array.from({ length: batch + sequence }, (_, i) => i));
    expect([...size!.data]).toEqual([BigInt(2 * batch * sequence - 1)]);
  }
  await executable.dispose();
});
