/**
 * Selective attention: a fixed memory of the tokens that matter. Each token j gets a learned score r_j = w.h_j + b. At
 * position i a head sees the last W tokens and, of the older ones, the K with the highest scores so far (of equal ones
 * the earlier). log sigmoid(r_j) is added to the logits of the selected ones, so that the scores learn from the loss.
 * With K = 0 there are no scores and this is sliding-window attention.
 *
 * A token that was outscored by K older ones stays so: it never returns. So a memory of K + W - 1 tokens suffices, and
 * the streaming form equals the one that sees all tokens and masks. Both are this one function: tokens in memory stand
 * before the new ones, and the masks depend on order alone.
 *
 * State for one sequence: `window_{key,value}` [keyValueHeads, W - 1, headDim] with `window_score` [W - 1] and, if K > 0,
 * `selected_{key,value}` [keyValueHeads, K, headDim] with `selected_score` [K]. A score also tells a held place from an
 * empty one, so there is one without selection too.
 */

import { ConfigError } from '../../errors.js';
import {
  add,
  addDims,
  and,
  attention,
  broadcastTo,
  cast,
  concat,
  cumulativeSum,
  type Dim,
  detach,
  gatherElements,
  greater,
  greaterOrEqual,
  iota,
  less,
  lessOrEqual,
  negate,
  not,
  pad,
  reshape,
  slice,
  softplus,
  subtract,
  sum,
  type Tensor,
  topK,
  where,
  zeros,
} from '../../graph/index.js';
import { linear } from '../layers.js';
import type { Mixer, MixerContext, StateSpec, StateTensors } from '../mixer.js';
import type { Parameters } from '../parameters.js';
import { type AttentionConfig, projectHeads, projectOutput, scaleOf } from './attention.js';

/** Low enough that exp() of it is 0 in float32, without the NaN of infinity minus infinity. */
const MASKED = -1e30;

export interface SelectiveAttentionConfig extends AttentionConfig {
  /** W: how many of the last tokens are seen, the present one included. */
  window: number;
  /** K: how many older ones are kept. */
  selected: number;
  /**
   * Whether a token sees only what came before it (the default). Otherwise it sees those nearer than W on both sides
   * and the K highest of the whole sequence; that form has no state.
   */
  causal?: boolean;
}

/** Scores of empty places in memory: below any real one. */
const EMPTY = MASKED;

export function selectiveAttention(config: SelectiveAttentionConfig): Mixer {
  const { window, selected, numKeyValueHeads, headDim, causal = true } = config;
  if (!(Number.isInteger(window) && window >= 1))
    throw new ConfigError(`the window is ${window}: it must be 1 or more`);
  if (!(Number.isInteger(selected) && selected >= 0))
    throw new ConfigError(`selected is ${selected}: it must be 0 or more`);

  const entries = (name: string, count: number): StateSpec[] => {
    if (count === 0) return [];
    const shape = ['batch', numKeyValueHeads, count, headDim];
    return [
      { name: `${name}_key`, dtype: 'float32', shape, initial: 0 },
      { name: `${name}_value`, dtype: 'float32', shape, initial: 0 },
      { name: `${name}_score`, dtype: 'float32', shape: ['batch', count], initial: EMPTY },
    ];
  };
  return {
    state: causal ? [...entries('selected', selected), ...entries('window', window - 1)] : [],
    forward(parameters, x, context) {
      const fresh = tokensOf(parameters, x, config, context);
      const old = context.state ? remembered(context.state) : [];
      const memory = join([...old, fresh.tokens]);
      const sequence = x.shape[1]!;
      const bias = causal
        ? causalBias(memory.scores, sequence, config, context.state !== undefined)
        : bidirectionalBias(memory.scores, config);
      const { observe } = context;
      const kept = { window, selected, scores: memory.scores };
      const { output: mixed, weights } = attention(
        { query: fresh.heads.query, key: memory.keys, value: memory.values, bias },
        { scale: scaleOf(config), causal: false },
      );
      observe?.({ kind: 'attention', weights, memory: kept });
      const output = projectOutput(parameters, mixed, fresh.heads, config);
      return { output, state: context.state ? keep(memory, config) : {} };
    },
  };
}

/** Sliding-window attention: the last `window` tokens and nothing else. */
export function slidingWindowAttention(config: AttentionConfig & { window: number }): Mixer {
  return selectiveAttention({ ...config, selected: 0 });
}

/** Tokens in order of their age, oldest first. */
interface Tokens {
  /** [batch, keyValueHeads, tokens, headDim] */
  readonly keys: Tensor;
  readonly values: Tensor;
  /** [batch, tokens] */
  readonly scores: Tensor;
}

function tokensOf(
  parameters: Parameters,
  x: Tensor,
  config: SelectiveAttentionConfig,
  { position }: MixerContext,
) {
  const [batch, sequence] = x.shape as [Dim, Dim, Dim];
  const heads = projectHeads(parameters, x, config, position);
  const scores =
    config.selected > 0
      ? reshape(
          parameters.within('score', (p) => linear(p, x, 1, { bias: true })),
          [batch, sequence],
        )
      : zeros([batch, sequence]);
  return { heads, tokens: { keys: heads.key, values: heads.value, scores } };
}

