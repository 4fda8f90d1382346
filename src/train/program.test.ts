/**
 * The training step as a program: one step of a whole model against AdamW in float64, batches that are accumulated
 * against one batch, several steps a run against one, and the loss itself.
 */

import { describe, expect, test } from 'vitest';
import { float32, type HostTensor, hostZeros, int64, openDevice } from '../engine/index.js';
import { only, withInputs } from '../engine/testing/with-inputs.js';
import { gradient, input, mean } from '../graph/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { hybridModel, type Model } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { ParameterRegistry, Random } from '../nn/index.js';
import { ADAMW_DEFAULTS, type OptimizerConfig, STEP_SCALARS, stepScalars } from './optimizer.js';
import {
  evaluationProgram,
  firstMoment,
  presentValue,
  secondMoment,
  type TrainingShape,
  trainedOf,
  trainingProgram,
} from './program.js';
import { type AdamWState, adamWReference } from './testing/adamw.js';
import { nextTokens, tokenLosses } from './text.js';

const device = await openDevice('cpu', { threads: 1 });
const model = hybridModel(tinyConfig());
const sequence = 12;

function randomTokens(count: number, seed: number): number[] {
  const random = new Random(seed);
  return Array.from({ length: count * (sequence + 1) }, () => random.below(300));
}

/** A program and a state with random weights and no moments. */
async function started(shape: Partial<TrainingShape>, optimizer: OptimizerConfig = ADAMW_DEFAULTS) {
  const whole = { batch: 4, accumulate: 1, stepsPerRun: 1, ...shape };
  const { program, parameters } = trainingProgram(model, nextTokens(sequence), optimizer, whole);
  const executable = await device.compile(program);
  const values = tinyWeights(model);
  for (const { name, shape: dims } of parameters) {
    if (optimizer.averageDecay !== undefined) values.set(presentValue(name), values.get(name)!);
    values.set(firstMoment(name), hostZeros('float32', dims));
    values.set(secondMoment(name), hostZeros('float32', dims));
  }
  const state = executable.newState(values);
  const { stepsPerRun, accumulate, batch } = whole;
  const run = async (ids: readonly number[], firstStep: number, learningRate: number) => {
    const scalars = Array.from({ length: stepsPerRun }, (_, i) =>
      stepScalars(optimizer, firstStep + i, learningRate),
    ).flat();
    const { loss, norm } = await executable.run(
      {
        tokens: int64(ids, [stepsPerRun, accumulate, batch, sequence + 1]),
        scalars: float32(scalars, [stepsPerRun, STEP_SCALARS]),
      },
      [state],
    );
    return { loss: [...(loss!.data as Float32Array)], norm: [...(norm!.data as Float32Array)] };
  };
  return { parameters, state, run };
}

/** All values of a state as one row. */
function flat(values: ReadonlyMap<string, HostTensor>, names: Iterable<string> = values.keys()): number[] {
  return [...names].flatMap((name) => [...(values.get(name)!.data as Float32Array)]);
}

/** Loss and gradients of a batch, from a program that does nothing else. */
async function gradientsAt(
  model: Model,
  weights: ReadonlyMap<string, HostTensor>,
  ids: readonly number[],
): Promise<Map<string, Float32Array>> {
  const registry = new ParameterRegistry();
  const loss = mean(
    tokenLosses(model, registry, input('tokens', 'int64', [ids.length / (sequence + 1), sequence + 1])),
  );
  const names = [...registry.tensors.keys()];
  const parts = gradient(loss, [...registry.tensors.values()]);
  const program = withInputs({
    outputs: Object.fromEntries(names.map((name, i) => [`d ${name}`, parts[i]!])),
  });
  const executable = await device.compile(program);
  const feeds = only(program, Object.fromEntries(weights));
  const results = await executable.run({
    ...feeds,
    tokens: int64(ids, [ids.length / (sequence + 1), sequence + 1]),
  });
  return new Map(names.map((name) => [name, results[`d ${name}`]!.data as Float32Array]));
}

