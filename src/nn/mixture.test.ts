/**
 * Mixtures of experts against their definition in float64, one token and one expert at a time, in every way of routing that
 * the families have; their gradients, and what they consist of.
 */
import { describe, expect, test } from 'vitest';
import { openDevice } from '../engine/index.js';
import { scalar } from '../graph/index.js';
import { type NdArray, tabulate, total } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import { type MixtureConfig as AnyMixtureConfig, mixtureOfExperts, type Routing } from './mixture.js';
import { checkDefinition, parametersOf, sigmoid, silu } from './testing/definition.js';
import { checkGradients } from './testing/gradients.js';
import { checkLaw } from './testing/law.js';

const device = await openDevice('cpu', { threads: 1 });

const hiddenSize = 6;
const intermediateSize = 3;
const names = { router: 'gate.weight', input: 'experts.up', output: 'experts.down' };
/** Whose routing is data. */
interface MixtureConfig extends AnyMixtureConfig {
  routing: Routing;
  names: AnyMixtureConfig['names'] & { router: string };
}

const base: MixtureConfig = {
  hiddenSize,
  intermediateSize,
  numExperts: 6,
  expertsPerToken: 2,
  activation: 'swiglu',
  routing: { scores: 'softmax', normalized: true },
  names,
  outputDeviation: 0.02,
};
const latent = { size: 4, bias: true, input: 'to_latent', output: 'from_latent' };

/** Indices from the highest value to the lowest; of equal ones the first comes first. */
function ranking(values: readonly number[]): number[] {
  return values.map((_, i) => i).sort((a, b) => values[b]! - values[a]! || a - b);
}

/** The weight of each expert for a token with these router logits. */
function route(
  logits: readonly number[],
  bias: readonly number[],
  { scores: kind, normalized, factor = 1, groups }: Routing,
  perToken: number,
): number[] {
  const normalizer = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
  const scores = logits.map((logit) => (kind === 'softmax' ? Math.exp(logit) / normalizer : sigmoid(logit)));
  let choice = scores.map((score, e) => score + bias[e]!);
  if (groups) {
    const size = logits.length / groups.count;
    const group = (e: number): number => Math.floor(e / size);
    const best = Array.from({ length: groups.count }, (_, g) => {
      const [first, second] = choice.filter((_, e) => group(e) === g).sort((a, b) => b - a);
      return first! + second!;
    });
    const kept = ranking(best).slice(0, groups.chosen);
    choice = choice.map((value, e) => (kept.includes(group(e)) ? value : Number.NEGATIVE_INFINITY));
  }
  const chosen = ranking(choice).slice(0, perToken);
  const sum = normalized ? chosen.reduce((total, e) => total + scores[e]!, 0) : 1;
  return scores.map((score, e) => (chosen.includes(e) ? (factor * score) / sum : 0));
}

function definition(config: MixtureConfig) {
  const { numExperts, expertsPerToken, activation, routing } = config;
  const space = config.latent;
  const width = space?.size ?? hiddenSize;
  return (weight: (name: string) => NdArray, x: NdArray): NdArray => {
    const [batch, sequence] = x.dims as [number, number];
    const affine = (name: string, row: readonly number[], outputs: number): number[] =>
      Array.from(
        { length: outputs },
        (_, o) =>
          (space!.bias ? weight(`${name}.bias`).at(o) : 0) +
          total(row.length, (i) => weight(`${name}.weight`).at(o, i) * row[i]!),
      );
    const rows = Array.from({ length: batch * sequence }, (_, t) => {
      const token = Array.from({ length: hiddenSize }, (_, i) =>
        x.at(Math.floor(t / sequence), t % sequence, i),
      );
      const logits = Array.from({ length: numExperts }, (_, e) =>
        total(hiddenSize, (i) => weight(names.router).at(e, i) * token[i]!),
      );
      const bias = logits.map((_, e) => (routing.choiceBias ? weight(routing.choiceBias).at(e) : 0));
      const shares = route(logits, bias, routing, expertsPerToken);
      const inner = space ? affine(space.input, token, width) : token;
      const mixed = Array.from({ length: width }, (_, o) =>
        total(numExperts, (e) => {
          if (shares[e] === 0) return 0;
          const raised = (row: number) => total(width, (i) => weight(names.input).at(e, row, i) * inner[i]!);
          const activated = (k: number) =>
            activation === 'relu2'
              ? Math.max(raised(k), 0) ** 2
              : silu(raised(k)) * raised(intermediateSize + k);
          return shares[e]! * total(intermediateSize, (k) => weight(names.output).at(e, o, k) * activated(k));
        }),
      );
      return space ? affine(space.output, mixed, hiddenSize) : mixed;
    });
    return tabulate(x.dims, (b, t, o) => rows[b! * sequence + t!]![o!]!);
  };
}

