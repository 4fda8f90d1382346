/** Programs with open dimensions compute at run time what programs with fixed ones are planned for. */

import { describe, expect, test } from 'vitest';
import type { HostTensor } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { ShapeError } from '../errors.js';
import {
  add,
  addDims,
  broadcastTo,
  cast,
  concat,
  dimension,
  gradient,
  input,
  iota,
  matmul,
  mean,
  multiply,
  pad,
  reshape,
  reverse,
  slice,
  softmax,
  split,
  sum,
  type Tensor,
  toOnnx,
  topK,
  transpose,
  zeros,
} from './index.js';
import { cpu } from './testing/gradient-check.js';
import { uniform } from './testing/random.js';

const HEADS = 2;
const SIZE = 3;
const x = input('x', 'float32', ['batch', 'sequence', HEADS * SIZE]);
const past = input('past', 'float32', ['batch', HEADS, 'past', SIZE]);

/** Each name says what is done with open dimensions; the shape is what the graph declares. */
const PROGRAMS: Readonly<Record<string, { build: () => Tensor; shape: readonly (number | string)[] }>> = {
  'reshape: split the last dimension': {
    build: () => reshape(x, ['batch', 'sequence', HEADS, SIZE]),
    shape: ['batch', 'sequence', 2, 3],
  },
  'reshape: join two open dimensions': {
    build: () => reshape(x, [-1, HEADS * SIZE]),
    shape: ['batch*sequence', 6],
  },
  'reshape: join an open and a fixed dimension': {
    build: () => reshape(past, ['batch*2', 'past', SIZE]),
    shape: ['2*batch', 'past', 3],
  },
  'reshape: join what may be empty, behind a dimension that stays': {
    build: () => reshape(past, ['batch', -1]),
    shape: ['batch', '6*past'],
  },
  'reshape: keep what may be empty, and join the others': {
    build: () => reshape(transpose(past, [2, 0, 1, 3]), ['past', -1]),
    shape: ['past', '6*batch'],
  },
  'reshape: swap open dimensions of the same elements': {
    build: () => reshape(x, ['sequence', 'batch', HEADS * SIZE]),
    shape: ['sequence', 'batch', 6],
  },
  'reshape: a sum of dimensions': {
    build: () => reshape(joined(), ['batch', 'past+sequence', -1]),
    shape: ['batch', 'past+sequence', 6],
  },
  'concat: past and sequence': { build: joined, shape: ['batch', 2, 'past+sequence', 3] },
  'concat: with a row of zeros': {
    build: () => concat([x, zeros(['batch', 1, HEADS * SIZE])], 1),
    shape: ['batch', 'sequence+1', 6],
  },
  'slice: all but the first': { build: () => slice(x, 1, 1, 'sequence'), shape: ['batch', 'sequence-1', 6] },
  'slice: the last': {
    build: () => slice(x, 1, 'sequence-1', 'sequence'),
    shape: ['batch', 1, 6],
  },
  'slice: what followed the past': {
    build: () => slice(joined(), 2, 'past', 'past+sequence'),
    shape: ['batch', 2, 'sequence', 3],
  },
  'split: past and sequence again': {
    build: () => split(joined(), 2, ['past', 'sequence'])[1]!,
    shape: ['batch', 2, 'sequence', 3],
  },
  'split: past and sequence again, the past': {
    build: () => split(joined(), 2, ['past', 'sequence'])[0]!,
    shape: ['batch', 2, 'past', 3],
  },
  'pad and reverse': {
    build: () => reverse(pad(x, 1, 'past', 2), 1),
    shape: ['batch', 'past+sequence+2', 6],
  },
  'broadcast and sum': {
    build: () => add(broadcastTo(mean(x, 1, { keepDims: true }), ['batch', 'past+sequence', 6]), sum(x)),
    shape: ['batch', 'past+sequence', 6],
  },
  'scores of queries and keys': {
    build: () => softmax(matmul(heads(x), joined(), { transposeB: true })),
    shape: ['batch', 2, 'sequence', 'past+sequence'],
  },
  'positions scaled by a size': {
    build: () =>
      multiply(cast(iota('past+sequence'), 'float32'), cast(dimension('batch*sequence'), 'float32')),
    shape: ['past+sequence'],
  },
  'as many of the largest as there are sequences': {
    build: () => topK(reshape(x, [-1]), 'batch', 0).values,
    shape: ['batch'],
  },
};

function heads(packed: Tensor): Tensor {
  return transpose(reshape(packed, ['batch', 'sequence', HEADS, SIZE]), [0, 2, 1, 3]);
}

function joined(): Tensor {
  return concat([past, heads(x)], 2);
}

const SIZES = [
  { batch: 2, sequence: 3, past: 4 },
  { batch: 1, sequence: 1, past: 1 },
  { batch: 3, sequence: 2, past: 0 },
];

function feeds(size: (typeof SIZES)[number]): Record<string, HostTensor> {
  return {
    x: uniform(1, [size.batch, size.sequence, HEADS * SIZE]),
    past: uniform(2, [size.batch, HEADS, size.past, SIZE]),
  };
}

describe.each(Object.keys(PROGRAMS))('%s', (name) => {
  const { build, shape } = PROGRAMS[name]!;
  const y = build();
  // Both inputs take part, so that every program takes both; their gradients are those of sum(y^2).
  const [dx, dpast] = gradient(sum(multiply(y, y)), [x, past]);
  const outputs = { y, dx: dx!, dpast: dpast!, both: add(sum(x), sum(past)) };

  test('has the declared shape', () => expect(y.shape).toEqual(shape));

  test('open, fixed and partly fixed dimensions agree', async () => {
    const device = await cpu();
    const open = await device.compile(withInputs({ outputs }));
    for (const size of SIZES) {
      const expected = await open.run(feeds(size));
      expect(expected.dx!.dims).toEqual([size.batch, size.sequence, HEADS * SIZE]);
      for (const dims of [size, { sequence: size.sequence }]) {
        const fixed = await device.compile(withInputs({ outputs, dims }));
        const actual = await fixed.run(feeds(size));
        for (const key of Object.keys(outputs)) expect(actual[key]).toEqual(expected[key]);
        await fixed.dispose();
      }
    }
    await open.dispose();
  });
});

describe('dimensions without a value', () => {
  test('a symbol that no input has is named', () => {
    expect(() => toOnnx({ y: zeros(['width']) })).toThrow(ShapeError);
    expect(() => toOnnx({ y: zeros(['width']) })).toThrow("no input of the graph has the dimension 'width'");
  });

  test('unless it is fixed', async () => {
    const executable = await (await cpu()).compile(
      withInputs({
        outputs: { y: zeros([addDims('width', 1)]) },
        dims: { width: 2 },
      }),
    );
    expect((await executable.run({})).y!.dims).toEqual([3]);
    await executable.dispose();
  });
});
