import { expect, test } from 'vitest';
import { input, multiply, scalar } from '../../graph/index.js';
import { openDevice } from '../devices.js';
import { float32 } from '../tensors.js';
import { NO_PACKING, pack, packingOf, unpack } from './packing.js';

const x = input('x', 'float32', ['batch', 3]);
const y = input('y', 'float32', ['room', 2]);
const ids = input('ids', 'int64', ['batch']);
const values = { one: scalar(7), ids, twice: multiply(x, 2), y, stays: multiply(x, 3) };
const packing = packingOf(values, { inputs: [x, ids], staying: new Set(['stays']) });

test('what comes back together has sizes that are known', () => {
  expect([...packing.keys()]).toEqual(['one', 'twice']);
  const dims = { room: 4 };
  expect([...packingOf(values, { dims }).entries()]).toEqual([
    ['one', []],
    ['y', [4, 2]],
  ]);
  expect(packingOf({ x, ids }, { inputs: [x, ids] })).toBe(NO_PACKING);
});

test('what was packed is unpacked into arrays of their own', async () => {
  const device = await openDevice('cpu');
  const outputs = pack({ one: values.one, twice: values.twice }, packing, 'all');
  expect(Object.keys(outputs)).toEqual(['all']);
  const executable = await device.compile({ inputs: [x], outputs });
  const { all } = await executable.run({ x: float32([1, 2, 3, 4, 5, 6], [2, 3]) });
  const unpacked = unpack(all, packing, new Map([['batch', 2]]));
  expect([...unpacked]).toEqual([
    ['one', float32([7], [])],
    ['twice', float32([2, 4, 6, 8, 10, 12], [2, 3])],
  ]);
  const [one, twice] = [...unpacked.values()];
  expect(one!.data.buffer).not.toBe(twice!.data.buffer);
  await executable.dispose();
});