const softmaxes: [string, Partial<MixtureConfig>][] = [
  ['softmax, divided by their sum', {}],
  ['softmax as it is', { routing: { scores: 'softmax', normalized: false } }],
  ['the best alone', { expertsPerToken: 1, routing: { scores: 'softmax', normalized: false } }],
  ['the best alone, whose weight is 1', { expertsPerToken: 1 }],
  ['all of them', { expertsPerToken: 6 }],
  ['the only one', { numExperts: 1, expertsPerToken: 1 }],
  ['squared ReLU', { activation: 'relu2' }],
  ['times a factor', { routing: { scores: 'softmax', normalized: true, factor: 2.5 } }],
  ['in a smaller space', { latent }],
  ['in a smaller space, without biases', { latent: { ...latent, bias: false }, activation: 'relu2' }],
];
const grouped = (count: number, chosen: number): Routing => ({
  scores: 'sigmoid',
  normalized: true,
  factor: 2.5,
  choiceBias: 'gate.bias',
  groups: { count, chosen },
});
const sigmoids: [string, Partial<MixtureConfig>][] = [
  ['sigmoid as it is', { routing: { scores: 'sigmoid', normalized: false } }],
  ['sigmoid, divided by their sum', { routing: { scores: 'sigmoid', normalized: true } }],
  [
    'sigmoid, chosen with a bias',
    { routing: { scores: 'sigmoid', normalized: true, choiceBias: 'gate.bias' }, activation: 'relu2' },
  ],
  ['one group', { routing: grouped(1, 1), activation: 'relu2' }],
  ['the best of three groups', { routing: grouped(3, 1), activation: 'relu2' }],
  ['two of three groups', { routing: grouped(3, 2), activation: 'relu2', expertsPerToken: 3 }],
  ['all groups', { routing: grouped(2, 2), activation: 'relu2' }],
  ['two of three groups, in a smaller space', { routing: grouped(3, 2), activation: 'relu2', latent }],
];
const cases = [...softmaxes, ...sigmoids].map(([name, change]): [string, MixtureConfig] => [
  name,
  { ...base, ...change },
]);

describe('is what its definition says', () => {
  for (const [name, config] of cases) {
    test(name, () => checkDefinition(device, mixtureOfExperts(config), { hiddenSize }, definition(config)));
  }

  test('of equal scores the first experts are taken, for every token', () => {
    const config = { ...base, expertsPerToken: 3 };
    return checkDefinition(
      device,
      mixtureOfExperts(config),
      { hiddenSize, weights: { [names.router]: Array(36).fill(0) } },
      definition(config),
    );
  });

  test('the bias moves the choice, and not the weights', () => {
    // Far above any score: always these two, with the weights that their scores give them.
    const routing: Routing = { scores: 'sigmoid', normalized: true, choiceBias: 'gate.bias' };
    const config = { ...base, routing };
    const mixture = mixtureOfExperts(config);
    const bias = [0, 0, 50, 0, 0, 40];
    return checkDefinition(device, mixture, { hiddenSize, weights: { 'gate.bias': bias } }, (weight, x) => {
      const always = definition({ ...config, routing: { scores: 'sigmoid', normalized: true } });
      // As if only those two experts were there.
      const kept = (name: string): NdArray => {
        const whole = weight(name);
        return tabulate([2, ...whole.dims.slice(1)], (e, ...rest) => whole.at(e === 0 ? 2 : 5, ...rest));
      };
      expect(always(weight, x)).not.toEqual(definition(config)(weight, x));
      return definition({
        ...config,
        numExperts: 2,
        routing: { scores: 'sigmoid', normalized: true },
      })(kept, x);
    });
  });

  test('one token, or many, in any pieces', () =>
    checkLaw(device, mixtureOfExperts(base), { hiddenSize, batch: 2, sequence: 29 }));
});

