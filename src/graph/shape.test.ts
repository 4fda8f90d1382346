/** The algebra of dimensions: canonical forms, exact quotients, and what broadcasts. */
import { describe, expect, test } from 'vitest';
import { ShapeError } from '../errors.js';
import {
  addDims,
  broadcastShapes,
  canonicalShape,
  type Dim,
  dimTerms,
  divideDim,
  divideDimUp,
  evaluateDim,
  formatShape,
  multiplyDims,
  namesIn,
  normalizeAxis,
  sameShape,
} from './shape.js';

const WHERE = new Map([
  ['batch', 3],
  ['past', 5],
  ['sequence', 7],
]);

describe('sums', () => {
  test.each<[Dim[], Dim]>([
    [[2, 3], 5],
    [[], 0],
    [['sequence', 0], 'sequence'],
    [['sequence', 'past'], 'past+sequence'],
    [['sequence', 4, 'past', 3], 'past+sequence+7'],
    [['sequence', 'sequence'], '2*sequence'],
    [['past+sequence', '-past'], 'sequence'],
    [['sequence-1', 1], 'sequence'],
    [['sequence', '-sequence'], 0],
    [['past-2*sequence', 'sequence-3'], 'past-sequence-3'],
    [['-past', 4], '-past+4'],
  ])('of %j is %s', (dims, sum) => {
    expect(addDims(...dims)).toBe(sum);
  });
});

describe('products', () => {
  test.each<[Dim[], Dim]>([
    [[2, 3], 6],
    [[], 1],
    [['sequence', 0], 0],
    [['sequence', 1], 'sequence'],
    [['sequence', 'batch'], 'batch*sequence'],
    [['sequence', 2, 'batch', 3], '6*batch*sequence'],
    [['past+sequence', 'batch'], 'batch*past+batch*sequence'],
    [['sequence+1', 'sequence-1'], 'sequence*sequence-1'],
    [['sequence', -1], '-sequence'],
  ])('of %j is %s', (dims, product) => {
    expect(multiplyDims(dims)).toBe(product);
  });
});

describe('quotients', () => {
  test.each<[Dim, Dim, Dim | undefined]>([
    [12, 4, 3],
    [12, 5, undefined],
    [0, 4, 0],
    ['6*batch*sequence', '2*sequence', '3*batch'],
    ['6*batch*sequence', 4, undefined],
    ['batch', 'sequence', undefined],
    ['batch*sequence', 'batch*sequence', 1],
    ['4*past+6*sequence', 2, '2*past+3*sequence'],
    ['4*past+6*sequence', 4, undefined],
    ['batch*past+batch*sequence', 'batch', 'past+sequence'],
    ['batch*past+batch*sequence', 'past+sequence', 'batch'],
    ['64*batch*past+64*batch*sequence', 'batch*past+batch*sequence', 64],
    ['sequence*sequence-1', 'sequence+1', 'sequence-1'],
    ['sequence*sequence+1', 'sequence+1', undefined],
    ['past+sequence', 'sequence', undefined],
    // For some values of its symbols a sum is zero, and a product with it no longer says what was left.
    ['batch', 0, undefined],
  ])('of %s by %s is %s', (dim, divisor, quotient) => {
    expect(divideDim(dim, divisor)).toBe(quotient);
  });
});

describe('quotients that are rounded up', () => {
  test.each<[Dim, number, Dim]>([
    [12, 5, 3],
    [0, 5, 0],
    ['6*batch', 3, '2*batch'],
    ['sequence', 64, 'ceil(sequence/64)'],
    ['sequence+past', 64, 'ceil(past+sequence/64)'],
    ['ceil(sequence/64)', 2, 'ceil(ceil(sequence/64)/2)'],
  ])('of %s by %s is %s', (dim, divisor, quotient) => {
    expect(divideDimUp(dim, divisor)).toBe(quotient);
  });

  test('add, multiply and divide as names do', () => {
    const pieces = divideDimUp('sequence-past', 4);
    expect(addDims(multiplyDims([pieces, 4]), '-sequence')).toBe('4*ceil(-past+sequence/4)-sequence');
    expect(divideDim(multiplyDims([pieces, 'batch', pieces]), pieces)).toBe('batch*ceil(-past+sequence/4)');
    expect(canonicalShape(['ceil(2+sequence+1/4)'])).toEqual(['ceil(sequence+3/4)']);
    expect(namesIn(multiplyDims([pieces, 'batch']))).toEqual(['batch', 'past', 'sequence']);
  });
});

