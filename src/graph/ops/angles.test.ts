/** Running angles: values and gradients, and that pieces are the whole, to the last bit, however many turns it has. */
import { expect, test } from 'vitest';
import { float32 } from '../../engine/index.js';
import { input } from '../tensor.js';
import { cpu, wasm } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { runningAngles } from './angles.js';
import { angleCases } from './testing/angles.js';

prove(angleCases);

test.each([
  ['cpu', cpu],
  ['wasm', wasm],
] as const)('angles of many turns in pieces are those of the whole on %s', async (_, open) => {
  const [LENGTH, SIZE] = [400, 2];
  const [steps, before] = [input('steps', 'float32', [1, 'n', SIZE]), input('before', 'float32', [1, SIZE])];
  const executable = await (await open()).compile({
    inputs: [steps, before],
    outputs: { angles: runningAngles(steps, before) },
  });
  const data = uniform(3, [1, LENGTH, SIZE], -9, 20).data as Float32Array;
  const run = async (from: number, to: number, last: Float32Array): Promise<Float32Array> => {
    const part = float32(data.slice(from * SIZE, to * SIZE), [1, to - from, SIZE]);
    const { angles } = await executable.run({ steps: part, before: float32(last, [1, SIZE]) });
    return angles!.data as Float32Array;
  };
  const whole = await run(0, LENGTH, new Float32Array(SIZE));
  let last = new Float32Array(SIZE);
  const pieces: number[] = [];
  for (const [from, to] of [
    [0, 1],
    [1, 2],
    [2, 3],
    [3, 200],
    [200, 201],
    [201, LENGTH],
  ] as const) {
    const said = await run(from, to, last);
    pieces.push(...said);
    last = said.slice(-SIZE);
  }
  expect(pieces).toEqual([...whole]);
  let exact = 0;
  for (let t = 0; t < LENGTH; t++) exact += data[t * SIZE]!;
  expect(Math.sin(whole.at(-SIZE)!)).toBeCloseTo(Math.sin(exact), 3);
  expect(Math.cos(whole.at(-SIZE)!)).toBeCloseTo(Math.cos(exact), 3);
  await executable.dispose();
});
