/** The linear recurrence and its gradient against loops in float64, whole and in pieces. */

import { describe, expect, test } from 'vitest';
import type { Executable } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { input, type Tensor } from '../tensor.js';
import { compileWithGradients, expectReference, seedsFor } from '../testing/against-reference.js';
import { type NdArray, relativeError, tabulate, toArray } from '../testing/arrays.js';
import { cpu, wasm } from '../testing/gradient-check.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { reshape } from './broadcast.js';
import { gather } from './indexing.js';
import { transpose } from './layout.js';
import { loop } from './loop.js';
import { linearRecurrence, type RecurrenceInputs } from './recurrence.js';
import {
  eraseOperands,
  type Gating,
  type Options,
  type Result,
  recurrenceCases,
  recurrenceOperands,
  referenceErase,
  referenceRecurrence,
  type Sizes,
  steps,
} from './testing/recurrence.js';

prove(recurrenceCases);

const SHAPES = [
  [1, 1],
  [3, 1],
  [1, 7],
  [3, 7],
  [1, 33],
  [3, 33],
] as const;

type Shapes = readonly (readonly [number, number])[];

const GATINGS: readonly Gating[] = ['none', 'head', 'row'];

/** Query, key and value heads, the state's two sizes, and the [batch, sequence]s to run. */
const VARIANTS: Readonly<Record<string, readonly [number, number, number, number, number, Shapes]>> = {
  'queries and keys shared by all heads': [1, 1, 4, 4, 3, SHAPES],
  'queries and keys shared by groups': [2, 2, 4, 4, 3, SHAPES],
  'queries and keys for each head': [4, 4, 4, 4, 3, SHAPES],
  'keys shared, not queries': [4, 1, 4, 3, 5, SHAPES],
  'queries shared by groups, not keys': [2, 4, 4, 3, 5, SHAPES],
  'one head': [1, 1, 1, 2, 2, SHAPES],
  'values of size 1, as in Mamba-1': [1, 1, 6, 4, 1, SHAPES],
  'keys of size 1': [2, 1, 2, 1, 5, SHAPES],
  // The CPU's kernel computes larger states than these in another way.
  'a state of 4032 numbers': [1, 1, 2, 64, 63, [[1, 7]]],
  'a state of 4096 numbers': [
    1,
    1,
    2,
    64,
    64,
    [
      [1, 7],
      [2, 1],
    ],
  ],
  'a state of 8192 numbers': [1, 2, 2, 128, 64, [[1, 33]]],
};

const RESULTS: readonly Result[] = ['output', 'finalState'];

/** The recurrence and its gradient with open batch and sequence. */
function compile(
  { heads, keySize, valueSize }: Sizes,
  { gating, withState, delta = false }: Options,
  through: readonly Result[] = RESULTS,
): Promise<Executable> {
  const packed = (name: string, size: number): Tensor => input(name, 'float32', ['batch', 'sequence', size]);
  const gates = { none: 0, head: heads.value, row: heads.value * keySize }[gating];
  const query = packed('query', heads.query * keySize);
  const key = packed('key', heads.key * keySize);
  const value = packed('value', heads.value * valueSize);
  const optional = {
    ...(gates > 0 && { gate: packed('gate', gates) }),
    ...(withState && { state: input('state', 'float32', ['batch', heads.value, keySize, valueSize]) }),
    ...(delta && { beta: packed('beta', heads.value) }),
  };
  const { output, state: finalState } = linearRecurrence({ query, key, value, ...optional }, heads);
  return compileWithGradients({ query, key, value, ...optional }, { output, finalState }, through);
}

async function compare(
  sizes: Sizes,
  options: Options,
  shapes: Shapes,
  through: readonly Result[] = RESULTS,
): Promise<void> {
  const { heads, keySize, valueSize } = sizes;
  const executable = await compile(sizes, options, through);
  for (const [batch, sequence] of shapes) {
    const operands = recurrenceOperands(sizes, [batch, sequence], options);
    const seeds = seedsFor(
      {
        output: [batch, sequence, heads.value * valueSize],
        finalState: [batch, heads.value, keySize, valueSize],
      },
      through,
    );
    const expected = referenceRecurrence(sizes, operands, seeds.values);
    await expectReference(executable, { ...operands, ...seeds.feeds }, expected, 1e-5);
  }
  await executable.dispose();
}

for (const [name, [query, key, value, keySize, valueSize, shapes]] of Object.entries(VARIANTS)) {
  describe(name, () => {
    const sizes: Sizes = { heads: { query, key, value }, keySize, valueSize };
    for (const delta of [false, true]) {
      for (const gating of GATINGS) {
        for (const withState of [false, true]) {
          const start = withState ? 'from a state' : 'from zero';
          test(`decay of ${gating}${delta ? ', delta rule' : ''}, ${start}`, () =>
            compare(sizes, { gating, withState, delta }, shapes));
        }
      }
    }
  });
}

const SMALL: Sizes = { heads: { query: 1, key: 2, value: 4 }, keySize: 4, valueSize: 3 };

