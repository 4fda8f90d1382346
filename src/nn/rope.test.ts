/** Rotary positions far out: against float64. */
import { expect, test } from 'vitest';
import { int64, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { fill, input } from '../graph/index.js';
import { ropeFrequencies, rotate } from './rope.js';

const size = 8;
const frequencies = ropeFrequencies(10_000, size);
const starts = [0, 4095, 130_000, 999_999, 12_345_678, 16_777_217];

for (const engine of ['cpu', 'wasm'] as const) {
  test(`what rotates is where it should be at any position up to 16 million (${engine})`, async () => {
    const device = await openDevice(engine, { threads: 1 });
    const position = input('position', 'int64', [starts.length]);
    const turned = rotate(fill([starts.length, 1, 3, size], 1), position, { frequencies });
    const executable = await device.compile(withInputs({ outputs: { turned } }));
    const { turned: result } = await executable.run({ position: int64(starts, [starts.length]) });
    const values = result!.data as Float32Array;
    for (const [row, start] of starts.entries()) {
      for (let token = 0; token < 3; token++) {
        for (const [pair, frequency] of frequencies.entries()) {
          const angle = (start + token) * frequency;
          const at = (row * 3 + token) * size + pair;
          const found = [values[at]!, values[at + size / 2]!];
          const wanted = [Math.cos(angle) - Math.sin(angle), Math.cos(angle) + Math.sin(angle)];
          for (const i of [0, 1]) {
            const place = `${i}, token ${start + token}, pair ${pair}`;
            expect(Math.abs(found[i]! - wanted[i]!), place).toBeLessThan(2e-3);
          }
        }
      }
    }
    await executable.dispose();
  });
}
