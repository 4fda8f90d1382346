/** The selective scan and its gradient against loops in float64, whole and in pieces. */

import { describe, expect, test } from 'vitest';
import { type Executable, float32, type HostTensor } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { ShapeError } from '../../errors.js';
import { gradient } from '../gradient.js';
import { input } from '../tensor.js';
import { compileWithGradients, expectReference, seedsFor } from '../testing/against-reference.js';
import { relativeError } from '../testing/arrays.js';
import { cpu } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { zeros } from './constant.js';
import { add } from './elementwise.js';
import { loop } from './loop.js';
import { selectiveScan } from './selective-scan.js';
import { steps } from './testing/recurrence.js';
import {
  referenceScan,
  type ScanOperands,
  type ScanResult,
  type ScanSizes,
  scanOperands,
  selectiveScanCases,
} from './testing/selective-scan.js';

prove(selectiveScanCases);

const RESULTS: readonly ScanResult[] = ['output', 'finalState'];
const SHAPES = [
  [1, 1],
  [3, 1],
  [1, 7],
  [3, 33],
] as const;
const SMALL: ScanSizes = { width: 5, size: 3 };

function leaves({ width, size }: ScanSizes) {
  return {
    value: input('value', 'float32', ['batch', 'sequence', width]),
    step: input('step', 'float32', ['batch', 'sequence', width]),
    rate: input('rate', 'float32', [width, size]),
    key: input('key', 'float32', ['batch', 'sequence', size]),
    query: input('query', 'float32', ['batch', 'sequence', size]),
    state: input('state', 'float32', ['batch', size, width]),
  };
}

/** The scan and its gradient with open batch and sequence. */
function compile(sizes: ScanSizes, withState: boolean, through: readonly ScanResult[]): Promise<Executable> {
  const { state, ...others } = leaves(sizes);
  const operands = withState ? { ...others, state } : others;
  const { output, state: finalState } = selectiveScan(operands);
  return compileWithGradients(operands, { output, finalState }, through);
}

async function compare(
  sizes: ScanSizes,
  withState: boolean,
  shapes: readonly (readonly [number, number])[],
  through = RESULTS,
): Promise<void> {
  const executable = await compile(sizes, withState, through);
  for (const [batch, sequence] of shapes) {
    const { state, ...others } = scanOperands(sizes, batch, sequence);
    const operands: ScanOperands = {
      ...others,
      state: withState ? state : float32(new Float32Array(state.data.length), state.dims),
    };
    const dims = { output: others.value.dims, finalState: state.dims };
    const seeds = seedsFor(dims, through);
    const feeds = { ...(withState ? operands : others), ...seeds.feeds };
    await expectReference(executable, feeds, referenceScan(sizes, operands, seeds.values), 1e-5);
  }
  await executable.dispose();
}

describe('values and gradients', () => {
  const variants: Record<string, ScanSizes> = {
    'some channels with some numbers': SMALL,
    'one number a channel, as in an RG-LRU': { width: 6, size: 1 },
    'one channel': { width: 1, size: 4 },
    'one number': { width: 1, size: 1 },
  };
  for (const [name, sizes] of Object.entries(variants)) {
    test(`${name}, from a state`, () => compare(sizes, true, SHAPES));
    test(`${name}, from zero`, () => compare(sizes, false, SHAPES));
  }
  for (const through of RESULTS) {
    test(`a gradient that arrives through ${through} only`, () => compare(SMALL, true, [[2, 7]], [through]));
  }
});

