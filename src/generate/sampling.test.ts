/** From logits to a token: what each setting leaves out, how often the rest is chosen, and that a seed decides. */
import { describe, expect, test } from 'vitest';
import { ConfigError, DataError } from '../errors.js';
import { Random } from '../nn/index.js';
import { checkSampling, type SamplingOptions, sample } from './sampling.js';

const plain: SamplingOptions = { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1 };
const nothing: ReadonlySet<number> = new Set();

/** How often each token is chosen in `count` draws. */
function frequencies(
  logits: readonly number[],
  options: Partial<SamplingOptions>,
  { seen = nothing, count = 20_000 }: { seen?: ReadonlySet<number>; count?: number } = {},
): number[] {
  const random = new Random(5);
  const chosen = logits.map(() => 0);
  for (let i = 0; i < count; i++) {
    chosen[sample(Float32Array.from(logits), { ...plain, ...options }, seen, random)]!++;
  }
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
  test('0 takes the most likely token, of equal ones the first', () => {
    expect(frequencies(logits, { temperature: 0 }, { count: 20 })).toEqual([0, 1, 0, 0, 0, 0]);
    expect(frequencies([7, 7, 7], { temperature: 0 }, { count: 20 })).toEqual([1, 0, 0]);
    expect(frequencies([-3, -1, -2], { temperature: 0 }, { count: 20 })).toEqual([0, 1, 0]);
  });

  for (const temperature of [0.5, 1, 2]) {
    test(`${temperature}: the softmax`, () =>
      expectNear(frequencies(logits, { temperature }), softmax(logits, temperature)));
  }

  test('one close to 0 is greedy, one beyond all bounds makes all alike', () => {
    expect(frequencies([1, 1.5, 1.2], { temperature: 1e-300 }, { count: 50 })).toEqual([0, 1, 0]);
    expectNear(
      frequencies(logits, { temperature: 1e300 }),
      logits.map(() => 1 / 6),
    );
  });

  test('logits far from 0 do not overflow', () => {
    expectNear(frequencies([1e4, 1e4 + 1], {}), softmax([0, 1]));
    expectNear(frequencies([-1e4, -1e4 + 1], {}), softmax([0, 1]));
  });

  test('a masked token never comes', () => {
    const [first, masked] = frequencies([0, Number.NEGATIVE_INFINITY, 0], {});
    expect(masked).toBe(0);
    expect(first).toBeGreaterThan(0.4);
  });
});

describe('topK', () => {
  test('leaves the k most likely, of equal ones the first', () => {
    const [first, second, third] = softmax([3, 2.5, 3]);
    expectNear(frequencies(logits, { topK: 3 }), [0, first!, 0, second!, 0, third!]);
    expect(frequencies([1, 1, 1, 1], { topK: 2 }).slice(2)).toEqual([0, 0]);
  });

  test('1 is greedy; as many as there are, or 0, leaves all', () => {
    expect(frequencies(logits, { topK: 1 }, { count: 50 })).toEqual([0, 1, 0, 0, 0, 0]);
    for (const topK of [0, 6, 100]) expectNear(frequencies(logits, { topK }), softmax(logits));
  });
});

describe('topP', () => {
  const probabilities = [0.1, 0.5, 0.15, 0.25];
  const mass = probabilities.map(Math.log);
  const renormalised = (...kept: number[]): number[] => {
    const total = kept.reduce((sum, token) => sum + probabilities[token]!, 0);
    return probabilities.map((p, token) => (kept.includes(token) ? p / total : 0));
  };

  test('leaves the fewest tokens that have that much together', () => {
    expectNear(frequencies(mass, { topP: 0.45 }), renormalised(1));
    expectNear(frequencies(mass, { topP: 0.7 }), renormalised(1, 3));
    expectNear(frequencies(mass, { topP: 0.8 }), renormalised(1, 3, 2));
    expectNear(frequencies(mass, { topP: 0.95 }), renormalised(0, 1, 2, 3));
    expectNear(frequencies(mass, { topP: 1 }), probabilities);
  });

  test('always leaves one', () => {
    expect(frequencies(mass, { topP: 1e-12 }, { count: 50 })).toEqual([0, 1, 0, 0]);
  });

  test('counts what topK left', () => {
    // Of the two that are left the first has 2/3.
    expectNear(frequencies(mass, { topK: 2, topP: 0.6 }), renormalised(1));
    expectNear(frequencies(mass, { topK: 2, topP: 0.7 }), renormalised(1, 3));
  });

  test('is measured at the temperature that is sampled at', () => {
    // At temperature 4 the likeliest token has far less than 0.45.
    const [, likeliest] = frequencies(mass, { topP: 0.45, temperature: 4 });
    expect(likeliest).toBeLessThan(0.8);
  });
});

describe('repetitionPenalty', () => {
  test('lowers the logits of tokens that occurred, positive or negative', () => {
    const penalised = frequencies([2, -1, 0.5], { repetitionPenalty: 2 }, { seen: new Set([0, 1]) });
    expectNear(penalised, softmax([1, -2, 0.5]));
  });

  test('leaves the others, and the logits that it was given', () => {
    const given = Float32Array.from([2, 1.9]);
    const options = { ...plain, temperature: 0, repetitionPenalty: 1.5 };
    expect(sample(given, options, nothing, new Random(1))).toBe(0);
    expect(sample(given, options, new Set([0]), new Random(1))).toBe(1);
    expect([...given]).toEqual([2, Math.fround(1.9)]);
  });
});

test('the seed decides', () => {
  const draws = (seed: number): number[] => {
    const random = new Random(seed);
    return Array.from({ length: 50 }, () =>
      sample(Float32Array.from(logits), { ...plain, topP: 0.9, topK: 5 }, nothing, random),
    );
  };
  expect(draws(1)).toEqual(draws(1));
  expect(draws(1)).not.toEqual(draws(2));
});

test('logits that are no numbers are told, not sampled', () => {
  for (const bad of [[0, Number.NaN], [Number.POSITIVE_INFINITY, 0], [Number.NEGATIVE_INFINITY]]) {
    for (const temperature of [0, 1]) {
      const run = () => sample(Float32Array.from(bad), { ...plain, temperature }, nothing, new Random(1));
      expect(run).toThrow(DataError);
      expect(run).toThrow(/logit/);
    }
  }
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
    test(`${name} ${value}`, () => {
      expect(() => checkSampling({ ...plain, [name]: value })).toThrow(ConfigError);
      expect(() => checkSampling({ ...plain, [name]: value })).toThrow(new RegExp(`${name} is ${value}`));
    });
  }

  test('the limits themselves are fine', () => {
    checkSampling({ temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1e-3 });
  });
});
