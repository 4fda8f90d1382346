/** Loops inside the graph: what is carried, stacked, captured and hoisted. */

import { describe, expect, test } from 'vitest';
import { float32, type HostTensor } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { ShapeError } from '../../errors.js';
import {
  add,
  broadcastTo,
  cast,
  concat,
  type Dim,
  divide,
  exp,
  gather,
  gradient,
  input,
  linearRecurrence,
  loop,
  matmul,
  multiply,
  reshape,
  rmsNorm,
  scalar,
  silu,
  slice,
  subtract,
  sum,
  type Tensor,
} from '../index.js';
import { cpu } from '../testing/gradient-check.js';
import { uniform } from '../testing/random.js';

async function run(
  outputs: Record<string, Tensor>,
  feeds: Record<string, HostTensor>,
  dims: Record<string, number> = {},
): Promise<Record<string, HostTensor>> {
  const executable = await (await cpu()).compile(withInputs({ outputs, dims }));
  const results = await executable.run(feeds);
  await executable.dispose();
  return results;
}

const numbers = (tensor: HostTensor | undefined): number[] => Array.from(tensor!.data, Number);

describe('values', () => {
  test('are carried from step to step, and stacked', async () => {
    const start = [input('a', 'float32', []), input('b', 'float32', [])];
    // Fibonacci's numbers, with the step in which each was made.
    const { carried, stacked } = loop(5, start, (step, [a, b]) => ({
      carried: [b!, add(a!, b!)],
      stacked: [add(a!, b!), step],
    }));
    const outputs = { last: carried[0]!, next: carried[1]!, all: stacked[0]!, steps: stacked[1]! };
    expect(outputs.all.shape).toEqual([5]);
    const results = await run(outputs, { a: float32([0], []), b: float32([1], []) });
    expect(numbers(results.last)).toEqual([5]);
    expect(numbers(results.next)).toEqual([8]);
    expect(numbers(results.all)).toEqual([1, 2, 3, 5, 8]);
    expect(numbers(results.steps)).toEqual([0, 1, 2, 3, 4]);
  });

  test('of the graph outside may be used, and handed on unchanged', async () => {
    const x = input('x', 'float32', [2]);
    const scale = exp(x);
    const { carried, stacked } = loop(3, [x, x], (step, [a, b]) => ({
      carried: [add(a!, multiply(scale, cast(step, 'float32'))), b!],
      stacked: [scale, x],
    }));
    const [grown, kept] = carried as [Tensor, Tensor];
    const [scales, inputs] = stacked as [Tensor, Tensor];
    const results = await run({ grown, kept, scales, inputs }, { x: float32([0, 1], [2]) });
    const e = Math.fround(Math.E);
    expect(numbers(results.grown)).toEqual([3, Math.fround(1 + 3 * e)]);
    expect(numbers(results.kept)).toEqual([0, 1]);
    expect(numbers(results.scales)).toEqual([1, e, 1, e, 1, e]);
    expect(results.inputs!.dims).toEqual([3, 2]);
  });

  test('may be swapped, or replaced by a constant', async () => {
    const start = [scalar(1), scalar(2), scalar(3)];
    const { carried } = loop(3, start, (_, [a, b]) => ({ carried: [b!, a!, scalar(7)], stacked: [] }));
    const results = await run({ a: carried[0]!, b: carried[1]!, c: carried[2]! }, {});
    expect([results.a, results.b, results.c].map((x) => numbers(x)[0])).toEqual([2, 1, 7]);
  });

  test('stay as they are where the loop runs no times', async () => {
    const x = input('x', 'float32', ['n']);
    const { carried, stacked } = loop('n', [scalar(4)], (_, [a]) => ({
      carried: [add(a!, 1)],
      stacked: [a!],
    }));
    const outputs = { last: carried[0]!, all: stacked[0]!, total: sum(x) };
    expect(numbers((await run(outputs, { x: uniform(1, [3]) })).last)).toEqual([7]);
    const results = await run(outputs, { x: uniform(1, [0]) });
    expect(numbers(results.last)).toEqual([4]);
    expect(results.all!.dims).toEqual([0]);
  });
});

describe('a nested loop', () => {
  test('sees the values of the loops around it and of the graph', async () => {
    const x = input('x', 'float32', [2]);
    const doubled = add(x, x);
    const { carried, stacked } = loop(2, [x], (outer, [a]) => {
      const within = add(a!, doubled);
      const inner = loop(3, [within], (step, [b]) => ({
        carried: [add(b!, add(multiply(a!, cast(add(step, outer), 'float32')), x))],
        stacked: [multiply(b!, within)],
      }));
      return { carried: inner.carried, stacked: inner.stacked };
    });
    const results = await run({ last: carried[0]!, all: stacked[0]! }, { x: float32([1, -2], [2]) });

    const expected = [1, -2].map((value) => {
      let a = value;
      const all: number[] = [];
      for (let outer = 0; outer < 2; outer++) {
        const within = a + 2 * value;
        let b = within;
        for (let step = 0; step < 3; step++) {
          all.push(b * within);
          b += a * (step + outer) + value;
        }
        a = b;
      }
      return { last: a, all };
    });
    expect(numbers(results.last)).toEqual(expected.map(({ last }) => last));
    expect(results.all!.dims).toEqual([2, 3, 2]);
    expect(numbers(results.all)).toEqual(
      expected[0]!.all.flatMap((value, i) => [value, expected[1]!.all[i]!]),
    );
  });
});