test('what is composed in another order has the same form', () => {
  const sums = [addDims('a', 'b', 'c'), addDims('c', 'a', 'b'), addDims(addDims('b', 'c'), 'a')];
  expect(new Set(sums)).toEqual(new Set(['a+b+c']));
  const products = [multiplyDims(['a', 2, 'b+1']), multiplyDims(['b+1', 'a', 2])];
  expect(new Set(products)).toEqual(new Set(['2*a+2*a*b']));
});

test('dimensions compute as their values do', () => {
  const dims: Dim[] = [0, 4, 'batch', 'past+sequence', '2*batch*sequence-3', 'sequence*sequence', '-past+9'];
  for (const dim of dims)
    for (const by of [1, 3, 64]) {
      expect(evaluateDim(divideDimUp(dim, by), WHERE)).toBe(Math.ceil(evaluateDim(dim, WHERE) / by));
    }
  const value = (dim: Dim): number => evaluateDim(dim, WHERE);
  for (const a of dims) {
    for (const b of dims) {
      expect(value(addDims(a, b))).toBe(value(a) + value(b));
      expect(value(multiplyDims([a, b]))).toBe(value(a) * value(b));
      if (b !== 0) expect(divideDim(multiplyDims([a, b]), b)).toBe(a);
    }
  }
});

test('the terms of a dimension', () => {
  expect(dimTerms('2*batch*sequence*sequence-past')).toEqual([
    { symbols: ['batch', 'sequence', 'sequence'], coefficient: 2 },
    { symbols: ['past'], coefficient: -1 },
  ]);
});

test.each([
  '3 apples',
  'a/b',
  'batch*',
  '2*-a',
  '(a+b)',
  '1.5',
  'ceil(a)',
  'ceil(a/b)',
  'ceil(/2)',
  'ceil(a/2)b',
  'ceil(a/0)',
])("'%s' is no dimension", (text) => {
  expect(() => addDims(text, 1)).toThrow(ShapeError);
  expect(() => addDims(text, 1)).toThrow(`'${text}' is not a dimension`);
});

test('a symbol without a value is named', () => {
  expect(() => evaluateDim('batch*heads', WHERE)).toThrow("the dimension 'heads' has no value");
});

test('shapes print and compare dimension by dimension', () => {
  expect(formatShape([2, 'batch', 64])).toBe('[2,batch,64]');
  expect(sameShape(['batch', 2], ['batch', 2])).toBe(true);
  expect(sameShape(['batch', 2], ['batch'])).toBe(false);
  expect(sameShape(['batch', 2], [2, 'batch'])).toBe(false);
});

test.each<[Dim[], Dim[], Dim[] | undefined]>([
  [[], [], []],
  [[3], [], [3]],
  [
    [2, 1, 3],
    [4, 1],
    [2, 4, 3],
  ],
  [['batch', 1], ['sequence'], ['batch', 'sequence']],
  [
    [1, 'sequence'],
    ['batch', 1],
    ['batch', 'sequence'],
  ],
  [['batch'], ['sequence'], undefined],
  [[2], [3], undefined],
  [['batch'], [2], undefined],
])('%j and %j broadcast to %j', (a, b, shape) => {
  expect(broadcastShapes(a, b)).toEqual(shape);
});

test('axes count from either end', () => {
  expect([normalizeAxis(0, 3), normalizeAxis(2, 3), normalizeAxis(-1, 3), normalizeAxis(-3, 3)]).toEqual([
    0, 2, 2, 0,
  ]);
  for (const axis of [3, -4, 0.5, Number.NaN]) {
    expect(() => normalizeAxis(axis, 3)).toThrow(`axis ${axis} is outside a tensor of rank 3`);
  }
});