describe('a step of a whole model is AdamW', () => {
  const noDecay = /norm(_f)?\.weight$|\.bias$|\.A_log$|\.dt_bias$|\.D$/;
  for (const [name, maxGradientNorm] of [
    ['clipped', 0.5],
    ['not clipped', 1e6],
  ] as const) {
    test(`${name}, without decay of norms, biases and time scales`, async () => {
      // An epsilon far above the rounding of a gradient: without it, Adam makes a whole step of the smallest difference.
      const config = { ...ADAMW_DEFAULTS, maxGradientNorm, epsilon: 1e-4, weightDecay: 0.5 };
      const { state, run, parameters } = await started({}, config);
      const names = parameters.map((spec) => spec.name);
      for (const exempt of ['norm.weight', 'bias', 'A_log', 'dt_bias', '.D', 'conv1d.bias']) {
        expect(
          names.some((key) => key.endsWith(exempt) && noDecay.test(key)),
          exempt,
        ).toBe(true);
      }
      for (let step = 1; step <= 3; step++) {
        const ids = randomTokens(4, step);
        const before = await state.read();
        const gradients = await gradientsAt(model, before, ids);
        const doubles = (key: string): Float64Array =>
          Float64Array.from(before.get(key)!.data as Float32Array);
        const states = new Map(
          names.map((key): [string, AdamWState] => [
            key,
            { parameter: doubles(key), first: doubles(firstMoment(key)), second: doubles(secondMoment(key)) },
          ]),
        );
        const expected = adamWReference(config, states, gradients, step, 0.02, (key) => !noDecay.test(key));
        const { norm } = await run(ids, step, 0.02);
        const after = await state.read();
        expect(norm[0]! > maxGradientNorm).toBe(name === 'clipped');
        for (const [key, { parameter, first, second }] of expected) {
          const error = (of: string, reference: Float64Array): number =>
            relativeError(after.get(of)!.data as Float32Array, reference);
          expect(error(key, parameter), key).toBeLessThan(1e-5);
          expect(error(firstMoment(key), first), firstMoment(key)).toBeLessThan(1e-4);
          expect(error(secondMoment(key), second), secondMoment(key)).toBeLessThan(1e-4);
        }
      }
    });
  }
});

test('an average of the weights changes none of them, and is moved towards each new value', async () => {
  const averageDecay = 0.4;
  const [plain, averaged] = [await started({}), await started({}, { ...ADAMW_DEFAULTS, averageDecay })];
  const names = plain.parameters.map(({ name }) => name);
  let before = flat(await averaged.state.read(), names);
  // Before the third step the decay is (1 + step) / (10 + step); a step at a rate of 0 does not count.
  for (const [step, rate, weight] of [
    [1, 1e-2, 9 / 11],
    [2, 1e-2, 9 / 12],
    [9, 1e-2, 0.6],
    [10, 0, 0],
  ] as const) {
    const ids = randomTokens(4, step);
    expect(await averaged.run(ids, step, rate)).toEqual(await plain.run(ids, step, rate));
    const [values, state] = [await plain.state.read(), await averaged.state.read()];
    for (const name of names) expect(state.get(presentValue(name)), name).toEqual(values.get(name));
    for (const name of names.map(secondMoment)) expect(state.get(name), name).toEqual(values.get(name));
    const present = flat(values, names);
    const expected = before.map((average, i) => average + weight * (present[i]! - average));
    before = flat(state, names);
    expect(relativeError(before, expected)).toBeLessThan(1e-6);
    expect(relativeError(before, present)).toBeGreaterThan(1e-5);
  }
});

describe('accumulation', () => {
  test('of two batches of two is one batch of four, within rounding', async () => {
    const [whole, parts] = [await started({ batch: 4 }), await started({ batch: 2, accumulate: 2 })];
    for (let step = 1; step <= 2; step++) {
      const ids = randomTokens(4, step);
      const [a, b] = [await whole.run(ids, step, 1e-3), await parts.run(ids, step, 1e-3)];
      expect(b.loss[0]).toBeCloseTo(a.loss[0]!, 5);
      expect(b.norm[0]! / a.norm[0]!).toBeCloseTo(1, 5);
    }
    const [a, b] = [await whole.state.read(), await parts.state.read()];
    const moments = whole.parameters.flatMap(({ name }) => [firstMoment(name), secondMoment(name)]);
    expect(relativeError(flat(b, moments), flat(a, moments))).toBeLessThan(1e-4);
    expect(relativeError(flat(b), flat(a))).toBeLessThan(1e-5);
  });

  test('takes every batch: another second one gives another step', async () => {
    const ids = randomTokens(4, 1);
    const other = [...ids.slice(0, ids.length / 2), ...randomTokens(2, 9)];
    const [a, b] = [await started({ batch: 2, accumulate: 2 }), await started({ batch: 2, accumulate: 2 })];
    const [first, second] = [await a.run(ids, 1, 1e-3), await b.run(other, 1, 1e-3)];
    expect(first.loss[0]).not.toBe(second.loss[0]);
  });
});