describe('a body with open dimensions and composites', () => {
  const SIZE = 4;
  /** One step of a small recurrent layer: a norm, a recurrence over `batch` rows, and a look-up by the step. */
  function program(count: Dim): Record<string, Tensor> {
    const x = input('x', 'float32', ['batch', 'sequence', SIZE]);
    const table = input('table', 'float32', [3, SIZE]);
    const weight = input('weight', 'float32', [SIZE]);
    const state = input('state', 'float32', ['batch', 2, 2, 2]);
    const { carried, stacked } = loop(count, [x, state], (step, [hidden, memory]) => {
      const row = reshape(gather(table, step), [1, 1, SIZE]);
      const normed = rmsNorm(add(hidden!, row), weight, 1e-5);
      const mixed = linearRecurrence(
        { query: normed, key: silu(normed), value: normed, state: memory! },
        { query: 2, key: 2, value: 2 },
      );
      const later = concat([slice(mixed.output, 1, 1, 'sequence'), slice(mixed.output, 1, 0, 1)], 1);
      const rows = reshape(later, [-1, SIZE]);
      return { carried: [reshape(rows, ['batch', 'sequence', SIZE]), mixed.state], stacked: [sum(later, 2)] };
    });
    return { y: carried[0]!, state1: carried[1]!, sums: stacked[0]! };
  }

  function feeds(batch: number, sequence: number): Record<string, HostTensor> {
    return {
      x: uniform(1, [batch, sequence, SIZE]),
      table: uniform(2, [3, SIZE]),
      weight: uniform(3, [SIZE]),
      state: uniform(4, [batch, 2, 2, 2]),
    };
  }

  test('gives what the unrolled graph gives', async () => {
    const open = program(2);
    expect(open.y!.shape).toEqual(['batch', 'sequence', SIZE]);
    expect(open.sums!.shape).toEqual([2, 'batch', 'sequence']);
    for (const [batch, sequence] of [
      [1, 1],
      [2, 3],
    ] as const) {
      const given = feeds(batch, sequence);
      const twice = await run(open, given);
      expect(await run(open, given, { batch, sequence })).toEqual(twice);
      // The second step is the first one again, with the table turned by a row.
      const once = await run(program(1), given);
      const table = float32(
        [4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3].map((i) => given.table!.data[i] as number),
        [3, SIZE],
      );
      const again = await run(program(1), { ...given, table, x: once.y!, state: once.state1! });
      expect(again.y!.data).toEqual(twice.y!.data);
      expect(again.state1!.data).toEqual(twice.state1!.data);
      expect([...once.sums!.data, ...again.sums!.data]).toEqual([...twice.sums!.data]);
    }
  });
});

test('a body may use a size that none of its carried values has', async () => {
  const x = input('x', 'float32', ['batch', 'sequence']);
  const { stacked } = loop(2, [scalar(1)], (step, [a]) => ({
    carried: [add(a!, 1)],
    stacked: [broadcastTo(multiply(a!, cast(step, 'float32')), ['sequence', 'batch'])],
  }));
  const results = await run({ steps: stacked[0]!, total: sum(x) }, { x: uniform(1, [1, 3]) });
  expect(results.steps!.dims).toEqual([2, 3, 1]);
  expect(numbers(results.steps)).toEqual([0, 0, 0, 2, 2, 2]);
});

test('what no step changes is computed once, outside', () => {
  const x = input('x', 'float32', [2, 2]);
  const product = (a: Tensor) => matmul(a, a);
  const outside = loop(3, [x], (_, [a]) => ({ carried: [add(a!, product(x))], stacked: [] }));
  const inside = loop(3, [x], (_, [a]) => ({ carried: [add(a!, product(a!))], stacked: [] }));
  const bodyOf = (tensor: Tensor) =>
    (tensor.node.attributes as { body: { nodes: { operator: { name: string } }[] } }).body.nodes.map(
      ({ operator }) => operator.name,
    );
  expect(bodyOf(outside.carried[0]!)).toEqual(['add', 'constant']);
  expect(bodyOf(inside.carried[0]!)).toEqual(['matmul', 'add', 'constant']);
});

test('a gradient inside the body is a gradient of the step', async () => {
  const x = input('x', 'float32', []);
  // Newton's iteration for f(a) = a^2 - 2.
  const { carried } = loop(6, [x], (_, [a]) => {
    const f = subtract(multiply(a!, a!), 2);
    return { carried: [subtract(a!, divide(f, gradient(f, [a!])[0]!))], stacked: [] };
  });
  const results = await run({ root: carried[0]! }, { x: float32([1], []) });
  expect(numbers(results.root)[0]).toBeCloseTo(Math.SQRT2, 6);
});

test('a carried value must leave a step as it entered', () => {
  const x = input('x', 'float32', ['n', 2]);
  const grow = () => loop(2, [x], (_, [a]) => ({ carried: [concat([a!, a!], 0)], stacked: [] }));
  expect(grow).toThrow(ShapeError);
  expect(grow).toThrow(
    'loop(float32[n,2]): carried value 0 enters as float32[n,2] and leaves as float32[2*n,2]',
  );
});
