/** What can be an output of a model, and what a model says about itself. */
import { describe, expect, test } from 'vitest';
import { ShapeError } from '../../../errors.js';
import {
  add,
  constant,
  exp,
  input,
  loop,
  multiply,
  scalar,
  scope,
  silu,
  type Tensor,
  toOnnx,
} from '../../index.js';
import { uniform } from '../../testing/random.js';
import { contains, runOnnx } from '../../testing/run-onnx.js';

const x = input('x', 'float32', ['batch', 2]);
const feeds = { x: uniform(1, [3, 2]) };

describe('outputs', () => {
  test('may be inputs, constants, the same tensor twice, and operands of others', async () => {
    const y = exp(x);
    const z = add(y, 1);
    const results = await runOnnx(toOnnx({ same: x, y, twin: y, z, one: scalar(1) }), feeds);
    expect(results.same!.data).toEqual(Float64Array.from(feeds.x.data as Float32Array));
    expect(results.twin).toEqual(results.y);
    expect(results.z!.data).toEqual(results.y!.data.map((value) => Math.fround(value + 1)));
    expect(results.one!.data).toEqual(Float64Array.of(1));
  });

  test('may be values that a loop inside uses', async () => {
    const y = exp(x);
    const { carried } = loop(2, [x], (_, [a]) => ({ carried: [add(a!, y)], stacked: [] }));
    const results = await runOnnx(toOnnx({ y, total: carried[0]! }), feeds);
    const inputs = feeds.x.data as Float32Array;
    const twice = results.y!.data.map((value, i) => Math.fround(Math.fround(inputs[i]! + value) + value));
    expect(results.total!.data).toEqual(twice);
  });

  test('may be composites and parts of their expansions', async () => {
    const y = silu(x);
    const results = await runOnnx(toOnnx({ y, square: multiply(y, y) }), feeds);
    expect(results.square!.data).toEqual(results.y!.data.map((value) => Math.fround(value * value)));
  });
});

describe('a model', () => {
  test('declares its inputs and outputs', () => {
    const other = input('other', 'float32', [1]);
    const { inputs, outputs } = toOnnx({ y: add(x, x) });
    expect(inputs).toEqual([{ name: 'x', dtype: 'float32', shape: ['batch', 2] }]);
    expect(outputs).toEqual([{ name: 'y', dtype: 'float32', shape: ['batch', 2] }]);
    expect(toOnnx({ y: add(x, other) }, { dims: { batch: 4 } })).toMatchObject({
      inputs: [{ shape: [4, 2] }, { name: 'other' }],
      outputs: [{ shape: [4, 2] }],
    });
  });

  test('stores equal constants once, and different ones apart', async () => {
    const values = (data: Float32Array | Int32Array): Tensor => constant(data, [2]);
    const size = (...tensors: Tensor[]): number =>
      toOnnx(Object.fromEntries(tensors.map((tensor, i) => [`y${i}`, tensor]))).bytes.length;
    const one = values(Float32Array.of(1.25, 2));
    const same = values(Float32Array.of(1.25, 2));
    const other = values(Float32Array.of(1.5, 2));
    expect(size(one, same)).toBeLessThan(size(one, other));
    // The same bits, but of another type.
    const bits = values(Int32Array.from(new Int32Array(Float32Array.of(1.25, 2).buffer)));
    const results = await runOnnx(toOnnx({ one, same, other, bits }), {});
    expect([...results.one!.data]).toEqual([1.25, 2]);
    expect([...results.same!.data]).toEqual([1.25, 2]);
    expect([...results.other!.data]).toEqual([1.5, 2]);
    expect(results.bits!.data[1]).toBe(2 ** 30);
  });

  test('names its nodes by layer', () => {
    const y = scope('layers.7', () => exp(x));
    expect(contains(toOnnx({ y }), 'layers.7/Exp')).toBe(true);
  });
});

describe('names', () => {
  test('of two inputs differ', () => {
    const model = () => toOnnx({ y: add(input('x', 'float32', [2]), input('x', 'float32', [2])) });
    expect(model).toThrow(ShapeError);
    expect(model).toThrow("the input 'x' has the name of another input");
  });

  test('of an input and an output differ', () => {
    expect(() => toOnnx({ x: add(x, x) })).toThrow("the input 'x' has the name of an output");
  });
});
