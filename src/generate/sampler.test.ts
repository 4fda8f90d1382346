/** From logits to a token: what each setting leaves out, how often the rest is chosen, and that a seed decides. */
import { describe, expect, test, vi } from 'vitest';
import { ConfigError, DataError } from '../errors.js';
import { Random } from '../nn/index.js';
import { logprobsOf } from './logprobs.js';
import {
  checkSampling,
  SAMPLING_DEFAULTS,
  Sampler,
  type SamplerOptions,
  type SamplingOptions,
} from './sampler.js';

const plain: SamplerOptions = {
  ...SAMPLING_DEFAULTS,
  temperature: 1,
  topP: 1,
  seed: 0,
  bias: new Map(),
  steering: [],
};
const nothing: ReadonlySet<number> = new Set();

/** The tokens chosen from the same logits, one for each random number. */
function choose(
  logits: readonly number[],
  options: Partial<SamplerOptions>,
  numbers: readonly number[],
  seen: ReadonlySet<number> = nothing,
): number[] {
  const rest = [...numbers];
  const uniform = vi.spyOn(Random.prototype, 'uniform').mockImplementation(() => rest.shift()!);
  try {
    const sampler = new Sampler({ ...plain, ...options }, seen);
    const given = Float32Array.from(logits);
    const chosen = numbers.map(() => sampler.choose(given, 1));
    expect(given).toEqual(Float32Array.from(logits));
    return chosen;
  } finally {
    uniform.mockRestore();
  }
}

/** How often each token is chosen in `count` draws. */
function frequencies(
  logits: readonly number[],
  options: Partial<SamplerOptions>,
  { seen = nothing, count = 20_000 }: { seen?: ReadonlySet<number>; count?: number } = {},
): number[] {
  const random = new Random(5);
  const numbers = Array.from({ length: count }, () => random.uniform());
  const chosen = logits.map(() => 0);
  for (const token of choose(logits, options, numbers, seen)) chosen[token]!++;
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

  test('leaves the others', () => {
    const options = { temperature: 0, repetitionPenalty: 1.5 };
    expect(choose([2, 1.9], options, [0])).toEqual([0]);
    expect(choose([2, 1.9], options, [0], new Set([0]))).toEqual([1]);
  });
});

test('the random number decides, from one end of the candidates to the other', () => {
  const numbers = [0, 0.3, 0.6, 0.9, 1 - 2 ** -24];
  const options = { topP: 0.9, topK: 5 };
  expect(choose(logits, options, numbers)).toEqual(choose(logits, options, numbers));
  // In order of likelihood 1, 5, 3, 0: uncut in the vocabulary's order.
  expect(choose(logits, { topK: 4 }, [0, 1 - 2 ** -24])).toEqual([1, 0]);
  expect(choose(logits, {}, [0, 1 - 2 ** -24])).toEqual([0, 5]);
});

test('logits that are no numbers are told, not sampled', () => {
  for (const bad of [[Number.NaN, Number.NaN], [Number.POSITIVE_INFINITY, 0], [Number.NEGATIVE_INFINITY]]) {
    const run = () => choose(bad, { temperature: 0 }, [0.5]);
    expect(run).toThrow(DataError);
    expect(run).toThrow(/logit/);
  }
});

describe('minP', () => {
  test('leaves tokens that have that part of the likeliest one', () => {
    const mass = [0.1, 0.5, 0.15, 0.25].map(Math.log);
    expectNear(frequencies(mass, { minP: 0.29 }), [0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9]);
    expect(frequencies(mass, { minP: 1 }, { count: 50 })).toEqual([0, 1, 0, 0]);
  });
});

describe('what was written', () => {
  test('is taken from its logits, once and each time', () => {
    const sampler = new Sampler(
      { ...plain, temperature: 0, presencePenalty: 1, frequencyPenalty: 0.25 },
      [0, 0, 0],
    );
    const scores = Float32Array.of(2, 1.1, 0.4);
    const ids = Array.from({ length: 6 }, () => {
      const id = sampler.choose(scores, 1);
      sampler.accept(id);
      return id;
    });
    // 2; 0.75 and 1.1; 0.75, -0.15 and 0.4; 0.5; 0.25, and 0.4; 0.25 again.
    expect(ids).toEqual([0, 1, 0, 0, 2, 0]);
  });
});

