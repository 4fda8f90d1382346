/**
 * Selective attention: a fixed memory of the tokens that matter. Each token j gets a learned score r_j (selective-score.ts). At
 * position i a head sees the last W tokens and, of the older ones, the K with the highest scores so far (of equal ones
 * the earlier). log sigmoid(r_j) is added to the logits of the selected ones, so that the scores learn from the loss.
 * With K = 0 there are no scores and this is sliding-window attention.
 *
 * A token that was outscored by K older ones stays so: it never returns. So a memory of K + W - 1 tokens suffices, and
 * the streaming form equals the one that sees all tokens and masks. Both are this one function: tokens in memory stand
 * before the new ones, and the masks depend on order alone. A long sequence is trained in blocks, each of which is one step of the
 * streaming form (selective-blocks.ts): O(n (W + K)) instead of O(n^2).
 *
 * State for one sequence: `window_{key,value}` [keyValueHeads, W - 1, headDim] with `window_score` [W - 1] and, if K > 0,
 * `selected_{key,value}` [keyValueHeads, K, headDim] with `selected_score` [K]. A score also tells a held place from an
 * empty one, so there is one without selection too.
 */

import { ConfigError } from '../../errors.js';
import { addDims, attention, type Dim, type Tensor, zeros } from '../../graph/index.js';
import type { Mixer, StateSpec, StateTensors } from '../mixer.js';
import { type AttentionConfig, makeHeads, projectOutput, scaleOf } from './attention.js';
import { attendInBlocks, blockLength, type Past } from './selective-blocks.js';
import {
  bidirectionalBias,
  causalBias,
  EMPTY,
  from,
  highest,
  join,
  ofLastDocument,
  pick,
  type Tokens,
} from './selective-memory.js';
import { type ScoreForm, scoreState, scoresOf } from './selective-score.js';

/** Selective attention: how many tokens are seen, and how the kept ones are chosen. */
export interface SelectiveAttentionConfig extends AttentionConfig {
  /** W: how many of the last tokens are seen, the present one included. */
  window: number;
  /** K: how many older ones are kept. */
  selected: number;
  /** How scores are made; `linear` by default. */
  score?: ScoreForm;
  /**
   * Whether log sigmoid(r_j) is added to the logits of the window's tokens, too. Every score then learns from every token that sees its
   * token, not from those alone that see it selected: in small trials of scarce places more seeds succeed.
   */
  scoresWindow?: boolean | undefined;
  /**
   * Whether a token sees only what came before it (the default). Otherwise it sees those nearer than W on both sides
   * and the K highest of the whole sequence; that form has no state.
   */
  causal?: boolean;
}

/**
 * The mixer for x [batch, sequence, hiddenSize], by the equations at the head of this file. Throws `ConfigError` for
 * a window or a number of selected tokens that cannot be.
 */
export function selectiveAttention(config: SelectiveAttentionConfig): Mixer {
  const { hiddenSize, window, selected, score = 'linear', numKeyValueHeads, headDim, causal = true } = config;
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
  const inputs = selected > 0 ? scoreState(score, hiddenSize) : [];
  return {
    state: causal
      ? [
          ...(config.heads?.state ?? []),
          ...entries('selected', selected),
          ...entries('window', window - 1),
          ...inputs,
        ]
      : [],
    forward(parameters, x, { state, position, documents, observe }) {
      const [batch, sequence] = x.shape as [Dim, Dim, Dim];
      const heads = makeHeads(parameters, x, config, { state, position, documents });
      const scored =
        selected > 0
          ? scoresOf(parameters, x, score, state, documents)
          : { scores: zeros([batch, sequence]), state: {} };
      const fresh = { keys: heads.key, values: heads.value, scores: scored.scores, documents };
      const past = state && remembered(state);
      const block = causal && !observe ? blockLength(sequence, config, past) : undefined;
      if (block !== undefined) {
        const { mixed, selected } = attendInBlocks(heads.query, fresh, config, block, scaleOf(config), past);
        return {
          output: projectOutput(parameters, mixed, heads, config),
          state: past
            ? {
                ...heads.state,
                ...stored({ selected, window: lastOf(ofLastDocument(fresh), config) }),
                ...scored.state,
              }
            : {},
        };
      }
      const memory = join(
        [...(past ? [past.selected, past.window] : []), fresh].filter((x) => x !== undefined),
      );
      const bias = causal
        ? causalBias(memory, sequence, config, state !== undefined)
        : bidirectionalBias(memory.scores, config);
      const { output: mixed, weights } = attention(
        { query: heads.query, key: memory.keys, value: memory.values, bias },
        { scale: scaleOf(config), causal: false },
      );
      observe?.({ kind: 'attention', weights, memory: { window, selected, scores: memory.scores } });
      const output = projectOutput(parameters, mixed, heads, config);
      return {
        output,
        state: state ? { ...heads.state, ...keep(ofLastDocument(memory), config), ...scored.state } : {},
      };
    },
  };
}

/** Sliding-window attention: the last `window` tokens and nothing else. */
export function slidingWindowAttention(config: AttentionConfig & { window: number }): Mixer {
  return selectiveAttention({ ...config, selected: 0 });
}

/** The tokens that a state holds, by what the state calls them. */
function remembered(state: StateTensors): Past {
  const of = (name: string): Tokens | undefined => {
    const keys = state[`${name}_key`];
    return keys && { keys, values: state[`${name}_value`]!, scores: state[`${name}_score`]! };
  };
  return { selected: of('selected'), window: of('window') };
}

/** The state that holds these tokens. */
function stored(past: Past): StateTensors {
  const state: Record<string, Tensor> = {};
  for (const name of ['selected', 'window'] as const) {
    const tokens = past[name];
    if (!tokens) continue;
    const { keys, values, scores } = tokens;
    Object.assign(state, { [`${name}_key`]: keys, [`${name}_value`]: values, [`${name}_score`]: scores });
  }
  return state;
}

/** The last W - 1 tokens. */
function lastOf(tokens: Tokens, { window }: SelectiveAttentionConfig): Tokens | undefined {
  const total = tokens.scores.shape[1]!;
  return window > 1 ? from(tokens, addDims(total, 1 - window), total) : undefined;
}

/** What stays after x: the last W - 1 tokens and the K highest of the others. */
function keep(memory: Tokens, config: SelectiveAttentionConfig): StateTensors {
  const { selected, window } = config;
  const older = from(memory, 0, addDims(memory.scores.shape[1]!, 1 - window));
  return stored({
    window: lastOf(memory, config),
    ...(selected > 0 && { selected: pick(older, highest(older.scores, selected)) }),
  });
}
