/** AdamW against its textbook form in float64: steps on made-up gradients, clipped and not, decayed and not. */

import { describe, expect, test } from 'vitest';
import { float32, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { input } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import {
  ADAMW_DEFAULTS,
  type AdamWConfig,
  adamW,
  clipFactor,
  globalNorm,
  STEP_SCALARS,
  stepFactors,
  stepScalars,
} from './optimizer.js';
import { type AdamWState, adamWReference } from './testing/adamw.js';

const device = await openDevice('cpu', { threads: 1 });
const dims = { matrix: [3, 5], vector: [7] };
const decays = { matrix: true, vector: false };
type Name = keyof typeof dims;
const names = Object.keys(dims) as Name[];

/** One step of two parameters as a program. */
async function stepProgram(config: AdamWConfig) {
  const tensors = (prefix: string) =>
    Object.fromEntries(names.map((name) => [name, input(`${prefix}.${name}`, 'float32', dims[name])]));
  const [parameter, gradient, first, second] = ['parameter', 'gradient', 'first', 'second'].map(tensors);
  const norm = globalNorm(names.map((name) => gradient![name]!));
  const clip = clipFactor(norm, config.maxGradientNorm);
  const factors = stepFactors(config, input('scalars', 'float32', [STEP_SCALARS]), clip);
  const outputs = names.flatMap((name) => {
    const moments = { first: first![name]!, second: second![name]! };
    const next = adamW(config, parameter![name]!, gradient![name]!, moments, factors, decays[name]);
    return [
      [`next parameter.${name}`, next.parameter],
      [`next first.${name}`, next.moments.first],
      [`next second.${name}`, next.moments.second],
    ] as const;
  });
  return device.compile(withInputs({ outputs: { norm, clip, ...Object.fromEntries(outputs) } }));
}

const cases: [string, AdamWConfig, number][] = [
  ['the defaults', ADAMW_DEFAULTS, 3e-3],
  ['a gradient that is clipped to a hundredth', { ...ADAMW_DEFAULTS, maxGradientNorm: 0.02 }, 3e-3],
  ['one that is not clipped', { ...ADAMW_DEFAULTS, maxGradientNorm: 1e6 }, 3e-3],
  [
    'other rates, an epsilon that matters, a large step and a large decay',
    { beta1: 0.5, beta2: 0.8, epsilon: 0.1, weightDecay: 0.5, maxGradientNorm: 1 },
    0.3,
  ],
];

for (const [name, config, learningRate] of cases) {
  test(`five steps with ${name}`, async () => {
    const program = await stepProgram(config);
    let expected = new Map<string, AdamWState>(
      names.map((key, i) => [
        key,
        {
          parameter: Float64Array.from(uniform(i, dims[key]).data as Float32Array),
          first: new Float64Array(dims[key].reduce((a, b) => a * b)),
          second: new Float64Array(dims[key].reduce((a, b) => a * b)),
        },
      ]),
    );
    let actual = expected;
    for (let step = 1; step <= 5; step++) {
      const gradients = new Map(
        names.map((key, i) => [key, uniform(100 * step + i, dims[key]).data as Float32Array]),
      );
      expected = adamWReference(
        config,
        expected,
        gradients,
        step,
        learningRate,
        (key) => decays[key as Name],
      );
      const feeds = names.flatMap((key) => {
        const { parameter, first, second } = actual.get(key)!;
        const all = { parameter, first, second, gradient: gradients.get(key)! };
        return Object.entries(all).map(([part, data]) => [
          `${part}.${key}`,
          float32(Float32Array.from(data), dims[key]),
        ]);
      });
      const results = await program.run({
        ...Object.fromEntries(feeds),
        scalars: float32(stepScalars(config, step, learningRate), [STEP_SCALARS]),
      });
      const value = (key: string): Float64Array =>
        Float64Array.from(results[`next ${key}`]!.data as Float32Array);
      actual = new Map(
        names.map((key) => [
          key,
          {
            parameter: value(`parameter.${key}`),
            first: value(`first.${key}`),
            second: value(`second.${key}`),
          },
        ]),
      );
      for (const [key, state] of expected) {
        for (const part of ['parameter', 'first', 'second'] as const) {
          expect(relativeError(actual.get(key)![part], state[part]), `${part} of ${key}`).toBeLessThan(1e-5);
        }
      }
    }
    await program.dispose();
  });
}

describe('clipping', () => {
  test('brings the norm of all gradients together to the limit, and leaves a smaller one', async () => {
    const program = await stepProgram(ADAMW_DEFAULTS);
    for (const [scale, clipped] of [
      [4, true],
      [0.01, false],
    ] as const) {
      const gradients = names.map((name, i) =>
        (uniform(i, dims[name]).data as Float32Array).map((g) => scale * g),
      );
      const norm = Math.hypot(...gradients.flatMap((g) => [...g]));
      const zeros = (part: string) =>
        names.map((name) => [
          `${part}.${name}`,
          float32(new Float32Array(gradients[names.indexOf(name)]!.length), dims[name]),
        ]);
      const results = await program.run({
        ...Object.fromEntries(['parameter', 'first', 'second'].flatMap(zeros)),
        ...Object.fromEntries(
          names.map((name, i) => [`gradient.${name}`, float32(gradients[i]!, dims[name])]),
        ),
        scalars: float32(stepScalars(ADAMW_DEFAULTS, 1, 0.1), [STEP_SCALARS]),
      });
      expect(norm > 1).toBe(clipped);
      expect(results.norm!.data[0]).toBeCloseTo(norm, 4);
      expect((results.clip!.data[0] as number) * norm).toBeCloseTo(Math.min(norm, 1), 4);
    }
    await program.dispose();
  });
});

test('a parameter whose gradient is 0 shrinks by its decay alone', async () => {
  const program = await stepProgram(ADAMW_DEFAULTS);
  const feeds = names.flatMap((name) => {
    const zeros = float32(new Float32Array(dims[name].reduce((a, b) => a * b)), dims[name]);
    return [
      [`parameter.${name}`, uniform(3, dims[name])],
      ...['gradient', 'first', 'second'].map((part) => [`${part}.${name}`, zeros]),
    ];
  });
  const scalars = float32(stepScalars(ADAMW_DEFAULTS, 1, 0.5), [STEP_SCALARS]);
  const results = await program.run({ ...Object.fromEntries(feeds), scalars });
  const kept = { matrix: 1 - 0.5 * ADAMW_DEFAULTS.weightDecay, vector: 1 };
  for (const name of names) {
    const expected = (uniform(3, dims[name]).data as Float32Array).map((value) => value * kept[name]);
    expect(relativeError(results[`next parameter.${name}`]!.data as Float32Array, expected)).toBeLessThan(
      1e-6,
    );
  }
  await program.dispose();
});