describe('a gradient that arrives through one result only', () => {
  for (const through of RESULTS) {
    for (const delta of [false, true]) {
      for (const gating of GATINGS) {
        test(`${through}, decay of ${gating}${delta ? ', delta rule' : ''}`, () =>
          compare(SMALL, { gating, withState: true, delta }, [[2, 7]], [through]));
      }
    }
  }
});

test('where all is forgotten, the gradient of the decay is nothing but a little rounding', async () => {
  // It is a running sum of large terms that cancel; what remains is small beside the other gradients, not beside itself.
  const { heads, keySize, valueSize } = SMALL;
  const [batch, sequence] = [1, 256];
  const variants = (['head', 'row'] as const).flatMap((gating) =>
    [false, true].map((delta): Options => ({ gating, withState: true, delta })),
  );
  for (const options of variants) {
    const given = recurrenceOperands(SMALL, [batch, sequence], options);
    const operands = { ...given, gate: uniform(18, given.gate!.dims, -30, -8) };
    const seeds = seedsFor(
      {
        output: [batch, sequence, heads.value * valueSize],
        finalState: [batch, heads.value, keySize, valueSize],
      },
      RESULTS,
    );
    const { 'd-gate': wanted, ...others } = referenceRecurrence(SMALL, operands, seeds.values);
    const executable = await compile(SMALL, options);
    const { 'd-gate': actual, ...results } = await executable.run({ ...operands, ...seeds.feeds });
    for (const [name, { data }] of Object.entries(results)) {
      expect(relativeError(data as Float32Array, others[name as keyof typeof others]), name).toBeLessThan(
        1e-5,
      );
    }
    const scale = Math.hypot(...others['d-query']);
    const error = toArray(actual!).data.map((value, i) => value - wanted[i]!);
    expect(Math.hypot(...error) / scale).toBeLessThan(1e-5);
    await executable.dispose();
  }
});

describe('a sequence in pieces, with the state carried', () => {
  const variants = GATINGS.flatMap((gating) =>
    [false, true].map((delta): Options => ({ gating, withState: true, delta })),
  );
  for (const options of variants) {
    test(`equals the whole, decay of ${options.gating}${options.delta ? ', delta rule' : ''}`, async () => {
      const executable = await compile(SMALL, options, []);
      const whole = recurrenceOperands(SMALL, [2, 33], options);
      const expected = await executable.run({ ...whole });
      let state = whole.state!;
      const outputs: NdArray[] = [];
      let start = 0;
      for (const size of [1, 7, 1, 24]) {
        const { state: _, ...sequences } = whole;
        const piece = Object.fromEntries(
          Object.entries(sequences).map(([name, x]) => [name, steps(x, start, start + size)]),
        );
        const results = await executable.run({ ...piece, state });
        outputs.push(toArray(results.output!));
        state = results.finalState!;
        start += size;
      }
      const joined = tabulate(expected.output!.dims, (b, t, i) => {
        let piece = 0;
        while (t >= outputs[piece]!.dims[1]!) t -= outputs[piece++]!.dims[1]!;
        return outputs[piece]!.at(b, t, i);
      });
      expect(relativeError(joined.data, toArray(expected.output!).data)).toBeLessThan(1e-6);
      expect(relativeError(toArray(state).data, toArray(expected.finalState!).data)).toBeLessThan(1e-6);
      await executable.dispose();
    });
  }
});

test('token by token in the body of a loop, with open sizes, equals the whole', async () => {
  const { heads, keySize, valueSize } = SMALL;
  const operands = recurrenceOperands(SMALL, [2, 9], { gating: 'head', withState: true, delta: true });
  const { state: first, ...sequences } = operands;
  const leaves = Object.fromEntries(
    Object.entries(sequences).map(([name, { dims }]) => [
      name,
      input(name, 'float32', ['batch', 'sequence', dims[2]!]),
    ]),
  ) as Record<keyof typeof sequences, Tensor>;
  const state = input('state', 'float32', ['batch', heads.value, keySize, valueSize]);
  const whole = linearRecurrence({ ...leaves, state }, heads);
  const { carried, stacked } = loop('sequence', [state], (step, [held]) => {
    const now = Object.fromEntries(
      Object.entries(leaves).map(([name, x]) => [
        name,
        reshape(gather(transpose(x, [1, 0, 2]), step), ['batch', 1, x.shape[2]!]),
      ]),
    ) as typeof leaves;
    const { output, state: next } = linearRecurrence({ ...now, state: held! }, heads);
    return { carried: [next], stacked: [reshape(output, ['batch', -1])] };
  });
  const outputs = {
    whole: whole.output,
    wholeState: whole.state,
    looped: transpose(stacked[0]!, [1, 0, 2]),
    loopedState: carried[0]!,
  };
  const executable = await (await cpu()).compile(withInputs({ outputs }));
  const results = await executable.run({ ...sequences, state: first! });
  const error = (actual: string, expected: string): number =>
    relativeError(toArray(results[actual]!).data, toArray(results[expected]!).data);
  expect(error('looped', 'whole')).toBeLessThan(1e-6);
  expect(error('loopedState', 'wholeState')).toBeLessThan(1e-6);
  await executable.dispose();
});

