/**
 * How layers are joined. Each of these takes mixers and is a mixer, so that a block of a model, its norms and residual
 * connections included, is one too, and declares the state of all that is in it.
 */
import { ConfigError } from '../errors.js';
import { add, multiply, reverse, type Tensor } from '../graph/index.js';
import type { Mixer, StateSpec, StateTensors } from './mixer.js';
import type { Parameters } from './parameters.js';

/** A layer without a state. */
export function stateless(apply: (parameters: Parameters, x: Tensor) => Tensor): Mixer {
  return { state: [], forward: (parameters, x) => ({ output: apply(parameters, x), state: {} }) };
}

/** `mixer` one level down: its parameters are called `name.*`, and so is its state. */
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

/** `mixer` with the parameters at `path` from the root: several layers may share them, each with a state of its own. */
export function placed(path: string, mixer: Mixer): Mixer {
  return {
    state: mixer.state,
    forward: (parameters, x, context) => parameters.at(path, (there) => mixer.forward(there, x, context)),
  };
}

/** The states of all. Throws `ConfigError` where two have one name: they would be one. */
function statesOf(mixers: readonly Mixer[]): StateSpec[] {
  const specs = mixers.flatMap(({ state }) => state);
  const names = specs.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) {
    throw new ConfigError(`two layers that are joined have a state '${twice}': give each a name of its own`);
  }
  return specs;
}

/** One after the other. */
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

/** The sum of what each makes of x. */
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

/** kept * x + factor * (what the mixers, one after the other, make of x). */
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
 * Along the sequence in both directions: `forward` over x and `backward` over x from its end, called so, whose outputs are added. For
 * what is whole before it is read, such as images: it keeps no state. Throws `ConfigError` where one is given.
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
