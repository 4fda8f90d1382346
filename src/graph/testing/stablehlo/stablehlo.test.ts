/** What the evaluator refuses, and what is printed for XLA beyond the operators' own cases. */
import { describe, expect, test } from 'vitest';
import { float32, type HostTensor } from '../../../engine/index.js';
import { XlaDevice } from '../../../engine/xla/device.js';
import { EvaluatorClient } from '../../../engine/xla/testing/evaluator-client.js';
import {
  attention,
  input,
  loop,
  lowerToStableHlo,
  multiply,
  scalar,
  scan,
  sum,
  type Tensor,
  zeros,
} from '../../index.js';
import { casesOf } from '../../ops/testing/index.js';
import { type NdArray, relativeError, toArray } from '../arrays.js';
import { uniform } from '../random.js';
import { compileText } from './evaluate.js';

const module = (body: string, signature = '%arg0: tensor<2x3xf32>', result = 'tensor<2x3xf32>'): string =>
  `module @m attributes {} {\nfunc.func public @main(${signature}) -> (${result}) {\n${body}\n}\n}\n`;

describe('types', () => {
  test.each([
    [
      'an operand of another type than is said',
      '%0 = stablehlo.add %arg0, %arg0 : tensor<2x3xbf16>',
      'is f32[2,3]',
    ],
    ['a value that is not there', '%0 = stablehlo.add %arg0, %arg1 : tensor<2x3xf32>', 'there is no %arg1'],
    [
      'a result of another shape',
      '%0 = stablehlo.transpose %arg0, dims = [1, 0] : (tensor<2x3xf32>) -> tensor<2x3xf32>',
      'it makes f32[3,2]',
    ],
    [
      'a broadcast of another size',
      '%0 = stablehlo.broadcast_in_dim %arg0, dims = [0, 1] : (tensor<2x3xf32>) -> tensor<2x4xf32>',
      'axis 1',
    ],
    [
      'a comparison of floats as integers',
      '%0 = stablehlo.compare LT, %arg0, %arg0, SIGNED : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xi1>',
      'compared as SIGNED',
    ],
    [
      'a slice beyond the end',
      '%0 = stablehlo.slice %arg0 [0:2, 0:4] : (tensor<2x3xf32>) -> tensor<2x4xf32>',
      'the range 0:4',
    ],
    [
      'a product of sizes that differ',
      '%0 = stablehlo.dot_general %arg0, %arg0, contracting_dims = [1] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>',
      'summed over',
    ],
    ['an integer for a float', '%0 = stablehlo.constant dense<1> : tensor<2x3xf32>', '1 is no f32'],
    [
      'an instruction that we do not print',
      '%0 = stablehlo.cholesky %arg0 : tensor<2x3xf32>',
      'an instruction that we print',
    ],
  ])('%s', (_, instruction, message) => {
    const last = /-> (.*)$/.exec(instruction)?.[1] ?? /: ([^:]*)$/.exec(instruction)![1]!;
    const text = module(`${instruction}\nreturn %0 : ${last}`, undefined, last);
    expect(() => compileText(text)).toThrow(message);
  });

  test('a reduction of bfloat16 is rounded to bfloat16, and a product with a float32 result is not', () => {
    const { run } = compileText(
      module(
        `%0 = stablehlo.dot_general %arg0, %arg0, contracting_dims = [0] x [0], precision = [DEFAULT, DEFAULT] : (tensor<2xbf16>, tensor<2xbf16>) -> tensor<f32>
         return %0 : tensor<f32>`,
        '%arg0: tensor<2xbf16>',
        'tensor<f32>',
      ),
    );
    const [result] = run([{ type: { element: 'bf16', dims: [2] }, data: Float64Array.of(1, 2 ** -6) }]);
    expect(result!.data[0]).toBe(1 + 2 ** -12);
  });
});

describe('attention without its weights', () => {
  for (const proof of casesOf('attention')) {
    test.each([1, 2 ** 28])(`${proof.name}, %i bytes of logits at once`, (logitBytes) => {
      const leaves = proof.operands.map(({ dtype, dims }, i) => input(`operand${i}`, dtype, dims));
      const [output] = [proof.build(...leaves)].flat() as [Tensor];
      const { text, arguments: given } = lowerToStableHlo({
        outputs: { output },
        inputs: leaves,
        states: [],
        lengths: undefined,
        weights: new Map(),
        sizes: () => 0,
        precision: 'float32',
        logitBytes,
      });
      const operands = given.map(({ element, dims }, i) => ({
        type: { element, dims },
        data: toArray(proof.operands[i]!).data,
      }));
      const [actual] = compileText(text).run(operands);
      const [expected] = [proof.expected(...proof.operands.map(toArray))].flat() as [NdArray];
      expect(relativeError(actual!.data, expected.data)).toBeLessThan(1e-5);
      if (logitBytes === 1 && leaves[0]!.shape[2] === 4) expect(text).toContain('stablehlo.while');
    });
  }

  test('is computed in blocks of queries where its logits are many', async () => {
    const [heads, sequence, room] = [2, 64, 2 ** 20];
    const query = input('query', 'float32', [1, heads, sequence, 2]);
    const key = input('key', 'float32', [1, 1, sequence, 2]);
    const past = input('past', 'float32', [1, 1, room, 2]);
    const lengths = input('lengths', 'int64', [1]);
    const { output } = attention(
      { query, key, value: key, past: { key: past, value: past, lengths } },
      { scale: 1, causal: true },
    );
    const { text } = lowerToStableHlo({
      outputs: { output },
      inputs: [query, key, past, lengths],
      states: [],
      lengths: undefined,
      weights: new Map(),
      sizes: () => 0,
      precision: 'bfloat16',
    });
    expect(text).toContain('stablehlo.while');
    expect(text).not.toContain(`x${sequence}x${room}xf32`);
    compileText(text);
  });
});