describe('several chunks, the last one not whole', () => {
  for (const delta of [false, true]) {
    for (const gating of GATINGS) {
      test(`decay of ${gating}${delta ? ', delta rule' : ''}`, () =>
        compare(SMALL, { gating, withState: true, delta }, [
          [1, 64],
          [1, 65],
          [2, 150],
        ]));
    }
  }
});

describe('erased by keys of its own, in several chunks', () => {
  for (const isKey of [false, true])
    for (const gating of GATINGS) {
      for (const [engine, open] of [
        ['onnxruntime', cpu],
        ['wasm', wasm],
      ] as const) {
        const under = isKey ? 'the key that is written to' : 'other keys';
        test(`decay of ${gating}, under ${under} (${engine})`, async () => {
          const { heads } = SMALL;
          const operandsOf = (sequence: number) => {
            const operands = recurrenceOperands(SMALL, [2, sequence], { gating, withState: true });
            const { find, remove } = eraseOperands(SMALL, [2, sequence]);
            return { operands, erase: isKey ? { find } : { find, remove } };
          };
          const leafOf = (name: string, x: { dims: readonly number[] }): Tensor =>
            input(
              name,
              'float32',
              name === 'state' ? ['batch', ...x.dims.slice(1)] : ['batch', 'sequence', x.dims[2]!],
            );
          const example = operandsOf(1);
          const { find, remove, ...leaves } = Object.fromEntries(
            Object.entries({ ...example.operands, ...example.erase }).map(([name, x]) => [
              name,
              leafOf(name, x),
            ]),
          ) as Record<string, Tensor>;
          const given = leaves as unknown as RecurrenceInputs;
          const { output, state } = linearRecurrence(
            { ...given, erase: { find: find!, remove: remove ?? given.key } },
            heads,
          );
          const executable = await (await open()).compile(withInputs({ outputs: { output, last: state } }));
          for (const sequence of [1, 64, 65, 150]) {
            const { operands, erase } = operandsOf(sequence);
            const results = await executable.run({ ...operands, ...erase });
            const expected = referenceErase(SMALL, operands, erase.find, erase.remove ?? operands.key);
            expect(relativeError(toArray(results.output!).data, expected.output.data)).toBeLessThan(1e-5);
            expect(relativeError(toArray(results.last!).data, expected.finalState.data)).toBeLessThan(1e-5);
          }
          await executable.dispose();
        });
      }
    }
});

test('a sequence whose length the graph knows is cut into chunks no longer than that', async () => {
  const { heads } = SMALL;
  for (const sequence of [1, 2, 5, 64, 100]) {
    const operands = recurrenceOperands(SMALL, [2, sequence], {
      gating: 'row',
      withState: true,
      delta: true,
    });
    const leaves = Object.fromEntries(
      Object.entries(operands).map(([name, { dims }]) => [name, input(name, 'float32', dims)]),
    ) as Record<keyof typeof operands, Tensor>;
    const { output, state } = linearRecurrence(leaves as RecurrenceInputs, heads);
    const executable = await compileWithGradients(leaves, { output, finalState: state });
    const dims = { output: [2, sequence, heads.value * SMALL.valueSize], finalState: operands.state!.dims };
    const seeds = seedsFor(dims, RESULTS);
    const expected = referenceRecurrence(SMALL, operands, seeds.values);
    await expectReference(executable, { ...operands, ...seeds.feeds }, expected, 1e-5);
    await executable.dispose();
  }
});

test('no steps leave the state as it was', async () => {
  const { heads, keySize, valueSize } = SMALL;
  const state = uniform(1, [2, heads.value, keySize, valueSize]);
  for (const delta of [false, true]) {
    const executable = await compile(SMALL, { gating: 'head', withState: true, delta }, []);
    const { state: _, ...none } = recurrenceOperands(SMALL, [2, 0], {
      gating: 'head',
      withState: true,
      delta,
    });
    const results = await executable.run({ ...none, state });
    expect(results.output!.dims).toEqual([2, 0, heads.value * valueSize]);
    expect(results.finalState!.data).toEqual(state.data);
    await executable.dispose();
  }
});

test.each([
  [0, 4],
  [4, 0],
])('keys of %i numbers and values of %i', async (keySize, valueSize) => {
  const [query, key, value] = (
    [
      ['query', keySize],
      ['key', keySize],
      ['value', valueSize],
    ] as const
  ).map(([name, size]) => input(name, 'float32', [1, 3, size])) as [Tensor, Tensor, Tensor];
  const { output, state } = linearRecurrence({ query, key, value }, { query: 1, key: 1, value: 1 });
  const executable = await (await cpu()).compile(withInputs({ outputs: { output, state } }));
  const feeds = { query: [1, 3, keySize], key: [1, 3, keySize], value: [1, 3, valueSize] };
  const said = await executable.run(
    Object.fromEntries(Object.entries(feeds).map(([name, dims]) => [name, uniform(1, dims)])),
  );
  expect([...said.output!.data]).toEqual(Array(3 * valueSize).fill(0));
  expect(said.state!.dims).toEqual([1, 1, keySize, valueSize]);
  await executable.dispose();
});
