/** The linear recurrence by kernels of Triton's dialect is the linear recurrence, forward and backward: as the evaluator runs them. */
import { expect, test } from 'vitest';
import type { HostTensor } from '../../../../engine/index.js';
import { input, linearRecurrence, type Tensor } from '../../../index.js';
import { relativeError } from '../../../testing/arrays.js';
import { uniform } from '../../../testing/random.js';
import { expectSame, run } from './testing/kernels.js';

interface Case {
  readonly batch?: number;
  readonly sequence: number;
  readonly heads?: { readonly query: number; readonly key: number; readonly value: number };
  readonly keySize?: number;
  readonly valueSize?: number;
  readonly gates: 'none' | 'head' | 'key';
  /** Log decays of a token are no less than minus this. */
  readonly decay?: number;
  readonly rule: 'nothing' | 'beta' | 'erase' | 'erase under the key';
  readonly documents?: boolean;
  readonly precision?: 'float32' | 'bfloat16';
}

/** Forward: sums of gates, what is independent of the state, states and output. Backward: what is solved, states, and all gradients. */
const KERNELS = { nothing: 4 + 5, beta: 4 + 5, erase: 4 + 6, 'erase under the key': 4 + 5 };

function check(options: Case): void {
  const { batch = 1, sequence, gates, decay = 1, rule, documents, precision } = options;
  const { keySize = 16, valueSize = 16, heads = { query: 2, key: 2, value: 2 } } = options;
  const keys = [batch, sequence, heads.key * keySize];
  const unit = 1 / Math.sqrt(keySize);
  const operands: Record<string, HostTensor> = {
    query: uniform(1, [batch, sequence, heads.query * keySize]),
    // Of about length 1.
    key: uniform(2, keys, -1.7 * unit, 1.7 * unit),
    value: uniform(3, [batch, sequence, heads.value * valueSize]),
    state: uniform(4, [batch, heads.value, keySize, valueSize]),
    ...(gates !== 'none' && {
      gate: uniform(5, [batch, sequence, heads.value * (gates === 'key' ? keySize : 1)], -decay, 0),
    }),
    ...(rule === 'beta' && { beta: uniform(6, [batch, sequence, heads.value], 0, 2) }),
    ...(rule.startsWith('erase') && { find: uniform(7, keys, -1.2 * unit, 1.2 * unit) }),
    ...(rule === 'erase' && { remove: uniform(8, keys, -1.2 * unit, 1.2 * unit) }),
    ...(documents && {
      documents: {
        dtype: 'int64',
        dims: [batch, sequence],
        // The first goes on from the state; others have one, seven and more tokens.
        data: BigInt64Array.from({ length: batch * sequence }, (_, i) =>
          BigInt([5, 6, 13, 40].filter((border) => i % sequence >= border).length),
        ),
      },
    }),
  };
  const leaf = Object.fromEntries(
    Object.entries(operands).map(([name, { dtype, dims }]) => [name, input(name, dtype, dims)]),
  );
  const { find, remove = leaf.key, ...given } = leaf;
  const { output, state } = linearRecurrence(
    {
      ...(given as { query: Tensor; key: Tensor; value: Tensor }),
      ...(find && { erase: { find, remove: remove! } }),
    },
    heads,
  );
  expectSame(leaf, operands, { output, state }, KERNELS[rule], precision);
}

test('a gate for each head, whose queries and keys are shared', () =>
  check({
    sequence: 150,
    heads: { query: 1, key: 2, value: 4 },
    valueSize: 32,
    gates: 'head',
    rule: 'beta',
  }));

test('a gate for each key', () =>
  check({ batch: 2, sequence: 128, keySize: 32, gates: 'key', rule: 'beta' }));

test('fewer tokens than a chunk has', () => check({ sequence: 21, gates: 'key', rule: 'beta' }));

test('two tokens', () => check({ batch: 2, sequence: 2, gates: 'head', rule: 'beta' }));

test('without a gate', () => check({ sequence: 70, gates: 'none', rule: 'beta' }));

test('an erase under keys of its own', () =>
  check({ sequence: 70, heads: { query: 2, key: 1, value: 2 }, gates: 'key', rule: 'erase' }));

test('an erase under the key that is written to', () =>
  check({ sequence: 70, gates: 'key', rule: 'erase under the key' }));

test('an erase, and a gate for each head', () => check({ sequence: 64, gates: 'head', rule: 'erase' }));