test('in pieces it gives what it gives whole', async () => {
  const { width, size } = SMALL;
  const operands = scanOperands(SMALL, 2, 9);
  const { output, state } = selectiveScan(leaves(SMALL));
  const executable = await (await cpu()).compile(withInputs({ outputs: { output, finalState: state } }));
  const whole = await executable.run(operands);
  let held: HostTensor = operands.state;
  for (const [from, to] of [
    [0, 4],
    [4, 5],
    [5, 9],
  ] as const) {
    const { rate, state: _, ...tokens } = operands;
    const piece = Object.fromEntries(Object.entries(tokens).map(([name, x]) => [name, steps(x, from, to)]));
    const results = await executable.run({ ...piece, rate, state: held });
    const expected = steps(whole.output!, from, to);
    expect(results.output!.dims).toEqual([2, to - from, width]);
    expect(relativeError(results.output!.data as Float32Array, expected.data as Float32Array)).toBeLessThan(
      1e-6,
    );
    held = results.finalState!;
  }
  expect(held.dims).toEqual([2, size, width]);
  expect(relativeError(held.data as Float32Array, whole.finalState!.data as Float32Array)).toBeLessThan(1e-6);
  await executable.dispose();
});

test('inside a loop it goes on from step to step, and so does its gradient', async () => {
  const { state, ...tokens } = leaves(SMALL);
  const repeated = loop(3, [state, zeros(state.shape)], (_, [held, sum]) => {
    const { output, state: next } = selectiveScan({ ...tokens, state: held! });
    return { carried: [next, add(sum!, gradient([output], [held!], [output])[0]!)], stacked: [output] };
  });
  let held = state;
  let sum = zeros(state.shape);
  for (let i = 0; i < 3; i++) {
    const { output, state: next } = selectiveScan({ ...tokens, state: held });
    sum = add(sum, gradient([output], [held], [output])[0]!);
    held = next;
  }
  const executable = await (await cpu()).compile(
    withInputs({
      outputs: {
        repeated: repeated.carried[0]!,
        repeatedSum: repeated.carried[1]!,
        unrolled: held,
        unrolledSum: sum,
      },
    }),
  );
  const results = await executable.run(scanOperands(SMALL, 2, 5));
  expect(results.repeated!.data).toEqual(results.unrolled!.data);
  expect(results.repeatedSum!.data).toEqual(results.unrolledSum!.data);
  await executable.dispose();
});

test('a decay to nothing leaves finite values and gradients', async () => {
  const [batch, sequence] = [1, 64];
  const given = scanOperands(SMALL, batch, sequence);
  const operands = { ...given, step: uniform(30, given.step.dims, 100, 1000) };
  const seeds = seedsFor({ output: given.value.dims, finalState: given.state.dims }, RESULTS);
  const expected = referenceScan(SMALL, operands, seeds.values);
  const executable = await compile(SMALL, true, RESULTS);
  const results = await executable.run({ ...operands, ...seeds.feeds });
  for (const { data } of Object.values(results)) {
    expect((data as Float32Array).every((value) => Number.isFinite(value))).toBe(true);
  }
  // The steps' gradient is a running sum of terms that cancel: it is small beside the others, not exact.
  for (const name of ['output', 'finalState', 'd-value', 'd-rate', 'd-key', 'd-query', 'd-state'] as const) {
    expect(relativeError(results[name]!.data as Float32Array, expected[name]), name).toBeLessThan(1e-5);
  }
  await executable.dispose();
});

describe('shapes that do not fit are named', () => {
  const good = leaves(SMALL);
  const cases: [string, Parameters<typeof selectiveScan>[0], string][] = [
    ['value', { ...good, value: good.rate }, 'the value must be [batch, sequence, width]'],
    ['step', { ...good, step: good.key }, 'the step must be [batch,sequence,5]'],
    ['rate', { ...good, rate: input('r', 'float32', [4, 3]) }, 'the rate must be [5,3]'],
    ['key', { ...good, key: good.value }, 'the key must be [batch,sequence,3]'],
    ['query', { ...good, query: good.value }, 'the query must be [batch,sequence,3]'],
    ['state', { ...good, state: input('s', 'float32', ['batch', 5, 3]) }, 'the state must be [batch,3,5]'],
  ];
  for (const [name, inputs, message] of cases) {
    test(name, () => {
      expect(() => selectiveScan(inputs)).toThrow(ShapeError);
      expect(() => selectiveScan(inputs)).toThrow(message);
    });
  }
});
