/** The linear recurrence and its gradient against loops in float64, whole and in pieces. */
import { describe, expect, test } from 'vitest';
import type { Executable } from '../../engine/index.js';
import { input, type Tensor } from '../tensor.js';
import { compileWithGradients, expectReference, seedsFor } from '../testing/against-reference.js';
import { type NdArray, relativeError, tabulate, toArray } from '../testing/arrays.js';
import { prove } from '../testing/prove.js';
import { uniform } from '../testing/random.js';
import { linearRecurrence } from './recurrence.js';
import {
  type Gating,
  type Result,
  recurrenceCases,
  recurrenceOperands,
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
  gating: Gating,
  withState: boolean,
  through: readonly Result[] = RESULTS,
): Promise<Executable> {
  const packed = (name: string, size: number): Tensor => input(name, 'float32', ['batch', 'sequence', size]);
  const gates = { none: 0, head: heads.value, row: heads.value * keySize }[gating];
  const query = packed('query', heads.query * keySize);
  const key = packed('key', heads.key * keySize);
  const value = packed('value', heads.value * valueSize);
  const options = {
    ...(gates > 0 && { gate: packed('gate', gates) }),
    ...(withState && { state: input('state', 'float32', ['batch', heads.value, keySize, valueSize]) }),
  };
  const { output, state: finalState } = linearRecurrence({ query, key, value, ...options }, heads);
  return compileWithGradients({ query, key, value, ...options }, { output, finalState }, through);
}

async function compare(
  sizes: Sizes,
  gating: Gating,
  withState: boolean,
  shapes: Shapes,
  through: readonly Result[] = RESULTS,
): Promise<void> {
  const { heads, keySize, valueSize } = sizes;
  const executable = await compile(sizes, gating, withState, through);
  for (const [batch, sequence] of shapes) {
    const operands = recurrenceOperands(sizes, [batch, sequence], gating, withState);
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
    for (const gating of GATINGS) {
      for (const withState of [false, true]) {
        test(`decay of ${gating}, ${withState ? 'from a state' : 'from zero'}`, () =>
          compare(sizes, gating, withState, shapes));
      }
    }
  });
}

const SMALL: Sizes = { heads: { query: 1, key: 2, value: 4 }, keySize: 4, valueSize: 3 };

describe('a gradient that arrives through one result only', () => {
  for (const through of RESULTS) {
    for (const gating of GATINGS) {
      test(`${through}, decay of ${gating}`, () => compare(SMALL, gating, true, [[2, 7]], [through]));
    }
  }
});

test('where all is forgotten, the gradient of the decay is nothing but a little rounding', async () => {
  // It is a running sum of large terms that cancel; what remains is small beside the other gradients, not beside itself.
  const { heads, keySize, valueSize } = SMALL;
  const [batch, sequence] = [1, 256];
  for (const gating of ['head', 'row'] as const) {
    const given = recurrenceOperands(SMALL, [batch, sequence], gating, true);
    const operands = { ...given, gate: uniform(18, given.gate!.dims, -30, -8) };
    const seeds = seedsFor(
      {
        output: [batch, sequence, heads.value * valueSize],
        finalState: [batch, heads.value, keySize, valueSize],
      },
      RESULTS,
    );
    const { 'd-gate': wanted, ...others } = referenceRecurrence(SMALL, operands, seeds.values);
    const executable = await compile(SMALL, gating, true);
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
  for (const gating of GATINGS) {
    test(`equals the whole, decay of ${gating}`, async () => {
      const executable = await compile(SMALL, gating, true, []);
      const whole = recurrenceOperands(SMALL, [2, 33], gating, true);
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
