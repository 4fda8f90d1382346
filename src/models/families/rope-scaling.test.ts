/** Rotary frequencies: each rule against its formula, written out in float64, and what is refused. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../errors.js';
import { relativeError } from '../../graph/testing/arrays.js';
import { ropeOf } from './family.js';
import { ropeFrom } from './rope-scaling.js';

type Parameters = Readonly<Record<string, unknown>>;

const THETA = 500_000;
const HEAD = 64;
const PAIRS = HEAD / 2;

function rope(parameters: Parameters, maxPositions?: number) {
  return ropeFrom({ rope_theta: THETA, partial_rotary_factor: 1, ...parameters }, HEAD, maxPositions);
}

/** theta^(-2i / size) for the i-th pair, in float64. */
function plain(theta = THETA, size = HEAD): number[] {
  return Array.from({ length: size / 2 }, (_, i) => Math.exp((-2 * i * Math.log(theta)) / size));
}

function expectFrequencies(actual: Float32Array, expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  // One by one: the long wavelengths are far smaller than the short ones.
  for (const [i, value] of expected.entries()) {
    expect(relativeError([actual[i]!], [value]), `pair ${i}`).toBeLessThan(1e-6);
  }
}

describe('default', () => {
  test('a decade a pair, in a head of eight with base 10,000', () => {
    const { frequencies, factor } = ropeFrom(
      { rope_type: 'default', rope_theta: 10_000, partial_rotary_factor: 1 },
      8,
      undefined,
    );
    expectFrequencies(frequencies, [1, 0.1, 0.01, 0.001]);
    expect(factor).toBeUndefined();
  });

  test('of a part of each head', () => {
    const { frequencies } = rope({ rope_type: 'default', partial_rotary_factor: 0.25 });
    expectFrequencies(frequencies, plain(THETA, 16));
  });

  test('is what dynamic is up to the trained length', () => {
    const dynamic = rope({ rope_type: 'dynamic', factor: 4 }, 2048);
    expect(dynamic).toEqual(rope({ rope_type: 'default' }));
  });
});

test('linear: positions shrink by the factor', () => {
  const { frequencies, factor } = rope({ rope_type: 'linear', factor: 2.5 });
  expectFrequencies(
    frequencies,
    plain().map((f) => f / 2.5),
  );
  expect(factor).toBeUndefined();
});

describe('llama3', () => {
  const parameters = {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };

  /** As Meta wrote it, by wavelengths. */
  const expected = plain().map((f) => {
    const wavelength = (2 * Math.PI) / f;
    if (wavelength < 8192 / 4) return f;
    if (wavelength > 8192 / 1) return f / 8;
    const smooth = (8192 / wavelength - 1) / (4 - 1);
    return (1 - smooth) * (f / 8) + smooth * f;
  });

  test('keeps short wavelengths, stretches long ones, blends those between', () => {
    const { frequencies, factor } = rope(parameters, 131_072);
    expectFrequencies(frequencies, expected);
    expect(factor).toBeUndefined();
    const ratios = plain().map((f, i) => f / expected[i]!);
    expect(ratios.filter((ratio) => ratio === 1).length).toBeGreaterThan(5);
    expect(ratios.filter((ratio) => ratio === 8).length).toBeGreaterThan(5);
    expect(ratios.filter((ratio) => ratio > 1.001 && ratio < 7.999).length).toBeGreaterThan(1);
  });

  test('was trained for the length of the config where it does not say', () => {
    const { original_max_position_embeddings: length, ...rest } = parameters;
    expectFrequencies(rope(rest, length).frequencies, expected);
    expect(() => rope(rest)).toThrow(/need original_max_position_embeddings/);
  });

  test('with its bounds the wrong way round is refused', () => {
    expect(() => rope({ ...parameters, high_freq_factor: 1 }, 131_072)).toThrow(ConfigError);
    expect(() => rope({ ...parameters, low_freq_factor: 5 }, 131_072)).toThrow(
      /high_freq_factor \(4\) must be greater than low_freq_factor \(5\)/,
    );
  });
});