describe('bias and steering', () => {
  test('a bias moves a token, and what steering leaves out stays out', () => {
    expect(choose(logits, { temperature: 0, bias: new Map([[4, 10]]) }, [0])).toEqual([4]);
    const steering = [
      {
        steer: (scores: Float32Array) => scores.fill(Number.NEGATIVE_INFINITY, 1),
        chosen: () => false,
      },
    ];
    expect(choose(logits, { bias: new Map([[4, 10]]), steering }, [0.5])).toEqual([0]);
  });

  test('a text is complete when steering says so', () => {
    const ends = { steer: () => {}, chosen: (id: number) => id === 2 };
    const sampler = new Sampler({ ...plain, steering: [ends] }, []);
    expect([1, 2].map((id) => sampler.accept(id))).toEqual([false, true]);
  });
});

test('among many tokens those that a cut leaves are found, whatever their order', () => {
  const random = new Random(3);
  const many = Array.from({ length: 5000 }, () => Math.round(random.normal() * 40) / 10);
  const order = [...many.keys()].sort((a, b) => many[b]! - many[a]! || a - b);
  const firsts = Array.from({ length: 40 }, (_, i) => choose(many, { topK: i + 1 }, [1 - 2 ** -30])[0]);
  expect(firsts).toEqual(order.slice(0, 40));
});

test('a steering that names its candidates chooses as one that does not', () => {
  const random = new Random(4);
  const many = Array.from({ length: 300 }, () => Math.round(random.normal() * 20) / 10);
  const candidates = [...many.keys()].filter((id) => id % 7 === 3).reverse();
  const steer = (scores: Float32Array): void => {
    for (const id of scores.keys()) if (!candidates.includes(id)) scores[id] = Number.NEGATIVE_INFINITY;
  };
  const chosen = () => false;
  const numbers = Array.from({ length: 200 }, () => random.uniform());
  for (const options of [{ topP: 0.9 }, { topK: 5 }, { minP: 0.05, temperature: 1.3 }, { topK: 1 }, {}]) {
    const plainly = choose(many, { ...options, steering: [{ steer, chosen }] }, numbers);
    expect(choose(many, { ...options, steering: [{ steer, chosen, candidates }] }, numbers)).toEqual(plainly);
    expect(plainly.every((id) => candidates.includes(id))).toBe(true);
  }
});

test('log probabilities of many tokens, some of them hopeless, are those of the softmax', () => {
  const random = new Random(6);
  const many = Array.from({ length: 4000 }, (_, i) => (i % 9 === 0 ? -1000 : random.normal() * 12));
  const expected = softmax(many.map((logit) => logit - Math.max(...many))).map(Math.log);
  for (const id of [1, 2, 3, 1234]) {
    expect(logprobsOf(Float32Array.from(many), id, 0).logprob).toBeCloseTo(expected[id]!, 4);
  }
});

test('log probabilities are those of the softmax', () => {
  const expected = softmax(logits).map(Math.log);
  const { logprob, top } = logprobsOf(Float32Array.from(logits), 3, 3);
  expect(logprob).toBeCloseTo(expected[3]!, 6);
  expect(top.map(({ id }) => id)).toEqual([1, 5, 3]);
  for (const each of top) expect(each.logprob).toBeCloseTo(expected[each.id]!, 6);
  expect(logprobsOf(Float32Array.from(logits), 3, 0).top).toEqual([]);
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
    ['minP', -0.1],
    ['minP', 2],
    ['presencePenalty', Number.NaN],
    ['frequencyPenalty', Number.POSITIVE_INFINITY],
  ];
  for (const [name, value] of wrong) {
    test(`${name} ${value}`, () => {
      expect(() => checkSampling({ ...plain, [name]: value })).toThrow(ConfigError);
      expect(() => checkSampling({ ...plain, [name]: value })).toThrow(new RegExp(`${name} is ${value}`));
    });
  }

  test('the limits themselves are fine', () => {
    checkSampling({ ...plain, temperature: 0, repetitionPenalty: 1e-3, minP: 1 });
  });
});
