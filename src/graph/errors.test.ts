/** Operands that do not fit together: every message names the operator, the operands' types and the layer. */
import { describe, expect, test } from 'vitest';
import { ShapeError } from '../errors.js';
import * as graph from './index.js';
import { type Dim, type DType, input, scope, type Tensor } from './index.js';

const f = (...shape: Dim[]): Tensor => input('x', 'float32', shape);
const i = (...shape: Dim[]): Tensor => input('i', 'int64', shape);
const b = (...shape: Dim[]): Tensor => input('b', 'bool', shape);

const CASES: readonly [() => unknown, string][] = [
  [() => graph.add(f(2, 3), f(4)), 'add(float32[2,3], float32[4]): the shapes do not broadcast'],
  [
    () => graph.multiply(f('batch'), f('sequence')),
    'multiply(float32[batch], float32[sequence]): the shapes do not broadcast',
  ],
  [() => graph.add(f(2), i(2)), 'add(float32[2], int64[2]): both operands must have the same dtype'],
  [
    () => graph.where(f(2), f(2), f(2)),
    'where(float32[2], float32[2], float32[2]): the condition must be bool',
  ],
  [
    () => graph.where(b(2), f(2), i(2)),
    'where(bool[2], float32[2], int64[2]): both branches must have the same dtype',
  ],
  [
    () => graph.where(b(3), f(2), f(1)),
    'where(bool[3], float32[2], float32[1]): the shapes do not broadcast',
  ],
  [() => graph.exp(i(2)), 'exp(int64[2]): the operand must be float32'],
  [() => graph.silu(i(2)), 'silu(int64[2]): the operand must be float32'],
  [
    () => graph.matmul(f(2, 3), f(4, 5)),
    'matmul(float32[2,3], float32[4,5]): the inner dimensions differ: 3 and 4',
  ],
  [
    () => graph.matmul(f(3), f(3, 5)),
    'matmul(float32[3], float32[3,5]): both operands must have rank 2 or more',
  ],
  [() => graph.matmul(i(2, 3), i(3, 2)), 'matmul(int64[2,3], int64[3,2]): both operands must be float32'],
  [
    () => graph.matmul(f(2, 3, 4), f(5, 4, 3)),
    'matmul(float32[2,3,4], float32[5,4,3]): the batch dimensions do not broadcast',
  ],
  [() => graph.reshape(f(2, 3), [7]), 'reshape(float32[2,3]): [7] has another number of elements'],
  [() => graph.reshape(f(2, 3), [4, -1]), 'reshape(float32[2,3]): [4,-1] leaves no whole dimension for -1'],
  [() => graph.reshape(f(2, 3), [-1, -1]), 'reshape(float32[2,3]): [-1,-1] leaves no whole dimension for -1'],
  [
    () => graph.reshape(f('sequence', 3), [2, -1]),
    'reshape(float32[sequence,3]): [2,-1] leaves no whole dimension for -1',
  ],
  [
    () => graph.reshape(f(5), [2, 2.5]),
    'reshape(float32[5]): 2.5 is not a dimension: expected a whole number, 0 or more',
  ],
  [() => graph.transpose(f(2, 3), [0, 2]), 'transpose(float32[2,3]): [0,2] is no permutation of the axes'],
  [() => graph.transpose(f(2, 3), [0, 0]), 'transpose(float32[2,3]): [0,0] is no permutation of the axes'],
  [() => graph.broadcastTo(f(2), [3]), 'broadcastTo(float32[2]): does not broadcast to [3]'],
  [() => graph.broadcastTo(f(2, 1), [2]), 'broadcastTo(float32[2,1]): does not broadcast to [2]'],
  [
    () => graph.concat([f(2, 3), f(3, 3)], 1),
    'concat(float32[2,3], float32[3,3]): the operands differ elsewhere than along axis 1',
  ],
  [
    () => graph.concat([f(2), i(2)], 0),
    'concat(float32[2], int64[2]): the operands differ elsewhere than along axis 0',
  ],
  [() => graph.concat([f(2), f(2)], 1), 'concat(float32[2]): axis 1 is outside a tensor of rank 1'],
  [() => graph.slice(f(4), 0, 2, 5), 'slice(float32[4]): the range 2..5 lies outside axis 0'],
  [() => graph.slice(f(4), 0, 3, 2), 'slice(float32[4]): the range 3..2 lies outside axis 0'],
  [() => graph.slice(f(4), 2, 0, 1), 'slice(float32[4]): axis 2 is outside a tensor of rank 1'],
  [() => graph.split(f(4), 0, [1, 2]), 'split(float32[4]): [1,2] does not add up along axis 0'],
  [() => graph.pad(f(4), 1, 0, 1), 'pad(float32[4]): axis 1 is outside a tensor of rank 1'],
  [() => graph.reverse(f(4), -2), 'reverse(float32[4]): axis -2 is outside a tensor of rank 1'],
  [() => graph.sum(f(2, 3), 2), 'sum(float32[2,3]): axis 2 is outside a tensor of rank 2'],
  [() => graph.mean(f(2, 3), -3), 'mean(float32[2,3]): axis -3 is outside a tensor of rank 2'],
  [() => graph.cumulativeSum(b(2), 0), 'cumulativeSum(bool[2]): the operand must be numeric'],
  [() => graph.gather(f(2, 3), f(2)), 'gather(float32[2,3], float32[2]): the indices must be integers'],
  [
    () => graph.scatterRows([4, 3], i(2), f(2, 4)),
    'scatterRows(int64[2], float32[2,4]): the rows do not fit a table of shape [4,3]',
  ],
  [
    () => graph.gatherElements(f(2, 3), i(3, 3), 1),
    'gatherElements(float32[2,3], int64[3,3]): the operands differ elsewhere than along axis 1',
  ],
  [
    () => graph.scatterElements(f(2, 3), i(2, 2), f(2, 1), 1),
    'scatterElements(float32[2,3], int64[2,2], float32[2,1]): indices and updates differ in shape',
  ],
  [() => graph.topK(f(2, 3), 4, 1), 'topK(float32[2,3]): cannot take 4 of 3 elements'],
  [() => graph.softmax(f()), 'softmax(float32[]): the operand must be a float32 vector or more'],
  [
    () => graph.crossEntropy(f(2, 3), i(3)),
    'crossEntropy(float32[2,3], int64[3]): expected logits [tokens, vocabulary] and labels [tokens]',
  ],
  [
    () => graph.rmsNorm(f(2, 3), f(2), 1e-6),
    'rmsNorm(float32[2,3], float32[2]): the weight must be a vector of the size of the last axis',
  ],
  [
    () => graph.causalConvolution(f(1, 5, 4), f(3, 1, 2)),
    'causalConvolution(float32[1,5,4], float32[3,1,2], -, -): expected x [batch, sequence, channels] and a weight [channels, 1, width]',
  ],
  [
    () => graph.causalConvolution(f(1, 5, 4), f(4, 1, 'width')),
    'causalConvolution(float32[1,5,4], float32[4,1,width], -, -): the width of the weight must be a number',
  ],
  [
    () => graph.causalConvolution(f(1, 5, 4), f(4, 1, 3), f(3)),
    'causalConvolution(float32[1,5,4], float32[4,1,3], float32[3], -): the bias must be [4]',
  ],
  [
    () => graph.causalConvolution(f(1, 5, 4), f(4, 1, 3), undefined, f(1, 3, 4)),
    'causalConvolution(float32[1,5,4], float32[4,1,3], -, float32[1,3,4]): the state must be [1,2,4]',
  ],
  [
    () => graph.causalConvolution(f(1, 5, 4), f(4, 1, 3), undefined, f(1)),
    'causalConvolution(float32[1,5,4], float32[4,1,3], -, float32[1]): the state must be [1,2,4]',
  ],
  [
    () => recurrence({ key: f(1, 5, 7) }),
    'linearRecurrence(float32[1,5,3], float32[1,5,7], float32[1,5,4], -, -, -, -, -, -): the key must be [1,5,3]',
  ],
  [
    () => recurrence({ gate: f(1, 4, 2) }),
    'linearRecurrence(float32[1,5,3], float32[1,5,3], float32[1,5,4], float32[1,4,2], -, -, -, -, -): the gate must be [1,5,2]',
  ],
  [
    () => recurrence({ state: f(1, 2, 2, 3) }),
    'linearRecurrence(float32[1,5,3], float32[1,5,3], float32[1,5,4], -, float32[1,2,2,3], -, -, -, -): the state must be [1,2,3,2]',
  ],
  [
    () => recurrence({ beta: f(1, 5, 1) }),
    'linearRecurrence(float32[1,5,3], float32[1,5,3], float32[1,5,4], -, -, float32[1,5,1], -, -, -): the beta must be [1,5,2]',
  ],
  [
    () => recurrence({ value: f(1, 5, 5) }),
    'linearRecurrence(float32[1,5,3], float32[1,5,3], float32[1,5,5], -, -, -, -, -, -): the widths do not divide into 1 query and 2 value heads',
  ],
  [
    () => mixture({ x: f(2, 5, 6) }),
    'experts(float32[2,5,6], float32[5,8], float32[8,4,6], float32[8,6,2]): expected x [tokens, hidden] and down [experts, hidden, inner]',
  ],
  [
    () => mixture({ weights: f(5, 7) }),
    'experts(float32[5,6], float32[5,7], float32[8,4,6], float32[8,6,2]): the weights must be [5,8]',
  ],
  [
    () => mixture({ up: f(8, 2, 6) }),
    'experts(float32[5,6], float32[5,8], float32[8,2,6], float32[8,6,2]): up must be [8,4,6]',
  ],
  [
    () => mixture({ down: f(8, 7, 2) }),
    'experts(float32[5,6], float32[5,8], float32[8,4,6], float32[8,7,2]): down must be [8,6,2]',
  ],
  [
    () => mixture({}, 9),
    'experts(float32[5,6], float32[5,8], float32[8,4,6], float32[8,6,2]): a token cannot use 9 of 8 experts',
  ],
  [
    () =>
      graph.linearRecurrence(
        { query: f(1, 5, 4), key: f(1, 5, 6), value: f(1, 5, 6) },
        { query: 2, key: 3, value: 3 },
      ),
    'linearRecurrence(float32[1,5,4], float32[1,5,6], float32[1,5,6], -, -, -, -, -, -): 3 heads cannot share 2 queries and 3 keys evenly',
  ],
  [() => f(-1), 'input(): -1 is not a dimension: expected a whole number, 0 or more'],
  [() => f(64 / 3), 'input(): 21.333333333333332 is not a dimension: expected a whole number, 0 or more'],
  [
    () => f('two words'),
    "input(): 'two words' is not a dimension: expected names and numbers joined by + - *",
  ],
];

