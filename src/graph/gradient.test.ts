/** The backward walk itself: which parts are summed, where they stop, and composites without a rule. */

import { describe, expect, test } from 'vitest';
import { float32, type HostTensor } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { ShapeError } from '../errors.js';
import { add, cast, detach, exp, fill, gradient, input, multiply, split, sum, type Tensor } from './index.js';
import { applyOne, defineComposite } from './tensor.js';
import { cpu } from './testing/gradient-check.js';

/** The values of scalars or vectors, by name. */
async function run(
  outputs: Record<string, Tensor>,
  feeds: Record<string, HostTensor>,
): Promise<Record<string, number[]>> {
  const executable = await (await cpu()).compile(withInputs({ outputs }));
  const results = await executable.run(feeds);
  await executable.dispose();
  return Object.fromEntries(
    Object.entries(results).map(([name, { data }]) => [name, Array.from(data, Number)]),
  );
}

const scalar = (value: number): HostTensor => float32([value], []);
const vector = (...values: number[]): HostTensor => float32(values, [values.length]);

test('a tensor that is used several times gets the sum of its parts', async () => {
  const x = input('x', 'float32', []);
  const y = add(multiply(x, x), add(x, x));
  const [dx] = gradient(y, [x]);
  expect(await run({ dx: dx! }, { x: scalar(3) })).toEqual({ dx: [8] });
});

test('a gradient has a gradient', async () => {
  const x = input('x', 'float32', []);
  const [first] = gradient(multiply(x, multiply(x, x)), [x]);
  const [second] = gradient(first!, [x]);
  expect(await run({ first: first!, second: second! }, { x: scalar(2) })).toEqual({
    first: [12],
    second: [12],
  });
});

test('several roots, one of them twice, each with its seed', async () => {
  const x = input('x', 'float32', [2]);
  const square = multiply(x, x);
  const seed = (value: number) => fill([2], value);
  const [dx] = gradient([square, x, x], [x], [seed(1), seed(10), seed(100)]);
  expect(await run({ y: square, dx: dx! }, { x: vector(1, 2) })).toMatchObject({ dx: [112, 114] });
});

test('what the loss does not depend on gets zeros', async () => {
  const x = input('x', 'float32', ['n']);
  const unused = input('unused', 'float32', ['n', 2]);
  const [dx, zero] = gradient(sum(x), [x, unused]);
  const results = await run({ dx: dx!, zero: zero!, total: sum(x) }, { x: vector(1, 2) });
  expect(results).toMatchObject({ dx: [1, 1], zero: [0, 0, 0, 0] });
});

describe('with respect to a tensor inside the graph', () => {
  test('as if it were an input', async () => {
    const x = input('x', 'float32', []);
    const middle = exp(x);
    const [dm, dx] = gradient(multiply(middle, middle), [middle, x]);
    const results = await run({ dm: dm!, dx: dx! }, { x: scalar(0) });
    expect(results).toEqual({ dm: [2], dx: [2] });
  });

  test('through which no gradient flows on', async () => {
    const x = input('x', 'float32', []);
    const stopped = detach(x);
    const [ds, dx] = gradient(multiply(stopped, x), [stopped, x]);
    expect(await run({ ds: ds!, dx: dx! }, { x: scalar(3) })).toEqual({ ds: [3], dx: [3] });
    const converted = cast(input('i', 'int64', [2]), 'float32');
    const [dc] = gradient(sum(multiply(converted, converted)), [converted]);
    const i: HostTensor = { dtype: 'int64', dims: [2], data: BigInt64Array.of(1n, -4n) };
    expect(await run({ dc: dc! }, { i })).toEqual({ dc: [2, -8] });
  });

  test('of several results of an operator, when only some are used', async () => {
    const x = input('x', 'float32', [3]);
    const [left, right] = split(x, 0, [1, 2]);
    const [dx, dl, dr] = gradient(sum(multiply(right!, 5)), [x, left!, right!]);
    expect(await run({ y: sum(x), dx: dx!, dl: dl!, dr: dr! }, { x: vector(1, 2, 3) })).toMatchObject({
      dx: [0, 5, 5],
      dl: [0],
      dr: [5, 5],
    });
  });
});

describe('a composite without a rule of its own', () => {
  // a^2 b + a, whose operands may depend on each other.
  const composite = defineComposite<null>({
    name: 'composite for a test',
    infer: ([a]) => [{ dtype: 'float32', shape: a!.shape }],
    expand: ([a, b]) => [add(multiply(multiply(a!, a!), b!), a!)],
  });

  test('has the gradient of its expansion', async () => {
    const [a, b] = [input('a', 'float32', []), input('b', 'float32', [])];
    const [da, db] = gradient(applyOne(composite, [a, b], null), [a, b]);
    const results = await run({ da: da!, db: db! }, { a: scalar(3), b: scalar(4) });
    expect(results).toEqual({ da: [25], db: [9] });
  });

  test('also where one operand depends on another, or both are the same', async () => {
    const x = input('x', 'float32', []);
    const [chained] = gradient(applyOne(composite, [x, multiply(x, x)], null), [x]);
    const [same] = gradient(applyOne(composite, [x, x], null), [x]);
    const results = await run({ chained: chained!, same: same! }, { x: scalar(2) });
    expect(results).toEqual({ chained: [33], same: [13] });
  });

  test('and may hand an operand through', async () => {
    const through = defineComposite<null>({
      name: 'operand handed through for a test',
      infer: ([a]) => [{ dtype: 'float32', shape: a!.shape }],
      expand: ([a]) => [a!],
    });
    const x = input('x', 'float32', []);
    const y = multiply(applyOne(through, [x], null), x);
    expect(await run({ y, dx: gradient(y, [x])[0]! }, { x: scalar(5) })).toEqual({ y: [25], dx: [10] });
  });
});

test("other rules are taken instead of an operator's own, also inside composites", async () => {
  const squared = defineComposite<null>({
    name: 'exp, squared, for a test',
    infer: ([a]) => [{ dtype: 'float32', shape: a!.shape }],
    expand: ([a]) => [multiply(exp(a!), exp(a!))],
  });
  const x = input('x', 'float32', []);
  const y = add(exp(x), applyOne(squared, [x], null));
  // As if exp(x) were x.
  const [dx] = gradient(y, [x], undefined, { exp: ({ outputGradients }) => [outputGradients[0]] });
  const { dx: found } = await run({ dx: dx! }, { x: scalar(1) });
  expect(found![0]).toBeCloseTo(1 + 2 * Math.E, 5);
});

test('a graph may be deeper than the call stack', async () => {
  const x = input('x', 'float32', []);
  let y: Tensor = x;
  for (let i = 0; i < 20_000; i++) y = add(y, x);
  expect(gradient(y, [x])).toHaveLength(1);
});

describe('errors', () => {
  const x = input('x', 'float32', [2]);

  test('a loss must be a scalar, or have a seed', () => {
    expect(() => gradient(x, [x])).toThrow(ShapeError);
    expect(() => gradient(x, [x])).toThrow('the gradient of a tensor that is no scalar needs a seed');
  });

  test('a seed must be shaped as its root', () => {
    expect(() => gradient([x], [x], [fill([3], 1)])).toThrow('the gradient of input has shape [3], not [2]');
  });
});
