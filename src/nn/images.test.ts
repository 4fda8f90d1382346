/** A mixer in windows is the mixer on each window alone, whose places beyond the image are zeros. */
import { afterAll, expect, test } from 'vitest';
import { float32, type HostTensor, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { input, scalar } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import { inWindows } from './images.js';
import type { Mixer } from './mixer.js';
import { fullAttention } from './mixers/full-attention.js';
import { mambaVision } from './mixers/mamba-vision.js';
import { ParameterRegistry } from './parameters.js';

const device = await openDevice('cpu', { threads: 1 });
afterAll(() => device.dispose());
const hiddenSize = 4;

async function mixed(mixer: Mixer, x: HostTensor): Promise<{ data: Float32Array }> {
  const registry = new ParameterRegistry();
  const { output } = mixer.forward(registry.root(), input('x', 'float32', x.dims), {
    position: scalar(0, 'int64'),
  });
  const executable = await device.compile(withInputs({ outputs: { output } }));
  const weights = [...registry.specs.values()].map(({ name, shape }, i) => [name, uniform(i + 1, shape)]);
  const outputs = await executable.run({ x, ...Object.fromEntries(weights) });
  await executable.dispose();
  return { data: outputs.output!.data as Float32Array };
}

const attention = fullAttention({
  hiddenSize,
  numHeads: 2,
  numKeyValueHeads: 2,
  headDim: 2,
  outputDeviation: 1,
});
const vision = mambaVision({ hiddenSize, stateSize: 2, convKernel: 3, outputDeviation: 1 });

test.each([
  ['attention', attention, 4, 6, 2],
  ['attention, beyond both sides', attention, 5, 4, 3],
  ['the mixer of MambaVision', vision, 3, 4, 2],
] as const)('%s', async (_, mixer, height, width, side) => {
  const x = uniform(9, [1, height * width, hiddenSize]);
  const values = x.data as Float32Array;
  const { data: actual } = await mixed(inWindows(mixer, { height, width }, side), x);
  for (let top = 0; top < height; top += side) {
    for (let left = 0; left < width; left += side) {
      const places = Array.from({ length: side * side }, (_, i) => {
        const [y, column] = [top + Math.floor(i / side), left + (i % side)];
        return y < height && column < width ? (y * width + column) * hiddenSize : undefined;
      });
      const own = Float32Array.from(
        places.flatMap((at) =>
          Array.from({ length: hiddenSize }, (_, c) => (at === undefined ? 0 : values[at + c]!)),
        ),
      );
      const { data: expected } = await mixed(mixer, float32(own, [1, side * side, hiddenSize]));
      for (const [i, at] of places.entries()) {
        if (at === undefined) continue;
        const [ours, theirs] = [
          actual.slice(at, at + hiddenSize),
          expected.slice(i * hiddenSize, (i + 1) * hiddenSize),
        ];
        expect(relativeError(ours, theirs), `${top}, ${left}, place ${i}`).toBeLessThan(1e-5);
      }
    }
  }
});

test('a window as large as the image is none', () => {
  expect(inWindows(attention, { height: 3, width: 2 }, 3)).toBe(attention);
});
