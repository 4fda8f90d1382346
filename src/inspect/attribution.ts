/**
 * Which tokens a word came from: gradient x input. The embedding e_j of every token before the explained one is multiplied with
 * the gradient of the explained token's log probability, <e_j, d log p / d e_j>: what the token adds to it, to first order.
 *
 * The scales of the norms are held fixed meanwhile (Ali et al., 2022, arXiv 2202.07304). A norm gives the same for an
 * embedding of any length, so that its true derivative along the embedding is 0: what a token says in the first layer would
 * not count. Deletion tests (deletion.ts) tell the difference.
 */
import type { Program, Weight } from '../engine/index.js';
import {
  crossEntropy,
  type GradientRules,
  gradient,
  input,
  multiply,
  negate,
  reshape,
  slice,
  sum,
} from '../graph/index.js';
import { forwardWhole, logitsOf, type Model } from '../models/index.js';
import { ParameterRegistry } from '../nn/index.js';

/** y = x * scale * weight, as if the scale did not depend on x. */
export const FIXED_SCALES: GradientRules = {
  rmsNorm: ({ inputs: [, weight], outputs: [, scale], outputGradients: [g] }) => [
    multiply(multiply(g!, weight!), scale!),
    undefined,
  ],
};

/**
 * Feeds `ids` int64 [1, tokens], and `target` int64 [1], the token that comes after them. Returns its `logProbability` [1], and
 * the `scores` [tokens]; of a model that is fed a source, too, also `sourceScores` [positions].
 */
export function attributionProgram(
  model: Model,
  weights: ReadonlyMap<string, Weight>,
  rules: GradientRules = FIXED_SCALES,
): Program {
  const registry = new ParameterRegistry();
  const ids = input('ids', 'int64', [1, 'tokens']);
  const target = input('target', 'int64', [1]);
  const { hidden, residuals, entered, sourceInputs } = forwardWhole(model, registry, ids);
  const last = slice(reshape(hidden, ['tokens', model.hiddenSize]), 0, 'tokens-1', 'tokens');
  const logProbability = negate(crossEntropy(logitsOf(model, registry, last), target));
  const embeddings = residuals[0]!;
  const read = entered ? [embeddings, entered] : [embeddings];
  const gradients = gradient(sum(logProbability), read, undefined, rules);
  const [scores, sourceScores] = read.map((x, i) =>
    reshape(sum(multiply(x, gradients[i]!), -1), [x.shape[1]!]),
  );
  return {
    inputs: [ids, target, ...sourceInputs],
    outputs: { logProbability, scores: scores!, ...(sourceScores && { sourceScores }) },
    weights,
  };
}
