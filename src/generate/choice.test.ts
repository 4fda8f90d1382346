/** From logits to a token: what each setting leaves out, how often the rest is chosen, and that a seed decides. */
import { describe, expect, test } from 'vitest';
import { float32, openDevice } from '../engine/index.js';
import { loopDevice } from '../engine/loop/index.js';
import { ConfigError, DataError } from '../errors.js';
import { Random } from '../nn/index.js';
import { checkChoice, choiceFeeds, choiceProgram } from './choice.js';
import { checkSampling, type SamplingOptions } from './sampling.js';

const plain: SamplingOptions = { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1 };
const nothing: ReadonlySet<number> = new Set();

const device = await openDevice('cpu', { threads: 1 });

/** The tokens chosen from the same logits, one for each random number. */
async function choose(
  logits: readonly number[],
  options: Partial<SamplingOptions>,
  numbers: readonly number[],
  seen: ReadonlySet<number> = nothing,
): Promise<number[]> {
  const count = numbers.length;
  const executable = await loopDevice(device).compile(choiceProgram(logits.length));
  const rows = float32(Array.from({ length: count }, () => logits).flat(), [count, logits.length]);
  const choosing = { ...plain, ...options, ends: [], occurred: seen };
  const { tokens } = await executable.run({
    logits: rows,
    random: float32(numbers, [count]),
    ...choiceFeeds(
      numbers.map(() => choosing),
      logits.length,
    ),
  });
  await executable.dispose();
  const chosen = Array.from(tokens!.data, Number);
  for (const token of chosen) checkChoice(token, Float32Array.from(logits));
  return chosen;
}

/** How often each token is chosen in `count` draws. */
async function frequencies(
  logits: readonly number[],
  options: Partial<SamplingOptions>,
  { seen = nothing, count = 20_000 }: { seen?: ReadonlySet<number>; count?: number } = {},
): Promise<number[]> {
  const random = new Random(5);
  const numbers = Array.from({ length: count }, () => random.uniform());
  const chosen = logits.map(() => 0);
  for (const token of await choose(logits, options, numbers, seen)) chosen[token]!++;
  return chosen.map((times) => times / count);
}

