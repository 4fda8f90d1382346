/**
 * Attribution by gradient x input: the score of a token j is <e_j, d log p / d e_j>, with its embedding e_j and the log probability of the explained
 * token: the first-order contribution of the token.
 *
 * The scales of norms are treated as constants (Ali et al., 2022, arXiv 2202.07304). Norms are invariant to the length of an embedding, so their
 * true derivative along the embedding is 0, and contributions in the first layer would be lost. Deletion tests (deletion.ts) show the difference.
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

/** The gradient of y = x * scale * weight with a constant scale. */
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