describe('several steps a run', () => {
  for (const [name, shape] of [
    ['one batch a step', { batch: 2 }],
    ['two batches a step', { batch: 1, accumulate: 2 }],
  ] as const) {
    test(`are one step a run, bit for bit: ${name}`, async () => {
      const steps = 4;
      const [single, several] = [await started(shape), await started({ ...shape, stepsPerRun: steps })];
      const ids = randomTokens(2 * steps, 5);
      const perStep = ids.length / steps;
      const losses: number[] = [];
      const norms: number[] = [];
      for (let i = 0; i < steps; i++) {
        const { loss, norm } = await single.run(ids.slice(i * perStep, (i + 1) * perStep), i + 1, 1e-2);
        losses.push(...loss);
        norms.push(...norm);
      }
      const together = await several.run(ids, 1, 1e-2);
      expect(together.loss).toEqual(losses);
      expect(together.norm).toEqual(norms);
      expect(new Set(losses).size).toBe(steps);
      expect(await several.state.read()).toEqual(await single.state.read());
    });
  }
});

describe('rates by name', () => {
  test('a frozen parameter is a weight, the others step as with all of them; a factor scales the step', async () => {
    // Without clipping and decay the step of one parameter does not depend on the others' gradients.
    const optimizer = { ...ADAMW_DEFAULTS, maxGradientNorm: 1e9 };
    const shape = { batch: 2, accumulate: 1, stepsPerRun: 1 };
    const ids = randomTokens(2, 3);
    const step = async (rates: Record<string, number>, rate: number) => {
      const { program, parameters } = trainingProgram(model, nextTokens(sequence), optimizer, shape, rates);
      const names = parameters.map(({ name }) => name);
      const weights = tinyWeights(model);
      const frozen = new Map([...weights].filter(([name]) => !names.includes(name)));
      const executable = await device.compile({ ...program, weights: frozen });
      const state = executable.newState(new Map(names.map((name) => [name, weights.get(name)!])));
      const tokens = int64(ids, [1, 1, 2, sequence + 1]);
      const scalars = float32(stepScalars(optimizer, 1, rate), [1, STEP_SCALARS]);
      await executable.run({ tokens, scalars }, [state]);
      return { names, values: await state.read(names) };
    };
    const all = await step({}, 1e-2);
    const half = await step({}, 5e-3);
    const some = await step({ 'backbone.layers.*': 0, '*.norm.weight': 0.5 }, 1e-2);
    expect(some.names).toEqual(
      all.names.filter((name) => !/^backbone\.layers/.test(name) || /\.norm\.weight$/.test(name)),
    );
    expect(some.names.length).toBeLessThan(all.names.length);
    for (const name of some.names) {
      const expected = (name.endsWith('.norm.weight') ? half : all).values.get(name)!;
      expect(
        relativeError(flat(some.values, [name]), [...(expected.data as Float32Array)]),
        name,
      ).toBeLessThan(1e-6);
    }
  });

  test('a letter is that of mixers side by side with others, too', () => {
    const parallel = hybridModel(tinyConfig({ pattern: '([M*]-)x2' }));
    const namesOf = (rates: Record<string, number>) => trainedOf(parallel, rates).map(({ name }) => name);
    const all = namesOf({});
    expect(namesOf({ 'layer:M': 0 })).toEqual(all.filter((name) => !/\.(mixers|norms)\.0\./.test(name)));
    expect(namesOf({ '*': 0, 'layer:[M*]': 1, 'layer:M': 0 })).toEqual(
      all.filter((name) => /layers\.[02]\.(norm|mixer\.(mixers|norms)\.1)\./.test(name)),
    );
    expect(() => namesOf({ 'layer:S': 0 })).toThrow(/there are layer:\[M\*\], layer:M, layer:\*, layer:-/);
  });

  test('a pattern that fits nothing, and nothing left to train, are refused', () => {
    const build = (rates: Record<string, number>) => () =>
      trainingProgram(
        model,
        nextTokens(sequence),
        ADAMW_DEFAULTS,
        { batch: 1, accumulate: 1, stepsPerRun: 1 },
        rates,
      );
    expect(build({ 'layers.*.attention': 0 })).toThrow(/no parameter that is trained has a name like layers/);
    expect(build({ '*': 0 })).toThrow(/nothing is trained/);
  });
});