describe('yarn', () => {
  interface Yarn {
    factor: number;
    trained: number;
    fast?: number;
    slow?: number;
    truncate?: boolean;
  }

  /** Pairs that turn more than `fast` times in the trained length stay, those that turn less than `slow` times shrink. */
  function expected({ factor, trained, fast = 32, slow = 1, truncate = true }: Yarn): number[] {
    // f_i = theta^(-i / PAIRS) turns f_i * trained / 2 pi times: solved for i.
    const pairWith = (turns: number) => (PAIRS * Math.log(trained / (2 * Math.PI * turns))) / Math.log(THETA);
    let [from, to] = [pairWith(fast), pairWith(slow)];
    if (truncate) [from, to] = [Math.floor(from), Math.ceil(to)];
    [from, to] = [Math.max(from, 0), Math.min(to, HEAD - 1)];
    return plain().map((f, i) => {
      const share = Math.min(Math.max((i - from) / (to - from), 0), 1);
      return f * (1 - share) + (f / factor) * share;
    });
  }

  const cases: [string, Parameters, Yarn][] = [
    ['by default', { factor: 4, original_max_position_embeddings: 4096 }, { factor: 4, trained: 4096 }],
    [
      'without rounding',
      { factor: 16, original_max_position_embeddings: 4096, truncate: false },
      { factor: 16, trained: 4096, truncate: false },
    ],
    [
      'with bounds of its own',
      { factor: 40, original_max_position_embeddings: 32_768, beta_fast: 64, beta_slow: 0.5 },
      { factor: 40, trained: 32_768, fast: 64, slow: 0.5 },
    ],
    [
      'of a length so short that every pair is stretched in part',
      { factor: 2, original_max_position_embeddings: 64 },
      { factor: 2, trained: 64 },
    ],
  ];
  for (const [name, parameters, reference] of cases) {
    test(name, () => {
      const { frequencies, factor } = rope({ rope_type: 'yarn', ...parameters }, 65_536);
      expectFrequencies(frequencies, expected(reference));
      expect(factor).toBeCloseTo(0.1 * Math.log(reference.factor) + 1, 12);
    });
  }

  test('derives its factor from the lengths, and its length from the config', () => {
    const derived = rope({ rope_type: 'yarn', original_max_position_embeddings: 4096 }, 16_384);
    expectFrequencies(derived.frequencies, expected({ factor: 4, trained: 4096 }));
    expect(derived.factor).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
    const trained = rope({ rope_type: 'yarn', factor: 4 }, 4096);
    expect(trained).toEqual(derived);
    expect(() => rope({ rope_type: 'yarn', factor: 4 })).toThrow(/need original_max_position_embeddings/);
  });

  test('has the magnitude that it says, or that its scales make', () => {
    const base = { rope_type: 'yarn', factor: 40, original_max_position_embeddings: 4096 };
    const magnitudeOf = (change: Parameters) => rope({ ...base, ...change }).factor;
    expect(magnitudeOf({ attention_factor: 0.7 })).toBe(0.7);
    const m = (scale: number) => 0.1 * scale * Math.log(40) + 1;
    expect(magnitudeOf({ mscale: 0.8, mscale_all_dim: 1 })).toBeCloseTo(m(0.8) / m(1), 12);
    expect(magnitudeOf({ mscale: 1, mscale_all_dim: 1 })).toBe(1);
    expect(magnitudeOf({ mscale: 0.8 })).toBeCloseTo(m(1), 12);
    expect(magnitudeOf({ factor: 1 })).toBe(1);
    expect(magnitudeOf({ factor: 0.5 })).toBe(1);
  });
});

describe('what is refused', () => {
  const cases: [string, Parameters, RegExp][] = [
    [
      'an unknown type',
      { rope_type: 'longrope' },
      /rope_parameters, rope_scaling.*"longrope"; known are default, dynamic, linear, llama3, yarn/,
    ],
    ['no type', {}, /rope_type/],
    ['linear without a factor', { rope_type: 'linear' }, /factor: .*number/],
    ['a factor of 0', { rope_type: 'linear', factor: 0 }, /factor/],
    ['a negative factor', { rope_type: 'yarn', factor: -4 }, /factor/],
    ['a factor as text', { rope_type: 'yarn', factor: '4' }, /factor: .*number/],
    [
      'a factor that leaves no number',
      { rope_type: 'linear', factor: 1e-300 },
      /no frequencies that are numbers/,
    ],
    ['a base of 1', { rope_type: 'default', rope_theta: 1 }, /rope_theta/],
    ['a negative base', { rope_type: 'default', rope_theta: -10_000 }, /rope_theta/],
    [
      'more than the whole head',
      { rope_type: 'default', partial_rotary_factor: 1.5 },
      /partial_rotary_factor/,
    ],
    [
      'a part that is no number of pairs',
      { rope_type: 'default', partial_rotary_factor: 5 / 64 },
      /5 of 64 elements of a head .* cannot rotate in pairs/,
    ],
    [
      'a part of nothing',
      { rope_type: 'default', partial_rotary_factor: 0.01 },
      /0 of 64 elements of a head .* cannot rotate in pairs/,
    ],
  ];
  for (const [name, parameters, message] of cases) {
    test(name, () => {
      expect(() => rope(parameters, 4096)).toThrow(ConfigError);
      expect(() => rope(parameters, 4096)).toThrow(message);
    });
  }
});

describe('where configs keep it', () => {
  test('the newer key counts before the older, and both before those beside them', () => {
    const theta = (config: Parameters): number => 1 / ropeOf(config, 4).frequencies[1]!;
    expect(theta({}) ** 2).toBeCloseTo(10_000, 1);
    expect(theta({ rope_theta: 2500 })).toBeCloseTo(50, 3);
    expect(theta({ rope_theta: 2500, rope_scaling: { rope_theta: 400 } })).toBeCloseTo(20, 3);
    const newest = {
      rope_theta: 2500,
      rope_scaling: { rope_theta: 400 },
      rope_parameters: { rope_theta: 9 },
    };
    expect(theta(newest)).toBeCloseTo(3, 4);
    expect(theta({ rope_theta: 2500, rope_scaling: null, rope_parameters: null })).toBeCloseTo(50, 3);
  });

  test('`type` is the older name of `rope_type`', () => {
    const [a, b] = ['type', 'rope_type'].map((key) =>
      ropeOf({ rope_scaling: { [key]: 'linear', factor: 2 } }, 8),
    );
    expect(a).toEqual(b);
    expect(a!.frequencies[0]).toBe(0.5);
  });

  test('a family has its own defaults', () => {
    expect(ropeOf({}, 8, { partial: 0.5 }).frequencies.length).toBe(2);
    expect(ropeOf({ partial_rotary_factor: 1 }, 8, { partial: 0.5 }).frequencies.length).toBe(4);
    expect(ropeOf({}, 4, { theta: 2500 }).frequencies[1]).toBeCloseTo(1 / 50, 6);
  });
});
