/** How layers are joined: what the whole computes, and that every layer in it has parameters and a state of its own. */

import { describe, expect, test } from 'vitest';
import { float32, openDevice } from '../engine/index.js';
import { withInputs } from '../engine/testing/with-inputs.js';
import { ConfigError } from '../errors.js';
import { add, type Dim, input, multiply, reverse, scalar, type Tensor } from '../graph/index.js';
import { type NdArray, relativeError, tabulate, total } from '../graph/testing/arrays.js';
import { uniform } from '../graph/testing/random.js';
import { bothWays, chain, named, placed, residual, scale, stateless, together } from './compose.js';
import { linear, norm } from './layers.js';
import type { Mixer, MixerContext, StateTensors } from './mixer.js';
import { attention } from './mixers/attention.js';
import { gatedDeltaNet } from './mixers/gated-delta-net.js';
import { mamba2 } from './mixers/mamba2.js';
import { shortConvolution } from './mixers/short-convolution.js';
import { ParameterRegistry } from './parameters.js';
import { checkDefinition, parametersOf } from './testing/definition.js';
import { checkGradients } from './testing/gradients.js';
import { checkLaw } from './testing/law.js';
import { spreadWeights } from './testing/prove.js';
import { compileMixer } from './testing/runs.js';
import { randomWeights } from './testing/weights.js';

const device = await openDevice('cpu', { threads: 1 });
const hiddenSize = 6;

/** x W^T, with a parameter `weight`. */
const map = stateless((parameters, x) => linear(parameters, x, hiddenSize));

/** W x of each token, in float64. */
function mapped(x: NdArray, weight: NdArray): NdArray {
  return tabulate(x.dims, (b, t, o) => total(hiddenSize, (i) => weight.at(o!, i) * x.at(b!, t!, i)));
}

const convolution = (convKernel: number): Mixer =>
  shortConvolution({ hiddenSize, convKernel, bias: true, outputDeviation: 0.02 });
const attending = attention({
  hiddenSize,
  numHeads: 2,
  numKeyValueHeads: 1,
  headDim: 4,
  outputDeviation: 0.02,
});
const recurrent = mamba2({
  hiddenSize,
  numHeads: 2,
  headDim: 4,
  stateSize: 3,
  numGroups: 1,
  convKernel: 3,
  convBias: true,
  projectionBias: false,
  timeStepLimit: [0, Number.POSITIVE_INFINITY],
  normGroups: 1,
  // A small one bends the norm of a small output more than a difference quotient can follow.
  normEpsilon: 0.125,
  outputDeviation: 0.02,
});

const stateNames = ({ state }: Mixer): string[] => state.map(({ name }) => name);

describe('what is computed', () => {
  test('chain: one after the other', () =>
    checkDefinition(device, chain(named('a', map), named('b', map)), { hiddenSize }, (weight, x) =>
      mapped(mapped(x, weight('a.weight')), weight('b.weight')),
    ));

  test('together: the sum of what each makes of x', () =>
    checkDefinition(
      device,
      together(named('a', map), named('b', map), named('c', map)),
      { hiddenSize },
      (weight, x) => {
        const parts = ['a', 'b', 'c'].map((name) => mapped(x, weight(`${name}.weight`)));
        return tabulate(x.dims, (...at) => parts.reduce((sum, part) => sum + part.at(...at), 0));
      },
    ));

  for (const factor of [1, 0.25, -3]) {
    test(`residual: x + ${factor} * what the branch makes of x`, () =>
      checkDefinition(
        device,
        residual([named('a', map), named('b', map)], factor),
        { hiddenSize },
        (weight, x) => {
          const branch = mapped(mapped(x, weight('a.weight')), weight('b.weight'));
          return tabulate(x.dims, (...at) => x.at(...at) + factor * branch.at(...at));
        },
      ));

    test(`scale by ${factor}`, () =>
      checkDefinition(device, chain(map, scale(factor)), { hiddenSize }, (weight, x) => {
        const plain = mapped(x, weight('weight'));
        return tabulate(x.dims, (...at) => factor * plain.at(...at));
      }));
  }

  test('by 1 nothing is multiplied: the graph stays as it is', () => {
    const x = input('x', 'float32', ['batch', 'sequence', hiddenSize]);
    const position = input('position', 'int64', []);
    expect(scale(1).forward(new ParameterRegistry().root(), x, { position }).output).toBe(x);
    expect(chain().forward(new ParameterRegistry().root(), x, { position }).output).toBe(x);
  });

  test('placed: layers that share parameters use the same', () => {
    const shared = placed('elsewhere.shared', map);
    const mixer = chain(named('a', shared), named('b', shared));
    expect([...parametersOf(mixer, hiddenSize).keys()]).toEqual(['elsewhere.shared.weight']);
    return checkDefinition(device, mixer, { hiddenSize }, (weight, x) => {
      const own = weight('elsewhere.shared.weight');
      return mapped(mapped(x, own), own);
    });
  });

  test('placed: a shared parameter has the gradient of all its uses', async () => {
    const shared = placed('shared', map);
    const mixer = chain(named('a', shared), named('b', shared));
    const gradients = await checkGradients(
      device,
      (parameters, { x, position }) => mixer.forward(parameters, x!, { position: position! }).output,
      {
        inputs: {
          x: uniform(3, [1, 3, hiddenSize]),
          position: { dtype: 'int64', dims: [], data: BigInt64Array.of(0n) },
        },
      },
    );
    expect([...gradients.keys()].sort()).toEqual(['shared.weight', 'x']);
  });
});

