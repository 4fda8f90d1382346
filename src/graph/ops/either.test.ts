/** Branches inside the graph: which one runs, what it sees, and what it is not asked for. */

import { describe, expect, test } from 'vitest';
import { float32, type HostTensor, hostZeros, int64 } from '../../engine/index.js';
import { withInputs } from '../../engine/testing/with-inputs.js';
import { ShapeError } from '../../errors.js';
import { add, either, exp, gather, input, loop, multiply, type Tensor, when, zeros } from '../index.js';
import { cpu } from '../testing/gradient-check.js';

const flag = input('flag', 'float32', ['flag']);
const x = input('x', 'float32', ['n']);

async function run(
  outputs: Record<string, Tensor>,
  set: boolean,
  values: readonly number[],
  feeds: Record<string, HostTensor> = {},
): Promise<Record<string, HostTensor>> {
  const executable = await (await cpu()).compile(withInputs({ outputs }, [flag]));
  const results = await executable.run({
    flag: hostZeros('float32', [set ? 1 : 0]),
    x: float32(values, [values.length]),
    ...feeds,
  });
  await executable.dispose();
  return results;
}

const numbers = (tensor: HostTensor | undefined): number[] => Array.from(tensor!.data, Number);

describe('either', () => {
  test('makes what the one or the other makes, which see the graph around them', async () => {
    const scale = exp(multiply(x, 0));
    const [a, b] = either(
      'flag',
      () => [add(x, scale), zeros([3])],
      () => [multiply(x, 10), x],
    ) as [Tensor, Tensor];
    expect(a.shape).toEqual(['n']);
    expect(b.shape).toEqual([expect.any(String)]);
    const one = await run({ a, b }, true, [1, 2]);
    expect([numbers(one.a), numbers(one.b)]).toEqual([
      [2, 3],
      [0, 0, 0],
    ]);
    const other = await run({ a, b }, false, [1, 2]);
    expect([numbers(other.a), numbers(other.b)]).toEqual([
      [10, 20],
      [1, 2],
    ]);
  });

  test('computes nothing of the branch that is not taken', async () => {
    const at = input('at', 'int64', ['m']);
    const [picked] = either(
      'flag',
      () => [gather(x, at)],
      () => [zeros(['m'])],
    ) as [Tensor];
    // There is no such element to gather.
    const wrong = { at: int64([99], [1]) };
    expect(numbers((await run({ picked }, false, [1], wrong)).picked)).toEqual([0]);
    await expect(run({ picked }, true, [1], wrong)).rejects.toThrow();
  });

  test('stands in loops, and loops in it', async () => {
    const { carried } = loop(3, [x], (_, [value]) => ({
      carried: [
        when('flag', value!, () => {
          const inner = loop(2, [value!], (step, [v]) => ({
            carried: [add(v!, add(multiply(x, 0), 1))],
            stacked: [step],
          }));
          return inner.carried[0]!;
        }),
      ],
      stacked: [],
    }));
    expect(numbers((await run({ y: carried[0]! }, true, [5])).y)).toEqual([11]);
    expect(numbers((await run({ y: carried[0]! }, false, [5])).y)).toEqual([5]);
  });

  test('wants the same kind of results from both', () => {
    const make = (results: readonly Tensor[]) => () =>
      either(
        'flag',
        () => [x],
        () => results,
      );
    expect(make([zeros(['n'], 'int64')])).toThrow(ShapeError);
    expect(make([zeros(['n', 1])])).toThrow('the branches make different things of result 0');
    expect(make([])).toThrow(ShapeError);
  });
});
