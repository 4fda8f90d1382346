/**
 * A mixture of experts: a router chooses some of many MLPs for each token, and their outputs are added with its weights
 * (Shazeer et al., 2017). What families do differently is the routing, so that is data.
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
  /** The experts work in a space of this size; projections of these names lead there and back. */
  latent?: { size: number; bias: boolean; input: string; output: string };
  routing: Routing | Router;
  names: MixtureNames;
  outputDeviation: number;
}

/** Gives the experts' weights [tokens, experts] for x [tokens, hidden]: 0 for those that are not chosen. */
export type Router = (parameters: Parameters, x: Tensor, context: MixerContext) => Tensor;

/** How a linear router chooses experts and weighs them. */
export interface Routing {
  /** How the router's logits become scores. */
  scores: 'softmax' | 'sigmoid';
  /** The scores of the chosen experts are divided by their sum, to which `epsilon` (1e-20 by default) is added. */
  normalized: boolean;
  epsilon?: number;
  /** Multiplies the weights. */
  factor?: number;
  /** A bias, so called, that counts in the choice alone. */
  choiceBias?: string | undefined;
  /** Experts are chosen within the best `chosen` of `count` groups; a group is as good as its two best experts. */
  groups?: { count: number; chosen: number };
}

/** Under which names checkpoints keep the weights of a mixture. */
export interface MixtureNames {
  /** Of the router's matrix; `gate.weight` by default. */
  router?: string;
  /** Of the experts' matrices [experts, ., .]. */
  input: string;
  output: string;
  /** Of the matrices of one expert, where checkpoints store each on its own. */
  expert?: (index: number) => { inputs: readonly string[]; output: string };
}

/**
 * A mixture of experts (Shazeer et al., 2017, arXiv 1701.06538) for x [batch, sequence, hiddenSize], each token by
 * itself: the sum of its `expertsPerToken` chosen experts, by the router's weights. It has no state.
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

/** The experts' weights [tokens, experts] for x [tokens, hidden]: 0 for those not chosen. */
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

/** Scores [tokens, experts], with those outside each token's best groups far below the others. */
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
