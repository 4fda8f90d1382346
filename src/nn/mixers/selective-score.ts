/**
 * How much a token matters, as selective attention learns it: a number for each token, from its hidden state h_j,
 *
 *     linear          r_j = w . h_j + b
 *     convolution     r_j = w . f_j + b           f_j = silu(C [h_(j-3), h_(j-2), h_(j-1), h_j] + c)
 *     surprise        r_j = w . [f_j, log(|e_j|^2 + 0.001)] + b
 *
 * The second form sees the tokens just before: whether a token matters often depends on what it follows. Where places are scarce it
 * keeps pairs together that the first one tears apart. The third one also learns what a small memory of its own would have said: with
 * k_j the direction of K f_j, v_j = V h_j and beta_j = 0.9 sigmoid(g . f_j + a),
 *
 *     e_j = v_j - S_(j-1)^T k_j        S_j = S_(j-1) + beta_j k_j e_j^T
 *
 * so that a token that can be told from those before it need not be kept.
 *
 * State for one sequence: `score_inputs` [3, hiddenSize] of the second form and the third, and `score_memory` [1, 16, 16] of the third.
 */
import {
  add,
  addDims,
  concat,
  type Dim,
  divide,
  fill,
  keptTokens,
  lastDocument,
  linearRecurrence,
  log,
  multiply,
  rmsNorm as normalize,
  pad,
  reshape,
  sameDocument,
  sigmoid,
  silu,
  slice,
  subtract,
  sum,
  type Tensor,
  zeros,
} from '../../graph/index.js';
import { linear } from '../layers.js';
import type { StateSpec } from '../mixer.js';
import type { Parameters } from '../parameters.js';

/** How the scores of selective attention may be made (see the head of this file). */
export const SCORE_FORMS = ['linear', 'convolution', 'surprise'] as const;
/** One of `SCORE_FORMS`. */
export type ScoreForm = (typeof SCORE_FORMS)[number];

/** Tokens that the convolution covers, the present one included. */
const WIDTH = 4;
/** Of the keys and the values of the small memory. */
const SIZE = 16;
/** Less than 1, so that what stood under a key is known from what stands there now. */
const MOST_WRITTEN = 0.9;
const LEAST_ERROR = 1e-3;

const INPUTS = 'score_inputs';
const MEMORY = 'score_memory';

type State = Readonly<Record<string, Tensor>>;

export function scoreState(form: ScoreForm, hiddenSize: number): StateSpec[] {
  const spec = (name: string, ...shape: number[]): StateSpec => {
    return { name, dtype: 'float32', shape: ['batch', ...shape], initial: 0 };
  };
  return [
    ...(form === 'linear' ? [] : [spec(INPUTS, WIDTH - 1, hiddenSize)]),
    ...(form === 'surprise' ? [spec(MEMORY, 1, SIZE, SIZE)] : []),
  ];
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
  const inputs = {
    [INPUTS]: numbers
      ? keptTokens(last, sameDocument(slice(numbers, 1, sequence, end), lastDocument(documents)))
      : last,
  };
  const features = silu(mixed);
  if (form === 'convolution') return { features, state: inputs };
  const { error, memory } = errorOf(parameters, x, features, before?.[MEMORY], documents);
  return { features: concat([features, error], -1), state: { ...inputs, [MEMORY]: memory } };
}

/** The logarithm of the squared error [batch, sequence, 1] with which the small memory tells each token from those before it. */
function errorOf(
  parameters: Parameters,
  x: Tensor,
  features: Tensor,
  state: Tensor | undefined,
  documents: Tensor | undefined,
) {
  const to = (name: string, from: Tensor, size: number, bias = false): Tensor =>
    parameters.within(name, (p) => linear(p, from, size, { bias }));
  const key = normalize(to('key', features, SIZE), fill([SIZE], 1 / Math.sqrt(SIZE)), 1e-6 / SIZE);
  const value = to('value', x, SIZE);
  const beta = multiply(sigmoid(to('write', features, 1, true)), MOST_WRITTEN);
  const counts = { query: 1, key: 1, value: 1 };
  const after = linearRecurrence({ query: key, key, value, beta, state, documents }, counts);
  // What is read after writing is what was there plus beta times the error.
  const error = divide(subtract(value, after.output), subtract(1, beta));
  const squared = sum(multiply(error, error), -1, { keepDims: true });
  return { error: log(add(squared, LEAST_ERROR)), memory: after.state };
}