test('a loop carries values, stacks them and uses those around it', async () => {
  const x = input('x', 'float32', [2]);
  const { carried, stacked } = loop(4, [x], (step, [value]) => {
    const next = multiply(value!, sum(x));
    return { carried: [next], stacked: [next, step] };
  });
  const device = new XlaDevice(new EvaluatorClient(), { precision: 'float32' });
  const outputs = { last: carried[0]!, all: stacked[0]!, steps: stacked[1]! };
  const results = await (await device.compile({ inputs: [x], outputs })).run({ x: uniform(1, [2]) });
  const [a, b] = uniform(1, [2]).data as Float32Array;
  expect(results.last!.data[0]).toBeCloseTo(a! * (a! + b!) ** 4, 5);
  expect(results.all!.dims).toEqual([4, 2]);
  expect(Array.from(results.steps!.data, Number)).toEqual([0, 1, 2, 3]);
});

test('a loop that ends early is refused', async () => {
  const x = input('x', 'float32', []);
  const { carried } = loop(3, [x], (_, [value]) => ({
    carried: [value!],
    stacked: [],
    proceed: scalar(0, 'bool'),
  }));
  const device = new XlaDevice(new EvaluatorClient(), { precision: 'float32' });
  const executable = await device.compile({ inputs: [x], outputs: { last: carried[0]! } });
  await expect(executable.run({ x: uniform(1, []) })).rejects.toThrow('end early');
});

describe('one token of a linear recurrence after the other', () => {
  for (const proof of casesOf('linearRecurrence')) {
    test(proof.name, async () => {
      // The state is the one operand with four axes; of the others each run is given one token.
      const isState = ({ dims }: HostTensor): boolean => dims.length === 4;
      const leaves = proof.operands.map((operand, i) => {
        const [batch, , size] = operand.dims;
        return input(`operand${i}`, 'float32', isState(operand) ? operand.dims : [batch!, 1, size!]);
      });
      const [output, state] = proof.build(...leaves) as [Tensor, Tensor];
      const client = new EvaluatorClient();
      const device = new XlaDevice(client, { precision: 'float32' });
      const executable = await device.compile({ inputs: leaves, outputs: { output, state } });
      let held = proof.operands.find(isState)!;
      const [expected, last] = proof.expected(...proof.operands.map(toArray)) as readonly NdArray[];
      for (let t = 0; t < 3; t++) {
        const feeds = proof.operands.map((operand, i) => {
          if (isState(operand)) return [`operand${i}`, held] as const;
          const [batch, tokens, size] = operand.dims as [number, number, number];
          const data = Float32Array.from({ length: batch * size }, (_, at) => {
            const row = Math.floor(at / size);
            return operand.data[(row * tokens + t) * size + (at % size)] as number;
          });
          return [`operand${i}`, float32(data, [batch, 1, size])] as const;
        });
        const made = await executable.run(Object.fromEntries(feeds));
        held = made.state!;
        const [batch, , size] = expected!.dims as [number, number, number];
        const token = Float64Array.from({ length: batch * size }, (_, at) => {
          return expected!.at(Math.floor(at / size), t, at % size);
        });
        expect(relativeError(made.output!.data as Float32Array, token)).toBeLessThan(1e-5);
      }
      expect(relativeError(held.data as Float32Array, last!.data)).toBeLessThan(1e-5);
      expect(client.texts[0]).not.toContain('dot_general');
    });
  }
});

describe('decay from chunk to chunk, as one product', () => {
  test.each([
    [false, false],
    [false, true],
    [true, false],
    [true, true],
  ])('reverse %s, from zeros %s', async (reverse, fromZeros) => {
    const dims = [5, 2, 3, 2, 4];
    const transition = input('transition', 'float32', [5, 2, 3, 1, 1]);
    const added = input('added', 'float32', dims);
    const initial = fromZeros ? zeros(dims.slice(1)) : input('initial', 'float32', dims.slice(1));
    const inputs = [transition, added, ...(fromZeros ? [] : [initial])];
    const client = new EvaluatorClient();
    const device = new XlaDevice(client, { precision: 'float32' });
    const decays = uniform(1, [5, 2, 3, 1, 1], 0.1, 1);
    // One that forgets everything before it.
    decays.data[13] = 0;
    const feeds = {
      transition: decays,
      added: uniform(2, dims),
      ...(fromZeros ? {} : { initial: uniform(3, dims.slice(1)) }),
    };
    const [product, tree] = await Promise.all(
      [true, false].map(async (isProduct) => {
        const { states, last } = scan(transition, added, initial, {
          product: 'elements',
          reverse,
          ...(isProduct && { decays: true }),
        });
        return (await device.compile({ inputs, outputs: { states, last } })).run(feeds);
      }),
    );
    for (const name of ['states', 'last']) {
      const error = relativeError(product![name]!.data as Float32Array, tree![name]!.data as Float32Array);
      expect(error, name).toBeLessThan(1e-5);
    }
    expect(client.texts.filter((text) => text.includes('stablehlo.dot_general')).length).toBe(1);
    expect(client.texts.filter((text) => text.includes('stablehlo.while')).length).toBe(0);
  });
});