function remembered(state: StateTensors): Tokens[] {
  return ['selected', 'window'].flatMap((name) => {
    const keys = state[`${name}_key`];
    return keys ? [{ keys, values: state[`${name}_value`]!, scores: state[`${name}_score`]! }] : [];
  });
}

function join(parts: readonly Tokens[]): Tokens {
  return {
    keys: concat(
      parts.map(({ keys }) => keys),
      2,
    ),
    values: concat(
      parts.map(({ values }) => values),
      2,
    ),
    scores: concat(
      parts.map(({ scores }) => scores),
      1,
    ),
  };
}

/** The tokens from `start` to the end. */
function from({ keys, values, scores }: Tokens, start: Dim, end: Dim): Tokens {
  return {
    keys: slice(keys, 2, start, end),
    values: slice(values, 2, start, end),
    scores: slice(scores, 1, start, end),
  };
}

/** What stays after x: the last W - 1 tokens and the K highest of the others. */
function keep(memory: Tokens, { selected, window }: SelectiveAttentionConfig): StateTensors {
  const total = memory.scores.shape[1]!;
  const boundary = addDims(total, 1 - window);
  const state: Record<string, Tensor> = {};
  const store = (name: string, { keys, values, scores }: Tokens): void => {
    Object.assign(state, { [`${name}_key`]: keys, [`${name}_value`]: values, [`${name}_score`]: scores });
  };
  if (window > 1) store('window', from(memory, boundary, total));
  if (selected > 0) {
    const older = from(memory, 0, boundary);
    // Of equal scores topK takes the one that stands first, which is the earlier.
    const { indices: highest } = topK(detach(older.scores), selected, 1);
    // They stay in the order of their age: what a token sees is summed in the same order however a text is cut.
    const { values: negated } = topK(negate(cast(highest, 'float32')), selected, 1);
    const indices = cast(negate(negated), 'int64');
    const scores = gatherElements(detach(older.scores), indices, 1);
    const [batch, heads, , size] = older.keys.shape as [Dim, Dim, Dim, Dim];
    const places = broadcastTo(reshape(indices, [batch, 1, selected, 1]), [batch, heads, selected, size]);
    const pick = (x: Tensor): Tensor => gatherElements(x, places, 2);
    store('selected', { keys: pick(older.keys), values: pick(older.values), scores });
  }
  return state;
}

/** [batch, 1, sequence, tokens] for new tokens at the end of a memory with these scores [batch, tokens]. */
function causalBias(
  scores: Tensor,
  sequence: Dim,
  config: SelectiveAttentionConfig,
  hasPast: boolean,
): Tensor {
  const { selected, window } = config;
  const past = hasPast ? selected + window - 1 : 0;
  const tokens = scores.shape[1]!;
  const token = reshape(iota(tokens), [1, tokens]);
  // The place in memory of each new token.
  const own = reshape(add(iota(sequence), past), [sequence, 1]);
  const isOlder = lessOrEqual(token, subtract(own, window));
  const inWindow = and(lessOrEqual(token, own), not(isOlder));

  let bias: Tensor;
  if (selected === 0) {
    bias = where(inWindow, 0, MASKED);
  } else {
    // How many of the first n tokens outscore each, for the n that have left the window of each new token.
    const running = cumulativeSum(outscores(scores), 1);
    const rank = hasPast
      ? slice(running, 1, selected - 1, addDims(sequence, selected - 1))
      : slice(pad(running, 1, window, 0), 1, 0, sequence);
    const isSelected = and(isOlder, less(rank, selected));
    bias = where(inWindow, 0, where(isSelected, selectionBias(scores), MASKED));
  }
  if (hasPast) bias = where(reshape(greater(scores, EMPTY / 2), [-1, 1, tokens]), bias, MASKED);
  return bias.rank === 2 ? bias : reshape(bias, [-1, 1, sequence, tokens]);
}

/** [batch, 1, sequence, sequence]: near tokens on both sides, and the highest of all. */
function bidirectionalBias(scores: Tensor, { selected, window }: SelectiveAttentionConfig): Tensor {
  const tokens = scores.shape[1]!;
  const token = reshape(iota(tokens), [1, tokens]);
  const own = reshape(iota(tokens), [tokens, 1]);
  const isNear = and(less(subtract(own, token), window), less(subtract(token, own), window));
  if (selected === 0) return where(isNear, 0, MASKED);
  const isSelected = less(sum(outscores(scores), 1, { keepDims: true }), selected);
  const bias = where(isNear, 0, where(isSelected, selectionBias(scores), MASKED));
  return reshape(bias, [-1, 1, tokens, tokens]);
}

/** 1 at [batch, i, j] where token i ranks before token j: a higher score, or the same and earlier. */
function outscores(scores: Tensor): Tensor {
  const [batch, tokens] = scores.shape as [Dim, Dim];
  const fixed = detach(scores);
  const i = reshape(fixed, [batch, tokens, 1]);
  const j = reshape(fixed, [batch, 1, tokens]);
  const earlier = less(reshape(iota(tokens), [tokens, 1]), reshape(iota(tokens), [1, tokens]));
  return where(earlier, cast(greaterOrEqual(i, j), 'float32'), cast(greater(i, j), 'float32'));
}

/** log sigmoid(score): [batch, 1, tokens] */
function selectionBias(scores: Tensor): Tensor {
  return negate(softplus(negate(reshape(scores, [scores.shape[0]!, 1, scores.shape[1]!]))));
}
