/**
 * Mixtures of experts: a router selects some of many MLPs for each token, and their outputs are summed with its weights (Shazeer et al., 2017).
 * Families differ in the routing, which is a parameter.
 */
import {
  add,
  type Dim,
  divide,
  experts,
  fill,
  less,
  matmul,
  multiply,
  multiplyDims,
  reshape,
  scatterElements,
  sigmoid,
  softmax,
  sum,
  type Tensor,
  topK,
  where,
  zeros,
} from '../graph/index.js';
import { initialDeviation, linear } from './layers.js';
import type { Mixer, MixerContext } from './mixer.js';
import { constantly, normal, type ParameterPart, type Parameters } from './parameters.js';

/** Sizes, routing and names of a mixture of experts (see `mixtureOfExperts`). */
export interface MixtureConfig {
  hiddenSize: number;
  intermediateSize: number;
  numExperts: number;
  expertsPerToken: number;
  /** `swiglu` has gate and value in one matrix. */
  activation: 'swiglu' | 'relu2';
  /** The size of the experts' inputs and outputs, with the names of the projections to and from it. */
  latent?: { size: number; bias: boolean; input: string; output: string };
  routing: Routing | Router;
  names: MixtureNames;
  outputDeviation: number;
}

/** Returns the experts' weights [tokens, experts] for x [tokens, hidden], 0 for experts that are not selected. */
export type Router = (parameters: Parameters, x: Tensor, context: MixerContext) => Tensor;

/** The selection and weighting of a linear router. */
export interface Routing {
  /** The function from logits to scores. */
  scores: 'softmax' | 'sigmoid';
  /** Normalizes the scores of the selected experts: divides by their sum plus `epsilon` (1e-20 by default). */
  normalized: boolean;
  epsilon?: number;
  /** Multiplies the weights. */
  factor?: number;
  /** The name of a bias that only affects the selection. */
  choiceBias?: string | undefined;
  /** Experts are selected within the best `chosen` of `count` groups; a group's score is that of its two best experts. */
  groups?: { count: number; chosen: number };
}

/** The names of a mixture's weights in checkpoints. */
export interface MixtureNames {
  /** The router's matrix; `gate.weight` by default. */
  router?: string;
  /** The experts' matrices [experts, ., .]. */
  input: string;
  output: string;
  /** The names of one expert's matrices, in checkpoints that store experts separately. */
  expert?: (index: number) => { inputs: readonly string[]; output: string };
}

/**
 * A mixture of experts (Shazeer et al., 2017, arXiv 1701.06538) for x [batch, sequence, hiddenSize]: for each token the weighted sum of its
 * `expertsPerToken` selected experts. It has no state.
 */
export function mixtureOfExperts(config: MixtureConfig): Mixer {
  const { hiddenSize, intermediateSize, numExperts, expertsPerToken, activation, names, latent } = config;
  const width = latent?.size ?? hiddenSize;
  const inputRows = activation === 'swiglu' ? 2 * intermediateSize : intermediateSize;
  return {
    state: [],
    forward(parameters, x, context) {
      const tokens = multiplyDims(x.shape.slice(0, -1));
      const flat = reshape(x, [tokens, hiddenSize]);
      const each = names.expert && Array.from({ length: numExperts }, (_, i) => names.expert!(i));
      const stack = (
        name: string,
        rows: number,
        columns: number,
        deviation: number,
        parts?: string[],
      ): Tensor => {
        const count = parts && parts.length / numExperts;
        const stored = parts?.map((part): ParameterPart => ({ name: part, shape: [rows / count!, columns] }));
        return parameters.get(name, [numExperts, rows, columns], normal(deviation), {
          isMatrix: true,
          ...(stored && { parts: stored }),
        });
      };
      const up = stack(
        names.input,
        inputRows,
        width,
        initialDeviation(width),
        each?.flatMap(({ inputs }) => inputs),
      );
      const down = stack(
        names.output,
        width,
        intermediateSize,
        config.outputDeviation,
        each?.map(({ output }) => output),
      );
      const { routing } = config;
      const weights =
        typeof routing === 'function'
          ? routing(parameters, flat, context)
          : route(parameters, flat, tokens, config, routing);
      const project = (name: string, input: Tensor, outputs: number): Tensor =>
        parameters.within(name, (p) => linear(p, input, outputs, { bias: latent!.bias }));
      const inner = latent ? project(latent.input, flat, width) : flat;
      const mixed = experts({ x: inner, weights, up, down }, { activation, perToken: expertsPerToken });
      const output = reshape(latent ? project(latent.output, mixed, hiddenSize) : mixed, x.shape);
      return { output, state: {} };
    },
  };
}

/** The experts' weights [tokens, experts] for x [tokens, hidden], 0 for experts that are not selected. */
function route(
  parameters: Parameters,
  x: Tensor,
  tokens: Dim,
  config: MixtureConfig,
  routing: Routing,
): Tensor {
  const { numExperts, expertsPerToken, hiddenSize, names } = config;
  const router = parameters.get(
    names.router ?? 'gate.weight',
    [numExperts, hiddenSize],
    normal(initialDeviation(hiddenSize)),
    {
      precise: true,
    },
  );
  const logits = matmul(x, router, { transposeB: true });
  const scores = routing.scores === 'softmax' ? softmax(logits) : sigmoid(logits);
  const biased = routing.choiceBias
    ? add(scores, parameters.get(routing.choiceBias, [numExperts], constantly(0), { decay: false }))
    : scores;
  const choice = routing.groups ? withinBestGroups(biased, tokens, numExperts, routing.groups) : biased;
  const chosen = multiply(scores, chosenOf(choice, expertsPerToken));
  const weights = routing.normalized
    ? divide(chosen, add(sum(chosen, -1, { keepDims: true }), routing.epsilon ?? 1e-20))
    : chosen;
  const { factor = 1 } = routing;
  return factor === 1 ? weights : multiply(weights, factor);
}

/** 1 at the k highest of each row, 0 elsewhere. */
export function chosenOf(values: Tensor, k: number): Tensor {
  const { indices } = topK(values, k, -1);
  return scatterElements(zeros(values.shape), indices, fill(indices.shape, 1), -1);
}

/** Scores [tokens, experts], with those outside each token's best groups masked. */
function withinBestGroups(
  scores: Tensor,
  tokens: Dim,
  numExperts: number,
  { count, chosen }: { count: number; chosen: number },
): Tensor {
  if (count === 1) return scores;
  const grouped = reshape(scores, [tokens, count, numExperts / count]);
  const best = sum(topK(grouped, 2, -1).values, -1);
  const kept = reshape(chosenOf(best, chosen), [tokens, count, 1]);
  return reshape(where(less(kept, 0.5), -1e30, grouped), [tokens, numExperts]);
}
