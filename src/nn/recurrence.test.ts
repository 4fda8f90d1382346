import { beforeAll, describe, expect, test } from 'vitest';
import { type Device, float32, type HostTensor, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { fill, gather, input, linearRecurrence, loop, reshape, transpose } from '../graph/index.js';
import { Random } from './random.js';
import { recur, recurrenceState, settle } from './recurrence.js';

let device: Device;
beforeAll(async () => {
  device = await openDevice('cpu', { threads: 1 });
});

const HEADS = 4;
const KEY = 3;
const VALUE = 5;

describe.each([1, 2, 4])('%i groups of heads', (groups) => {
  const counts = { query: groups, key: groups, value: HEADS };
  const widths = { query: groups * KEY, key: groups * KEY, value: HEADS * VALUE, gate: HEADS };
  const spec = recurrenceState('s', { heads: HEADS, groups, keySize: KEY, valueSize: VALUE });
  const state = input('state', 'float32', ['batch', HEADS, KEY, VALUE]);
  const operands = Object.fromEntries(
    Object.entries(widths).map(([name, width]) => [
      name,
      input(name, 'float32', ['batch', 'sequence', width]),
    ]),
  ) as Record<keyof typeof widths, ReturnType<typeof input>>;

  /** The state left as it is for `sequence` of `room` steps, and what becomes of it. */
  function deferred(room: number) {
    const parts = spec.deferred!;
    const initial = parts.map(({ shape, initial: value }) =>
      fill(
        shape.map((dim) => (dim === 'steps' ? room : dim)),
        value,
      ),
    );
    const perToken = Object.entries(operands).map(([name, x]) => [name, transpose(x, [1, 0, 2])] as const);
    const { carried, stacked } = loop('sequence', initial, (step, now) => {
      const recent = Object.fromEntries(parts.map(({ name }, i) => [`s.${name}`, now[i]!]));
      const one = Object.fromEntries(
        perToken.map(([name, x]) => [name, reshape(gather(x, step), ['batch', 1, x.shape[2]!])]),
      ) as typeof operands;
      const { output, state: next } = recur('s', one, counts, { state: { s: state }, recent, step });
      expect(next).not.toHaveProperty('s');
      return { carried: parts.map(({ name }) => next[`s.${name}`]!), stacked: [output] };
    });
    const output = reshape(stacked[0]!, ['sequence', 'batch', HEADS * VALUE]);
    return { output: transpose(output, [1, 0, 2]), state: settle(state, carried) };
  }

  test.each([
    [7, 7],
    [7, 12],
    [1, 3],
  ])('%i tokens in room for %i are as the recurrence at once', async (tokens, room) => {
    const batch = 2;
    const random = new Random(groups);
    const values = (shape: number[], make = () => random.normal()): HostTensor =>
      float32(Array.from({ length: shape.reduce((a, b) => a * b) }, make), shape);
    const feeds = {
      ...Object.fromEntries(
        Object.entries(widths).map(([name, width]) => [name, values([batch, tokens, width])]),
      ),
      // Some forget nearly all at once.
      gate: values([batch, tokens, HEADS], () => -(random.uniform() ** 4) * 30),
      state: values([batch, HEADS, KEY, VALUE]),
    };
    const whole = linearRecurrence({ ...operands, state }, counts);
    const pieces = deferred(room);
    const executable = await device.compile(
      withInputs({
        outputs: { whole: whole.output, end: whole.state, pieces: pieces.output, settled: pieces.state },
      }),
    );
    const results = await executable.run(feeds);
    await executable.dispose();
    const close = (a: HostTensor, b: HostTensor): void => {
      expect(a.data.length).toBe(b.data.length);
      for (const [i, x] of (a.data as Float32Array).entries()) {
        expect(Math.abs(x - (b.data as Float32Array)[i]!)).toBeLessThan(1e-5);
      }
    };
    close(results.pieces!, results.whole!);
    close(results.settled!, results.end!);
  });
});

test('at once, or without steps, it is the recurrence itself', () => {
  const sizes = { batch: 1, sequence: 1 };
  const x = (width: number) => input(`x${width}`, 'float32', [sizes.batch, sizes.sequence, width]);
  const operands = { query: x(KEY), key: x(KEY), value: x(HEADS * VALUE), gate: x(HEADS) };
  const state = { s: input('state', 'float32', [1, HEADS, KEY, VALUE]) };
  const result = recur('s', operands, { query: 1, key: 1, value: HEADS }, { state });
  expect(Object.keys(result.state)).toEqual(['s']);
});