function mixture(others: Partial<graph.ExpertInputs>, perToken = 2): unknown {
  const inputs = { x: f(5, 6), weights: f(5, 8), up: f(8, 4, 6), down: f(8, 6, 2), ...others };
  return graph.experts(inputs, { activation: 'swiglu', perToken });
}

function recurrence(others: Partial<graph.RecurrenceInputs>): unknown {
  const inputs = { query: f(1, 5, 3), key: f(1, 5, 3), value: f(1, 5, 4), ...others };
  return graph.linearRecurrence(inputs, { query: 1, key: 1, value: 2 });
}

test.each(CASES.map(([build, message]) => [message, build] as const))('%s', (message, build) => {
  expect(build).toThrow(ShapeError);
  expect(build).toThrow(new RegExp(`^${message.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`));
});

describe('layer paths', () => {
  test('an error names the layer in which the operands met', () => {
    const build = () => scope('layers.3', () => scope('mamba', () => graph.add(f(2), f(3))));
    expect(build).toThrow('add(float32[2], float32[3]) in layers.3.mamba: the shapes do not broadcast');
    expect(() => scope('head', () => graph.sum(f(2), 1))).toThrow(
      'sum(float32[2]) in head: axis 1 is outside a tensor of rank 1',
    );
  });

  test('a scope ends where its layer does, also when that fails', () => {
    expect(() => scope('broken', () => graph.add(f(2), f(3)))).toThrow('in broken');
    expect(scope('outer', () => scope('inner', () => f(1)).node.path)).toBe('outer.inner');
    expect(f(1).node.path).toBe('');
  });

  test('a gradient names the layer that it differentiates', () => {
    const x = f(3);
    const [inLayer] = graph.gradient(
      scope('layers.0', () => graph.sum(graph.silu(x))),
      [x],
    );
    expect(inLayer!.node.path).toBe('gradient.layers.0');
    expect(graph.gradient(graph.sum(x), [x])[0]!.node.path).toBe('gradient');
  });
});

test('dimensions take their canonical form wherever they enter', () => {
  expect(f('sequence+past', '2*3', 'b*a').shape).toEqual(['past+sequence', 6, 'a*b']);
  const dtypes: DType[] = ['float32', 'int64', 'int32', 'bool'];
  for (const dtype of dtypes) expect(graph.fill(['b+a'], 1, dtype)).toMatchObject({ dtype, shape: ['a+b'] });
});