describe('gradients', () => {
  // Scores so far apart that the step of a difference quotient does not change the choice.
  const router = Array.from({ length: 36 }, (_, i) => (((i * 29) % 37) - 18) / 8);
  for (const [name, config] of cases) {
    test(name, async () => {
      const { numExperts } = config;
      const bias = config.routing.choiceBias;
      const gradients = await checkGradients(
        device,
        (parameters, { x }) =>
          mixtureOfExperts(config).forward(parameters, x!, { position: scalar(0, 'int64') }).output,
        {
          inputs: { x: uniform(8, [1, 2, hiddenSize]) },
          weights: {
            [names.router]: router.slice(0, numExperts * hiddenSize),
            // Further apart than any two scores.
            ...(bias && { [bias]: [6, 4.5, 0, -1.5, 3, 1.5] }),
          },
        },
      );
      for (const [key, gradient] of gradients) {
        // The choice has no slope; nor has the weight of what is chosen alone, or of all that is.
        if (key === bias) expect(Math.hypot(...gradient)).toBe(0);
        else if (key !== names.router) expect(Math.hypot(...gradient), key).toBeGreaterThan(0);
      }
    });
  }
});

describe('what it consists of', () => {
  const shapes = (config: MixtureConfig) =>
    Object.fromEntries(
      [...parametersOf(mixtureOfExperts(config), hiddenSize)].map(([name, { shape }]) => [name, shape]),
    );

  test('a gate and a value have a matrix together; a latent space has maps there and back', () => {
    expect(shapes(base)).toEqual({
      'gate.weight': [6, 6],
      'experts.up': [6, 6, 6],
      'experts.down': [6, 6, 3],
    });
    expect(shapes({ ...base, activation: 'relu2', latent, routing: grouped(3, 2) })).toEqual({
      'gate.weight': [6, 6],
      'gate.bias': [6],
      'experts.up': [6, 3, 4],
      'experts.down': [6, 4, 3],
      'to_latent.weight': [4, 6],
      'to_latent.bias': [4],
      'from_latent.weight': [6, 4],
      'from_latent.bias': [6],
    });
  });

  test('checkpoints may store each expert on its own: all of its rows, expert after expert', () => {
    const expert = (i: number) => ({ inputs: [`${i}.gate`, `${i}.up`], output: `${i}.down` });
    const config = { ...base, numExperts: 2, names: { ...names, expert } };
    const specs = parametersOf(mixtureOfExperts(config), hiddenSize);
    expect(specs.get('experts.up')!.parts).toEqual(
      ['0.gate', '0.up', '1.gate', '1.up'].map((name) => ({ name, shape: [3, 6] })),
    );
    expect(specs.get('experts.down')!.parts).toEqual(
      ['0.down', '1.down'].map((name) => ({ name, shape: [6, 3] })),
    );
    expect(specs.get('gate.weight')!.parts).toBeUndefined();
  });

  test('what decides the choice does not decay', () => {
    const specs = parametersOf(mixtureOfExperts({ ...base, routing: grouped(3, 2) }), hiddenSize);
    expect([...specs].map(([name, { decay }]) => [name, decay])).toEqual([
      ['experts.up', true],
      ['experts.down', true],
      ['gate.weight', true],
      ['gate.bias', false],
    ]);
  });
});
