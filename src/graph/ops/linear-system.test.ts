/** Linear systems that do not change in time: values and gradients; with open sizes in any number of chunks. */
import { describe, expect, test } from 'vitest';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { ShapeError } from '../../errors.js';
import { input, type Tensor } from '../tensor.js';
import { relativeError, toArray } from '../testing/arrays.js';
import { cpu, wasm } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { channelSystem, stateSystem } from './linear-system.js';
import { linearSystemCases, referenceChannels, referenceStates } from './testing/linear-system.js';

prove(linearSystemCases);

const LENGTHS = [1, 7, 63, 64, 65, 150];

describe.each([
  ['onnxruntime', cpu],
  ['wasm', wasm],
] as const)('with open sizes on %s', (_, open) => {
  test.each([1, 2])('a system for each channel, of %i parts', async (parts) => {
    const state = input('state', 'float32', ['batch', parts, 3, 5]);
    const system = channelSystem({
      input: input('input', 'float32', ['batch', 'sequence', 3]),
      transition: input('transition', 'float32', [parts, 3, 5]),
      readout: input('readout', 'float32', [parts, 3, 5]),
      state,
    });
    await compare(
      { output: system.output, last: system.state },
      (sequence) => ({
        input: uniform(1, [2, sequence, 3]),
        transition: uniform(2, [parts, 3, 5], -0.7, 0.7),
        readout: uniform(3, [parts, 3, 5]),
        state: uniform(4, [2, parts, 3, 5]),
      }),
      (feeds) =>
        referenceChannels(
          toArray(feeds.input!),
          toArray(feeds.transition!),
          toArray(feeds.readout!),
          toArray(feeds.state!),
        ),
    );
  });

  test('one system', async () => {
    const system = stateSystem(
      input('input', 'float32', ['batch', 'sequence', 4]),
      input('transition', 'float32', [4, 4]),
      input('state', 'float32', ['batch', 4]),
    );
    await compare(
      { output: system.states, last: system.state },
      (sequence) => ({
        input: uniform(1, [2, sequence, 4]),
        transition: uniform(2, [4, 4], -0.5, 0.5),
        state: uniform(3, [2, 4]),
      }),
      (feeds) => referenceStates(toArray(feeds.input!), toArray(feeds.transition!), toArray(feeds.state!)),
    );
  });

  async function compare(
    outputs: Record<'output' | 'last', Tensor>,
    feedsOf: (sequence: number) => Record<string, ReturnType<typeof uniform>>,
    reference: (feeds: Record<string, ReturnType<typeof uniform>>) => ReturnType<typeof referenceStates>,
  ): Promise<void> {
    const executable = await (await open()).compile(withInputs({ outputs }));
    for (const sequence of LENGTHS) {
      const feeds = feedsOf(sequence);
      const results = await executable.run(feeds);
      const [output, last] = reference(feeds);
      expect(results.output!.dims).toEqual(output.dims);
      expect(relativeError(toArray(results.output!).data, output.data), `${sequence} steps`).toBeLessThan(
        1e-5,
      );
      expect(relativeError(toArray(results.last!).data, last.data), `after ${sequence}`).toBeLessThan(1e-5);
    }
    await executable.dispose();
  }
});

test('shapes that do not fit are refused', () => {
  const of = (...shape: number[]) => input('x', 'float32', shape);
  const channels = (transition: Tensor, readout: Tensor, state?: Tensor) => () =>
    channelSystem({ input: of(2, 5, 3), transition, readout, state });
  for (const [build, message] of [
    [channels(of(3, 3, 4), of(3, 3, 4)), 'the transition must be [1 or 2, channels, size]'],
    [channels(of(2, 4, 4), of(2, 4, 4)), 'the transition must be [2,3,4]'],
    [channels(of(2, 3, 4), of(1, 3, 4)), 'the readout must be [2,3,4]'],
    [channels(of(2, 3, 4), of(2, 3, 4), of(2, 1, 3, 4)), 'the state must be [2,2,3,4]'],
    [() => stateSystem(of(2, 5, 3), of(4, 4)), 'the transition must be [3,3]'],
    [() => stateSystem(of(2, 5, 3), of(3, 3), of(1, 3)), 'the state must be [2,3]'],
  ] as const) {
    expect(build).toThrow(ShapeError);
    expect(build).toThrow(message);
  }
});
