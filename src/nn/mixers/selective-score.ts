/**
 * How much a token matters, as selective attention learns it: a number for each token, from its hidden state h_j alone,
 *
 *     linear          r_j = w . h_j + b
 *     convolution     r_j = w . silu(C [h_(j-3), h_(j-2), h_(j-1), h_j] + c) + b
 *
 * The second form sees the tokens just before: whether a token matters often depends on what it follows. Where places are scarce it
 * keeps pairs together that the first one tears apart.
 *
 * State for one sequence, of the second form: `score_inputs` [3, hiddenSize].
 */
import { addDims, concat, type Dim, reshape, silu, slice, type Tensor, zeros } from '../../graph/index.js';
import { linear } from '../layers.js';
import type { StateSpec } from '../mixer.js';
import type { Parameters } from '../parameters.js';

export type ScoreForm = 'linear' | 'convolution';

/** Tokens that the convolution covers, the present one included. */
const WIDTH = 4;

const INPUTS = 'score_inputs';

export function scoreState(form: ScoreForm, hiddenSize: number): StateSpec[] {
  if (form === 'linear') return [];
  return [{ name: INPUTS, dtype: 'float32', shape: ['batch', WIDTH - 1, hiddenSize], initial: 0 }];
}

/** Scores [batch, sequence] of x [batch, sequence, hidden], and the state that follows. */
export function scoresOf(
  parameters: Parameters,
  x: Tensor,
  form: ScoreForm,
  state: Readonly<Record<string, Tensor>> | undefined,
): { scores: Tensor; state: Record<string, Tensor> } {
  const [batch, sequence, hidden] = x.shape as [Dim, Dim, number];
  const toScore = (p: Parameters, features: Tensor): Tensor =>
    reshape(linear(p, features, 1, { bias: true }), [batch, sequence]);
  return parameters.within('score', (p) => {
    if (form === 'linear') return { scores: toScore(p, x), state: {} };
    const before = state?.[INPUTS] ?? zeros([batch, WIDTH - 1, hidden]);
    const all = concat([before, x], 1);
    const shifted = Array.from({ length: WIDTH }, (_, i) => slice(all, 1, i, addDims(sequence, i)));
    const mixed = p.within('conv', (inner) => linear(inner, concat(shifted, -1), hidden, { bias: true }));
    const next = slice(all, 1, sequence, addDims(sequence, WIDTH - 1));
    return { scores: toScore(p, silu(mixed)), state: { [INPUTS]: next } };
  });
}