describe('the loss', () => {
  test('is that of the next token, and what is evaluated is its sum', async () => {
    const weights = tinyWeights(model);
    const executable = await device.compile({ ...evaluationProgram(model, nextTokens(sequence)), weights });
    const lossOf = async (ids: readonly number[]): Promise<number> => {
      const tokens = int64(ids, [ids.length / (sequence + 1), sequence + 1]);
      return (await executable.run({ tokens })).loss!.data[0] as number;
    };
    const { run } = await started({ batch: 2 });
    const ids = randomTokens(2, 3);
    const total = await lossOf(ids);
    expect((await run(ids, 1, 0)).loss[0]! * 2 * sequence).toBeCloseTo(total, 3);
    const rows = [ids.slice(0, sequence + 1), ids.slice(sequence + 1)];
    expect((await lossOf(rows[0]!)) + (await lossOf(rows[1]!))).toBeCloseTo(total, 3);
  });

  test('does not see its target: the last token changes its own term alone', async () => {
    const weights = tinyWeights(model);
    const registry = new ParameterRegistry();
    const tokens = input('tokens', 'int64', [1, sequence + 1]);
    const loss = mean(tokenLosses(model, registry, tokens));
    const executable = await device.compile(withInputs({ outputs: { loss }, weights }));
    const ids = randomTokens(1, 4);
    // Over all values of the last token, exp(-term) is a distribution: it sums to 1 if the term before it is fixed.
    let mass = 0;
    let least = Number.POSITIVE_INFINITY;
    const losses: number[] = [];
    for (let last = 0; last < 300; last++) {
      const changed = [...ids.slice(0, -1), last];
      const { loss: value } = await executable.run({ tokens: int64(changed, [1, sequence + 1]) });
      losses.push(sequence * (value!.data[0] as number));
      least = Math.min(least, losses.at(-1)!);
    }
    const shorter = await device.compile({ ...evaluationProgram(model, nextTokens(sequence - 1)), weights });
    const { loss: rest } = await shorter.run({ tokens: int64(ids.slice(0, -1), [1, sequence]) });
    for (const value of losses) mass += Math.exp((rest!.data[0] as number) - value);
    expect(mass).toBeCloseTo(1, 3);
  });

  test('has the gradient that difference quotients show', async () => {
    const weights = tinyWeights(model);
    const ids = randomTokens(2, 7);
    const gradients = await gradientsAt(model, weights, ids);
    const executable = await device.compile(withInputs(evaluationProgram(model, nextTokens(sequence))));
    const random = new Random(11);
    // One random direction for each parameter; all of them together are the gradient's projections.
    const quotients: number[] = [];
    const projections: number[] = [];
    for (const [name, { dims, data }] of weights) {
      const direction = Float32Array.from({ length: data.length }, () => random.normal());
      const length = Math.hypot(...direction);
      const at = async (distance: number): Promise<number> => {
        const moved = (data as Float32Array).map((value, i) => value + (distance * direction[i]!) / length);
        const feeds = { ...Object.fromEntries(weights), [name]: float32(moved, dims) };
        const tokens = int64(ids, [2, sequence + 1]);
        return ((await executable.run({ ...feeds, tokens })).loss!.data[0] as number) / (2 * sequence);
      };
      const h = 2 ** -6;
      quotients.push(
        (8 * ((await at(h)) - (await at(-h))) - ((await at(2 * h)) - (await at(-2 * h)))) / (12 * h),
      );
      projections.push(gradients.get(name)!.reduce((sum, g, i) => sum + (g * direction[i]!) / length, 0));
    }
    expect(relativeError(projections, quotients)).toBeLessThan(5e-3);
  });
});
