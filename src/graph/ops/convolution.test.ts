/** The causal convolution and its gradient against loops in float64, whole and in pieces. */
import { describe, expect, test } from 'vitest';
import type { Executable } from '../../engine/index.js';
import { FUSED } from '../../engine/onnxruntime/device.js';
import { toOnnx } from '../index.js';
import type { Dim } from '../shape.js';
import { input } from '../tensor.js';
import { compileWithGradients, expectReference, seedsFor } from '../testing/against-reference.js';
import { relativeError, tabulate, toArray } from '../testing/arrays.js';
import { prove } from '../testing/prove.js';
import { causalConvolution } from './convolution.js';
import {
  convolutionCases,
  convolutionOperands,
  type Result,
  referenceConvolution,
} from './testing/convolution.js';
import { steps } from './testing/recurrence.js';

prove(convolutionCases);

const CHANNELS = 3;
const RESULTS: readonly Result[] = ['output', 'finalState'];

/** The convolution and its gradient with open batch and sequence. */
function compile(
  width: number,
  withBias: boolean,
  withState: boolean,
  through: readonly Result[] = RESULTS,
  channels: Dim = CHANNELS,
): Promise<Executable> {
  const x = input('x', 'float32', ['batch', 'sequence', channels]);
  const weight = input('weight', 'float32', [channels, 1, width]);
  const options = {
    ...(withBias && { bias: input('bias', 'float32', [channels]) }),
    ...(withState && { state: input('state', 'float32', ['batch', width - 1, channels]) }),
  };
  const { output, state: finalState } = causalConvolution(x, weight, options.bias, options.state);
  return compileWithGradients({ x, weight, ...options }, { output, finalState }, through);
}

async function compare(
  width: number,
  withBias: boolean,
  withState: boolean,
  shapes: readonly (readonly [number, number])[],
  through: readonly Result[] = RESULTS,
): Promise<void> {
  const executable = await compile(width, withBias, withState, through);
  for (const [batch, sequence] of shapes) {
    const sizes = { batch, sequence, channels: CHANNELS, width };
    const operands = convolutionOperands(sizes, withBias, withState);
    const seeds = seedsFor(
      { output: [batch, sequence, CHANNELS], finalState: [batch, width - 1, CHANNELS] },
      through,
    );
    const expected = referenceConvolution(sizes, operands, seeds.values);
    await expectReference(executable, { ...operands, ...seeds.feeds }, expected, 1e-5);
  }
  await executable.dispose();
}

const SHAPES = [
  [1, 1],
  [3, 1],
  [1, 2],
  [2, 3],
  [3, 7],
  [1, 33],
] as const;

for (const width of [1, 2, 4]) {
  describe(`width ${width}`, () => {
    for (const withBias of [false, true]) {
      for (const withState of [false, true]) {
        test(`${withBias ? 'with' : 'without'} bias, ${withState ? 'from a state' : 'from zero'}`, () =>
          compare(width, withBias, withState, SHAPES));
      }
    }
  });
}

describe('a gradient that arrives through one result only', () => {
  for (const through of RESULTS) {
    test(through, () =>
      compare(
        4,
        true,
        true,
        [
          [2, 2],
          [2, 7],
        ],
        [through],
      ),
    );
  }
});

test('a sequence in pieces, with the state carried, equals the whole', async () => {
  const executable = await compile(4, true, true, []);
  const whole = convolutionOperands({ batch: 2, sequence: 12, channels: CHANNELS, width: 4 }, true, true);
  const expected = await executable.run({ ...whole });
  let state = whole.state!;
  let start = 0;
  for (const size of [1, 2, 5, 1, 3]) {
    const x = steps(whole.x, start, start + size);
    const results = await executable.run({ ...whole, x, state });
    const wanted = toArray(steps(expected.output!, start, start + size));
    expect(relativeError(toArray(results.output!).data, wanted.data)).toBeLessThan(1e-6);
    state = results.finalState!;
    start += size;
  }
  expect([...state.data]).toEqual([...expected.finalState!.data]);
  await executable.dispose();
});

test('as many channels as a run brings', async () => {
  const executable = await compile(3, true, false, [], 'channels');
  for (const channels of [1, 8, 30]) {
    const sizes = { batch: 2, sequence: 5, channels, width: 3 };
    const operands = convolutionOperands(sizes, true, false);
    const { output } = await executable.run({ ...operands });
    const zeros = new Float32Array(2 * 5 * channels);
    const expected = referenceConvolution(sizes, operands, { output: zeros, finalState: zeros }).output;
    expect(relativeError(toArray(output!).data, expected)).toBeLessThan(1e-6);
  }
  await executable.dispose();
});

test('no channels', async () => {
  const executable = await compile(3, true, false, [], 0);
  const operands = convolutionOperands({ batch: 2, sequence: 5, channels: 0, width: 3 }, true, false);
  expect((await executable.run({ ...operands })).output!.dims).toEqual([2, 5, 0]);
  await executable.dispose();
});

test('no channels are left to no kernel, on a GPU as on the CPU: both divide by their number', () => {
  const [x, weight] = [input('x', 'float32', [1, 5, 0]), input('weight', 'float32', [0, 1, 3])];
  const { output } = causalConvolution(x, weight);
  for (const fused of Object.values(FUSED)) {
    const { bytes } = toOnnx({ output }, { fused });
    expect(Buffer.from(bytes).toString('latin1')).not.toContain('CausalConvWithState');
  }
});

test('the final state is the last inputs', async () => {
  const executable = await compile(3, false, false, []);
  const operands = convolutionOperands({ batch: 1, sequence: 5, channels: CHANNELS, width: 3 }, false, false);
  const { finalState } = await executable.run({ ...operands });
  const x = toArray(operands.x);
  expect(toArray(finalState!)).toEqual(tabulate([1, 2, CHANNELS], (b, t, c) => x.at(b, t + 3, c)));
  await executable.dispose();
});