describe('names', () => {
  const block = residual([
    norm('norm', { epsilon: 1e-5 }),
    together(named('mamba', recurrent), named('self_attn', attending)),
  ]);

  test('parameters are called by the path of their layer', () => {
    const names = [...parametersOf(block, hiddenSize).keys()];
    expect(names[0]).toBe('norm.weight');
    const paths = new Set(names.map((name) => name.split('.')[0]));
    expect([...paths]).toEqual(['norm', 'mamba', 'self_attn']);
    expect(names).toContain('self_attn.o_proj.weight');
  });

  test('so are states, and nothing else about them changes', () => {
    expect(stateNames(block)).toEqual(['mamba.conv', 'mamba.ssm', 'self_attn.key', 'self_attn.value']);
    expect(stateNames(named('outer', block))[0]).toBe('outer.mamba.conv');
    for (const [i, spec] of [...recurrent.state, ...attending.state].entries()) {
      expect({ ...block.state[i]!, name: spec.name }).toEqual(spec);
    }
  });

  test('of two states that would be one are refused', () => {
    for (const join of [() => chain(attending, attending), () => together(recurrent, convolution(3))]) {
      expect(join).toThrow(ConfigError);
    }
    expect(() => residual([attending, attending])).toThrow(/two layers that are joined have a state 'key'/);
    expect(() => chain(named('a', attending), named('b', attending))).not.toThrow();
  });

  test('placed layers share parameters, not states', () => {
    const shared = placed('shared', attending);
    const mixer = chain(named('a', shared), named('b', shared));
    expect(stateNames(mixer)).toEqual(['a.key', 'a.value', 'b.key', 'b.value']);
    expect([...parametersOf(mixer, hiddenSize).keys()].every((name) => name.startsWith('shared.'))).toBe(
      true,
    );
  });
});

describe('the law holds for what is joined', () => {
  const cases: [string, Mixer][] = [
    ['chain', chain(named('a', convolution(3)), named('b', recurrent), named('c', attending))],
    ['together', together(named('a', recurrent), named('b', attending), named('c', convolution(2)))],
    [
      'residual blocks in blocks',
      chain(
        named('0', residual([norm('norm', { epsilon: 1e-5 }), named('mixer', recurrent)], 0.5)),
        named('1', residual([norm('norm', { epsilon: 1e-5 }), named('mixer', attending), scale(2)])),
      ),
    ],
    [
      'layers that share parameters, each with a state',
      chain(named('a', placed('shared', recurrent)), named('b', placed('shared', recurrent))),
    ],
  ];
  for (const [name, mixer] of cases) {
    test(name, () => checkLaw(device, mixer, { hiddenSize, batch: 2, sequence: 41 }));
  }

  test('states that are shared by mistake would be seen: each layer moves its own', async () => {
    const mixer = chain(named('a', convolution(3)), named('b', convolution(3)));
    const runs = await compileMixer(device, mixer, hiddenSize, randomWeights);
    const { states } = await runs.inPieces(uniform(5, [1, 4, hiddenSize], -2, 2), [4]);
    const held = await states[0]!.read();
    expect([...held.keys()].sort()).toEqual(['a.conv', 'b.conv']);
    expect(held.get('a.conv')!.data).not.toEqual(held.get('b.conv')!.data);
  });
});

