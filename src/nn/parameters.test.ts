/** Where parameters come from: names by scope, sharing, what decays, and the values of new ones. */
import { describe, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { constantly, normal, ParameterRegistry, uniform } from './parameters.js';
import { Random } from './random.js';

describe('the registry', () => {
  test('names follow the scopes, in the order of asking', () => {
    const registry = new ParameterRegistry();
    const root = registry.root();
    root.within('layers', (layers) => layers.within('0', (p) => p.get('weight', [2, 3], constantly(0))));
    root.get('scale', [3], constantly(1));
    expect([...registry.specs.keys()]).toEqual(['layers.0.weight', 'scale']);
  });

  test('one name is one tensor', () => {
    const root = new ParameterRegistry().root();
    expect(root.get('weight', [2, 3], constantly(0))).toBe(root.get('weight', [2, 3], constantly(0)));
  });

  test('one name with two shapes is an error that names both', () => {
    const root = new ParameterRegistry().root();
    root.within('a', (p) => p.get('weight', [2, 3], constantly(0)));
    expect(() => root.within('a', (p) => p.get('weight', [3, 2], constantly(0)))).toThrow(ConfigError);
    expect(() => root.within('a', (p) => p.get('weight', [3, 2], constantly(0)))).toThrow(
      /a\.weight .*\[3,2\].*\[2,3\]/,
    );
  });

  test('matrices decay and vectors do not, unless it is said', () => {
    const registry = new ParameterRegistry();
    const root = registry.root();
    root.get('matrix', [2, 3], constantly(0));
    root.get('vector', [3], constantly(0));
    root.get('table', [2, 3], constantly(0), { decay: false });
    expect([...registry.specs.values()].map(({ decay }) => decay)).toEqual([true, false, false]);
  });
});

describe('initialisers', () => {
  const moments = (values: Float32Array): { mean: number; deviation: number } => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return { mean, deviation: Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length) };
  };

  test('normal has mean 0 and the given deviation', () => {
    const { mean, deviation } = moments(normal(0.5)(new Random(1), [100, 200]));
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(deviation).toBeCloseTo(0.5, 1);
  });

  test('uniform stays within its bound and fills it', () => {
    const values = uniform(0.25)(new Random(1), [10_000]);
    expect(Math.max(...values)).toBeLessThanOrEqual(0.25);
    expect(Math.min(...values)).toBeGreaterThanOrEqual(-0.25);
    expect(moments(values).deviation).toBeCloseTo(0.25 / Math.sqrt(3), 2);
  });

  test('the same seed gives the same values, another one others', () => {
    const values = (seed: number): Float32Array => normal(1)(new Random(seed), [50]);
    expect(values(3)).toEqual(values(3));
    expect(values(3)).not.toEqual(values(4));
  });
});

test('a permutation holds every number once', () => {
  const order = new Random(9).permutation(1000);
  expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
  expect([...order]).not.toEqual([...order].sort((a, b) => a - b));
});
