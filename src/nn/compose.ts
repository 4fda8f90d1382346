/**
 * Combinators of layers. Each takes mixers and is a mixer, so that a whole block, including norms and residual connections, is a mixer that
 * declares all of its states.
 */
import { ConfigError } from '../errors.js';
import { add, multiply, reverse, type Tensor } from '../graph/index.js';
import type { Mixer, StateSpec, StateTensors } from './mixer.js';
import type { Parameters } from './parameters.js';

/** A layer without a state. */
export function stateless(apply: (parameters: Parameters, x: Tensor) => Tensor): Mixer {
  return { state: [], forward: (parameters, x) => ({ output: apply(parameters, x), state: {} }) };
}

/** `mixer` in a nested scope: its parameters and states are named `name.*`. */
export function named(name: string, mixer: Mixer): Mixer {
  const full = (key: string): string => `${name}.${key}`;
  return {
    state: mixer.state.map((spec): StateSpec => ({ ...spec, name: full(spec.name) })),
    forward(parameters, x, context) {
      const { state } = context;
      const own =
        state && Object.fromEntries(mixer.state.map((spec) => [spec.name, state[full(spec.name)]!]));
      const result = parameters.within(name, (inner) => mixer.forward(inner, x, { ...context, state: own }));
      const next = Object.entries(result.state).map(([key, value]) => [full(key), value]);
      return { output: result.output, state: Object.fromEntries(next) as StateTensors };
    },
  };
}

/** `mixer` with the parameters at `path` from the root, which layers may share; each has its own state. */
export function placed(path: string, mixer: Mixer): Mixer {
  return {
    state: mixer.state,
    forward: (parameters, x, context) => parameters.at(path, (there) => mixer.forward(there, x, context)),
  };
}

/** The states of all mixers. Throws `ConfigError` for duplicate names. */
function statesOf(mixers: readonly Mixer[]): StateSpec[] {
  const specs = mixers.flatMap(({ state }) => state);
  const names = specs.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    throw new ConfigError(`two layers that are joined have a state '${twice}': give each a name of its own`);
  }
  return specs;
}

/** Sequential composition. */
export function chain(...mixers: readonly Mixer[]): Mixer {
  return {
    state: statesOf(mixers),
    forward(parameters, x, context) {
      let output = x;
      const state: Record<string, Tensor> = {};
      for (const mixer of mixers) {
        const result = mixer.forward(parameters, output, context);
        output = result.output;
        Object.assign(state, result.state);
      }
      return { output, state };
    },
  };
}

/** The sum of the mixers' outputs for x. */
export function together(...mixers: readonly Mixer[]): Mixer {
  return {
    state: statesOf(mixers),
    forward(parameters, x, context) {
      const results = mixers.map((mixer) => mixer.forward(parameters, x, context));
      return {
        output: results.map(({ output }) => output).reduce((a, b) => add(a, b)),
        state: Object.assign({}, ...results.map(({ state }) => state)) as StateTensors,
      };
    },
  };
}

/** A residual connection: kept * x + factor * (sequence of mixers)(x). */
export function residual(mixers: readonly Mixer[], factor = 1, kept = 1): Mixer {
  const branch = chain(...mixers);
  return {
    state: branch.state,
    forward(parameters, x, context) {
      const { output, state } = branch.forward(parameters, x, context);
      return { output: add(scaled(x, kept), scaled(output, factor)), state };
    },
  };
}

/**
 * A bidirectional mixer: the sum of `forward` over x and `backward` over the reversed x, with parameters of these names. It has no state, so it is
 * for whole inputs such as images. Throws `ConfigError` if a state is given.
 */
export function bothWays(forward: Mixer, backward: Mixer): Mixer {
  return {
    state: [],
    forward(parameters, x, { state, ...context }) {
      if (state) {
        throw new ConfigError(
          'a layer that looks both ways reads whole sequences: it cannot go on from a state',
        );
      }
      const there = parameters.within('forward', (p) => forward.forward(p, x, context));
      const back = parameters.within('backward', (p) => backward.forward(p, reverse(x, 1), context));
      return { output: add(there.output, reverse(back.output, 1)), state: {} };
    },
  };
}

/** factor * x. */
export function scale(factor: number): Mixer {
  return stateless((_, x) => scaled(x, factor));
}

function scaled(x: Tensor, factor: number): Tensor {
  return factor === 1 ? x : multiply(x, factor);
}