test('nothing is taken out, a gate for each head', () =>
  check({ sequence: 100, keySize: 32, gates: 'head', rule: 'nothing' }));

test('nothing is taken out, a gate for each key', () =>
  check({ sequence: 100, valueSize: 32, gates: 'key', rule: 'nothing' }));

for (const decay of [3, 10])
  test(`decays of e^-${decay} for a token`, () =>
    check({ sequence: 70, gates: 'key', decay, rule: 'erase' }));

test('documents, each of which begins with a state of zeros', () =>
  check({ sequence: 70, gates: 'key', rule: 'beta', documents: true }));

test('an erase, and documents, of two sequences', () =>
  check({ batch: 2, sequence: 18, gates: 'key', rule: 'erase', documents: true }));

test('documents without gates', () => check({ sequence: 70, gates: 'none', rule: 'beta', documents: true }));

test('states of 128 x 64, of which several programs have columns', () =>
  check({
    sequence: 70,
    heads: { query: 1, key: 1, value: 1 },
    keySize: 128,
    valueSize: 64,
    gates: 'key',
    rule: 'erase',
    decay: 0.3,
    precision: 'bfloat16',
  }));

test('states of 128 in float32 have no kernels, which would take more memory than threads share', () => {
  const dims = [1, 4, 128];
  const names = ['query', 'key', 'value', 'find', 'remove'] as const;
  const leaf = Object.fromEntries(names.map((name) => [name, input(name, 'float32', dims)])) as Record<
    (typeof names)[number],
    Tensor
  >;
  const { find, remove, ...given } = leaf;
  const made = linearRecurrence({ ...given, erase: { find, remove } }, { query: 1, key: 1, value: 1 });
  const fed = Object.fromEntries(names.map((name, i) => [name, uniform(i, dims, -0.1, 0.1)]));
  expect(run({ ...made }, fed, Object.values(leaf), ['triton'], 'float32').text).not.toContain('custom_call');
});

for (const [gates, rule] of [
  ['head', 'beta'],
  ['key', 'beta'],
  ['key', 'erase'],
  ['key', 'erase under the key'],
  ['head', 'nothing'],
] as const)
  test(`bfloat16: a gate for each ${gates}, ${rule}`, () =>
    check({ sequence: 70, keySize: 32, gates, rule, decay: 0.3, precision: 'bfloat16' }));

test('a sequence in pieces, some of one token, goes on from the state', () => {
  const [tokens, heads, size] = [90, 1, 16];
  const each = { query: heads, key: heads, value: heads };
  const names = ['query', 'key', 'value', 'gate', 'find', 'remove'] as const;
  const operands = Object.fromEntries(
    names.map((name, i) => [
      name,
      uniform(i, [1, tokens, heads * size], name === 'gate' ? -1 : -0.4, name === 'gate' ? 0 : 0.4),
    ]),
  ) as Record<(typeof names)[number], HostTensor>;
  const piece = (from: number, to: number, state: HostTensor): { output: number[]; state: HostTensor } => {
    const fed: Record<string, HostTensor> = { state };
    for (const name of names) {
      const data = (operands[name].data as Float32Array).slice(from * size, to * size);
      fed[name] = { dtype: 'float32', dims: [1, to - from, size], data };
    }
    const leaf = Object.fromEntries(
      Object.entries(fed).map(([name, { dtype, dims }]) => [name, input(name, dtype, dims)]),
    ) as Record<(typeof names)[number] | 'state', Tensor>;
    const { find, remove, ...given } = leaf;
    const made = linearRecurrence({ ...given, erase: { find, remove } }, each);
    const { values } = run({ ...made }, fed, Object.values(leaf), ['triton'], 'float32');
    const [output, last] = values.map(({ data }) => Float32Array.from(data)) as [Float32Array, Float32Array];
    return { output: [...output], state: { ...state, data: last } };
  };
  const first = uniform(9, [1, heads, size, size]);
  const whole = piece(0, tokens, first);
  let state = first;
  const output: number[] = [];
  for (const [from, to] of [
    [0, 20],
    [20, 21],
    [21, 22],
    [22, tokens],
  ] as const) {
    const made = piece(from, to, state);
    output.push(...made.output);
    state = made.state;
  }
  expect(relativeError(output, whole.output)).toBeLessThan(1e-5);
  expect(relativeError(state.data as Float32Array, whole.state.data as Float32Array)).toBeLessThan(1e-5);
});
