/**
 * How much a token matters, as selective attention learns it: a number for each token, from its hidden state h_j,
 *
 *     linear          r_j = w . h_j + b
 *     convolution     r_j = w . f_j + b           f_j = silu(C [h_(j-3), h_(j-2), h_(j-1), h_j] + c)
 *
 * The second form also sees the three tokens before: whether a token matters often depends on what it follows. With few places in memory it
 * selects both tokens of a pair, where the first form often selects only one.
 *
 * State for one sequence: `score_inputs` [3, hiddenSize] of the second form.
 */
import {
  addDims,
  concat,
  type Dim,
  keptTokens,
  lastDocument,
  pad,
  reshape,
  sameDocument,
  silu,
  slice,
  type Tensor,
  zeros,
} from '../../graph/index.js';
import { linear } from '../layers.js';
import type { StateSpec } from '../mixer.js';
import type { Parameters } from '../parameters.js';

/** How the scores of selective attention may be made (see the head of this file). */
export const SCORE_FORMS = ['linear', 'convolution'] as const;
/** One of `SCORE_FORMS`. */
export type ScoreForm = (typeof SCORE_FORMS)[number];

/** Tokens that the convolution covers, the present one included. */
const WIDTH = 4;
const INPUTS = 'score_inputs';

type State = Readonly<Record<string, Tensor>>;

/** The state of scores that are made by a convolution: its last inputs. Linear scores have none. */
export function scoreState(form: ScoreForm, hiddenSize: number): StateSpec[] {
  if (form === 'linear') return [];
  return [{ name: INPUTS, dtype: 'float32', shape: ['batch', WIDTH - 1, hiddenSize], initial: 0 }];
}

/** Scores [batch, sequence] of x [batch, sequence, hidden], and the state that follows. */
export function scoresOf(
  parameters: Parameters,
  x: Tensor,
  form: ScoreForm,
  before: State | undefined,
  documents?: Tensor,
): { scores: Tensor; state: State } {
  return parameters.within('score', (p) => {
    const { features, state } = featuresOf(p, x, form, before, documents);
    return { scores: reshape(linear(p, features, 1, { bias: true }), x.shape.slice(0, 2)), state };
  });
}

function featuresOf(
  parameters: Parameters,
  x: Tensor,
  form: ScoreForm,
  before: State | undefined,
  documents: Tensor | undefined,
): { features: Tensor; state: State } {
  if (form === 'linear') return { features: x, state: {} };
  const [batch, sequence, hidden] = x.shape as [Dim, Dim, number];
  const all = concat([before?.[INPUTS] ?? zeros([batch, WIDTH - 1, hidden]), x], 1);
  const numbers = documents && pad(documents, 1, WIDTH - 1, 0);
  const shifted = Array.from({ length: WIDTH }, (_, i) => {
    const end = addDims(sequence, i);
    const earlier = slice(all, 1, i, end);
    return numbers ? keptTokens(earlier, sameDocument(slice(numbers, 1, i, end), documents)) : earlier;
  });
  const mixed = parameters.within('conv', (p) => linear(p, concat(shifted, -1), hidden, { bias: true }));
  const end = addDims(sequence, WIDTH - 1);
  const last = slice(all, 1, sequence, end);
  const inputs = numbers
    ? keptTokens(last, sameDocument(slice(numbers, 1, sequence, end), lastDocument(documents)))
    : last;
  return { features: silu(mixed), state: { [INPUTS]: inputs } };
}