describe('what a layer is told', () => {
  const sizes: readonly Dim[] = ['batch', 2, 'past', 4];
  const symbol = (name: string): Tensor => input(name, 'float32', [2, 4]);

  /** A layer that notes what it is told, and doubles its fixed state. */
  function probe(seen: MixerContext[]): Mixer {
    return {
      state: [
        { name: 'fixed', dtype: 'float32', shape: ['batch', 3], initial: 0 },
        { name: 'growing', dtype: 'float32', shape: sizes, grows: 2, initial: 0 },
      ],
      forward(_, x, context) {
        seen.push(context);
        const { state } = context;
        return {
          output: x,
          state: state ? { fixed: multiply(state.fixed!, 2), growing: state.growing! } : {},
        };
      },
    };
  }

  const x = input('x', 'float32', ['batch', 'sequence', 4]);
  const position = input('position', 'int64', []);

  test('it gets its own state; all get the same of the rest', () => {
    const seen: MixerContext[] = [];
    const mixer = residual([named('a', probe(seen)), named('b', named('c', probe(seen)))]);
    const names = ['a.fixed', 'a.growing', 'b.c.fixed', 'b.c.growing'];
    expect(stateNames(mixer)).toEqual(names);
    const all = (prefix: string, wanted: readonly string[]): StateTensors =>
      Object.fromEntries(wanted.map((name) => [name, symbol(`${prefix} ${name}`)]));
    const state = all('state', names);
    const lengths = input('lengths', 'int64', ['batch']);
    const embeddings = input('embeddings', 'float32', ['batch', 'sequence', 4]);
    const context = { position, lengths, embeddings, state };
    const result = mixer.forward(new ParameterRegistry().root(), x, context);

    for (const [i, path] of ['a', 'b.c'].entries()) {
      expect(Object.keys(seen[i]!.state!)).toEqual(['fixed', 'growing']);
      expect(seen[i]!.state!.fixed).toBe(state[`${path}.fixed`]);
      expect(seen[i]!.state!.growing).toBe(state[`${path}.growing`]);
      expect(seen[i]!.position).toBe(position);
      expect(seen[i]!.lengths).toBe(lengths);
      expect(seen[i]!.embeddings).toBe(embeddings);
    }
    expect(Object.keys(result.state)).toEqual(names);
    expect(result.state['b.c.growing']).toBe(state['b.c.growing']);
  });

  test('without a state it gets none, and gives none', () => {
    const seen: MixerContext[] = [];
    const mixer = together(named('a', probe(seen)), named('b', placed('there', probe(seen))));
    const result = mixer.forward(new ParameterRegistry().root(), x, { position });
    expect(seen.map(({ state }) => state)).toEqual([undefined, undefined]);
    expect(result.state).toEqual({});
  });

  test('the new states are those that the layers gave', async () => {
    const mixer = chain(named('a', probe([])), named('b', probe([])));
    const state = {
      'a.fixed': input('a.fixed', 'float32', [3]),
      'a.growing': input('a.growing', 'float32', [1]),
      'b.fixed': input('b.fixed', 'float32', [3]),
      'b.growing': input('b.growing', 'float32', [1]),
    };
    const result = mixer.forward(new ParameterRegistry().root(), x, { position, state });
    const executable = await device.compile(
      withInputs({
        outputs: { a: result.state['a.fixed']!, b: result.state['b.fixed']! },
      }),
    );
    const values = await executable.run({
      'a.fixed': float32([1, 2, 3], [3]),
      'b.fixed': float32([4, 5, 6], [3]),
    });
    expect([...(values.a!.data as Float32Array)]).toEqual([2, 4, 6]);
    expect([...(values.b!.data as Float32Array)]).toEqual([8, 10, 12]);
    await executable.dispose();
  });
});

describe('both ways', () => {
  const delta = gatedDeltaNet({
    hiddenSize,
    numKeyHeads: 2,
    numValueHeads: 2,
    keyHeadDim: 8,
    valueHeadDim: 3,
    convKernel: 2,
    layout: 'joined',
    negativeEigenvalues: false,
    normEpsilon: 0.125,
    outputDeviation: 0.02,
  });
  for (const [name, mixer] of Object.entries({ 'Mamba-2': recurrent, 'gated delta net': delta })) {
    const both = bothWays(mixer, mixer);

    test(`${name}: what each direction makes of its own end, in the same places`, async () => {
      const registry = new ParameterRegistry();
      const x = input('x', 'float32', ['batch', 'sequence', hiddenSize]);
      const context = { position: scalar(0, 'int64') };
      const whole = both.forward(registry.root(), x, context).output;
      const part = (which: string, of: Tensor): Tensor =>
        registry.root().at(which, (p) => mixer.forward(p, of, context).output);
      const sum = add(part('forward', x), reverse(part('backward', reverse(x, 1)), 1));
      const weights = randomWeights(registry.specs.values());
      const executable = await device.compile(withInputs({ outputs: { whole, sum }, weights }));
      const result = await executable.run({ x: uniform(5, [2, 9, hiddenSize], -2, 2) });
      const [found, expected] = [result.whole!.data, result.sum!.data] as [Float32Array, Float32Array];
      expect(relativeError(found, expected)).toBeLessThan(1e-6);
      expect(registry.specs.size).toBe(2 * parametersOf(mixer, hiddenSize).size);
      await executable.dispose();
    });

    test(`${name}: the first token sees the last, and gradients pass`, async () => {
      const gradients = await checkGradients(
        device,
        (parameters, { x }) => both.forward(parameters, x!, { position: scalar(0, 'int64') }).output,
        {
          inputs: { x: uniform(4, [1, 6, hiddenSize]) },
          // Normalised queries and keys bend where they are short.
          weights: spreadWeights(both, hiddenSize, /conv1d.weight|qkv|dt_bias/),
        },
      );
      for (const [of, gradient] of gradients) expect(Math.hypot(...gradient), of).toBeGreaterThan(0);
    });
  }

  test('keep no state, and refuse one', () => {
    const both = bothWays(recurrent, recurrent);
    expect(both.state).toEqual([]);
    const x = input('x', 'float32', ['batch', 'sequence', hiddenSize]);
    const streamed = () =>
      both.forward(new ParameterRegistry().root(), x, { state: {}, position: scalar(0, 'int64') });
    expect(streamed).toThrow(ConfigError);
    expect(streamed).toThrow(/reads whole sequences/);
  });
});