function softmax(logits: readonly number[], temperature = 1): number[] {
  const weights = logits.map((logit) => Math.exp(logit / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/** Within five standard deviations of what chance allows. */
function expectNear(actual: readonly number[], expected: readonly number[], count = 20_000): void {
  for (const [i, p] of expected.entries()) {
    const allowed = 5 * Math.sqrt((p * (1 - p)) / count);
    expect(Math.abs(actual[i]! - p), `token ${i}: ${actual[i]} for ${p}`).toBeLessThanOrEqual(allowed);
  }
}

const logits = [1, 3, -2, 2.5, 0, 3];

describe('temperature', () => {
  test('0 takes the most likely token, of equal ones the first', async () => {
    expect(await frequencies(logits, { temperature: 0 }, { count: 20 })).toEqual([0, 1, 0, 0, 0, 0]);
    expect(await frequencies([7, 7, 7], { temperature: 0 }, { count: 20 })).toEqual([1, 0, 0]);
    expect(await frequencies([-3, -1, -2], { temperature: 0 }, { count: 20 })).toEqual([0, 1, 0]);
  });

  for (const temperature of [0.5, 1, 2]) {
    test(`${temperature}: the softmax`, async () =>
      expectNear(await frequencies(logits, { temperature }), softmax(logits, temperature)));
  }

  test('one close to 0 is greedy, one beyond all bounds makes all alike', async () => {
    expect(await frequencies([1, 1.5, 1.2], { temperature: 1e-300 }, { count: 50 })).toEqual([0, 1, 0]);
    expectNear(
      await frequencies(logits, { temperature: 1e300 }),
      logits.map(() => 1 / 6),
    );
  });

  test('logits far from 0 do not overflow', async () => {
    expectNear(await frequencies([1e4, 1e4 + 1], {}), softmax([0, 1]));
    expectNear(await frequencies([-1e4, -1e4 + 1], {}), softmax([0, 1]));
  });

  test('a masked token never comes', async () => {
    const [first, masked] = await frequencies([0, Number.NEGATIVE_INFINITY, 0], {});
    expect(masked).toBe(0);
    expect(first).toBeGreaterThan(0.4);
  });
});

describe('topK', () => {
  test('leaves the k most likely, of equal ones the first', async () => {
    const [first, second, third] = softmax([3, 2.5, 3]);
    expectNear(await frequencies(logits, { topK: 3 }), [0, first!, 0, second!, 0, third!]);
    expect((await frequencies([1, 1, 1, 1], { topK: 2 })).slice(2)).toEqual([0, 0]);
  });

  test('1 is greedy; as many as there are, or 0, leaves all', async () => {
    expect(await frequencies(logits, { topK: 1 }, { count: 50 })).toEqual([0, 1, 0, 0, 0, 0]);
    for (const topK of [0, 6, 100]) expectNear(await frequencies(logits, { topK }), softmax(logits));
  });
});

describe('topP', () => {
  const probabilities = [0.1, 0.5, 0.15, 0.25];
  const mass = probabilities.map(Math.log);
  const renormalised = (...kept: number[]): number[] => {
    const total = kept.reduce((sum, token) => sum + probabilities[token]!, 0);
    return probabilities.map((p, token) => (kept.includes(token) ? p / total : 0));
  };

  test('leaves the fewest tokens that have that much together', async () => {
    expectNear(await frequencies(mass, { topP: 0.45 }), renormalised(1));
    expectNear(await frequencies(mass, { topP: 0.7 }), renormalised(1, 3));
    expectNear(await frequencies(mass, { topP: 0.8 }), renormalised(1, 3, 2));
    expectNear(await frequencies(mass, { topP: 0.95 }), renormalised(0, 1, 2, 3));
    expectNear(await frequencies(mass, { topP: 1 }), probabilities);
  });

  test('always leaves one', async () => {
    expect(await frequencies(mass, { topP: 1e-12 }, { count: 50 })).toEqual([0, 1, 0, 0]);
  });

  test('counts what topK left', async () => {
    // Of the two that are left the first has 2/3.
    expectNear(await frequencies(mass, { topK: 2, topP: 0.6 }), renormalised(1));
    expectNear(await frequencies(mass, { topK: 2, topP: 0.7 }), renormalised(1, 3));
  });

  test('is measured at the temperature that is sampled at', async () => {
    // At temperature 4 the likeliest token has far less than 0.45.
    const [, likeliest] = await frequencies(mass, { topP: 0.45, temperature: 4 });
    expect(likeliest).toBeLessThan(0.8);
  });
});

describe('repetitionPenalty', () => {
  test('lowers the logits of tokens that occurred, positive or negative', async () => {
    const penalised = await frequencies([2, -1, 0.5], { repetitionPenalty: 2 }, { seen: new Set([0, 1]) });
    expectNear(penalised, softmax([1, -2, 0.5]));
  });

  test('leaves the others', async () => {
    const options = { temperature: 0, repetitionPenalty: 1.5 };
    expect(await choose([2, 1.9], options, [0])).toEqual([0]);
    expect(await choose([2, 1.9], options, [0], new Set([0]))).toEqual([1]);
  });
});

test('the random number decides, from one end of the candidates to the other', async () => {
  const numbers = [0, 0.3, 0.6, 0.9, 1 - 2 ** -24];
  const options = { topP: 0.9, topK: 5 };
  expect(await choose(logits, options, numbers)).toEqual(await choose(logits, options, numbers));
  // In order of likelihood 1, 5, 3, 0: uncut in the vocabulary's order.
  expect(await choose(logits, { topK: 4 }, [0, 1 - 2 ** -24])).toEqual([1, 0]);
  expect(await choose(logits, {}, [0, 1 - 2 ** -24])).toEqual([0, 5]);
});

test('logits that are no numbers are told, not sampled', async () => {
  for (const bad of [[Number.NaN, Number.NaN], [Number.POSITIVE_INFINITY, 0], [Number.NEGATIVE_INFINITY]]) {
    const run = choose(bad, { temperature: 0 }, [0.5]);
    await expect(run).rejects.toThrow(DataError);
    await expect(run).rejects.toThrow(/logit/);
  }
});

test('each place of a batch is chosen as it is alone', async () => {
  const ways: Partial<SamplingOptions>[] = [
    {},
    { temperature: 0 },
    { temperature: 0.7, topK: 2 },
    { topP: 0.6 },
    { temperature: 3, topK: 5, topP: 0.9, repetitionPenalty: 2 },
    { temperature: 0, repetitionPenalty: 1.5 },
  ];
  const seen = new Set([1, 5]);
  const executable = await loopDevice(device).compile(choiceProgram(logits.length));
  for (const number of [0, 0.2, 0.4, 0.6, 0.8, 1 - 2 ** -24]) {
    const choosing = ways.map((options) => ({ ...plain, ...options, ends: [], occurred: seen }));
    const { tokens } = await executable.run({
      logits: float32(
        ways.flatMap(() => logits),
        [ways.length, logits.length],
      ),
      random: float32(
        ways.map(() => number),
        [ways.length],
      ),
      ...choiceFeeds(choosing, logits.length),
    });
    const alone = await Promise.all(ways.map((options) => choose(logits, options, [number], seen)));
    expect(Array.from(tokens!.data, Number)).toEqual(alone.flat());
  }
  await executable.dispose();
});

describe('values out of range', () => {
  const wrong: [keyof SamplingOptions, number][] = [
    ['temperature', -0.1],
    ['temperature', Number.NaN],
    ['temperature', Number.POSITIVE_INFINITY],
    ['topK', -1],
    ['topK', 1.5],
    ['topP', 0],
    ['topP', 1.01],
    ['topP', Number.NaN],
    ['repetitionPenalty', 0],
    ['repetitionPenalty', Number.POSITIVE_INFINITY],
  ];
  for (const [name, value] of wrong) {
    test(`${name} ${value}`, async () => {
      expect(() => checkSampling({ ...plain, [name]: value })).toThrow(ConfigError);
      expect(() => checkSampling({ ...plain, [name]: value })).toThrow(new RegExp(`${name} is ${value}`));
    });
  }

  test('the limits themselves are fine', async () => {
    checkSampling({ temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1e-3 });
  });
});
