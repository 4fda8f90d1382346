/**
 * Deterministic automata over characters: what strings that satisfy several conditions at once look like. They are trimmed:
 * an accepting state can be reached from every state, so that a text that follows one can always be completed.
 */
import type { Alphabet } from './characters.js';
import type { Work } from './work.js';

/** The state from which no text is accepted. */
export const DEAD = -1;

/** States are numbers from 0 on; the first one is the beginning. */
export interface Automaton {
  readonly alphabet: Alphabet;
  /** [state * classes + class]: the next state, or `DEAD`. */
  readonly next: ArrayLike<number>;
  /** [state]: 1 where a string may end. */
  readonly accepts: ArrayLike<number>;
}

/** What strings must be: each automaton accepts, or refuses, them, and they have so many characters. */
export interface Conditions {
  readonly accepted: readonly Automaton[];
  /** Must be complete: no string for which they are `DEAD` is accepted. */
  readonly refused: readonly Automaton[];
  readonly least: number;
  readonly most: number;
}

/** Transitions that an automaton may have. */
const MANY_TRANSITIONS = 400_000;

/** One automaton for all conditions, which share their alphabet. Undefined where no string satisfies them. Throws `WorkError`. */
export function intersection(
  alphabet: Alphabet,
  { accepted, refused, least, most }: Conditions,
  work: Work,
): Automaton | undefined {
  const parts = [...accepted, ...refused];
  const classes = alphabet.classes.length;
  // Where long strings are allowed, shorter ones alone are tried first: the product automaton is smaller, and only what may be written is
  // restricted.
  const sizes = parts.reduce((product, { accepts }) => product * Math.max(1, accepts.length), 1);
  const room = Math.max(least + 16, Math.floor(MANY_TRANSITIONS / classes / Math.min(sizes, 1000)));
  const lengths = most === Infinity || most <= room ? [most] : [room, most];
  for (const length of lengths) {
    const found = product(alphabet, parts, accepted.length, least, length, work);
    if (found) return found;
  }
  return undefined;
}

function product(
  alphabet: Alphabet,
  parts: readonly Automaton[],
  accepted: number,
  least: number,
  most: number,
  work: Work,
): Automaton | undefined {
  const classes = alphabet.classes.length;
  const ids = new Map<string, number>();
  const states: (readonly number[])[] = [];
  const next: number[] = [];
  const accepts: number[] = [];
  const idOf = (state: readonly number[]): number => {
    const key = state.join(',');
    let id = ids.get(key);
    if (id === undefined) {
      id = states.length;
      ids.set(key, id);
      states.push(state);
    }
    return id;
  };
  const after = (state: readonly number[], symbol: number): readonly number[] | undefined => {
    const now: number[] = [];
    for (const [i, part] of parts.entries()) {
      const from = state[i]!;
      const to = from === DEAD ? DEAD : part.next[from * classes + symbol]!;
      if (to === DEAD && i < accepted) return undefined;
      now.push(to);
    }
    const count = state[parts.length]! + 1;
    if (count > most) return undefined;
    // Beyond the least length, and without an upper bound, the length does not matter: such states are shared.
    now.push(most === Infinity ? Math.min(count, least) : count);
    return now;
  };
  idOf([...parts.map(() => 0), 0]);
  for (let id = 0; id < states.length; id++) {
    work.spend(classes * (1 + parts.length));
    const state = states[id]!;
    const fits = parts.every(({ accepts: ends }, i) => {
      const at = state[i]!;
      return i < accepted ? ends[at] === 1 : at === DEAD || ends[at] !== 1;
    });
    accepts.push(fits && state[parts.length]! >= least ? 1 : 0);
    for (let symbol = 0; symbol < classes; symbol++) {
      const to = after(state, symbol);
      next.push(to ? idOf(to) : DEAD);
    }
  }
  return trimmed({ alphabet, next: Int32Array.from(next), accepts: Uint8Array.from(accepts) });
}

/** Without the states from which nothing can be accepted; undefined where that is the beginning. */
export function trimmed({ alphabet, next, accepts }: Automaton): Automaton | undefined {
  const { distances } = shortestEnds({ alphabet, next, accepts });
  if (distances[0] === Infinity) return undefined;
  const kept = Int32Array.from(next, (to) => (to !== DEAD && distances[to] === Infinity ? DEAD : to));
  return { alphabet, next: kept, accepts };
}

/** For each state how many characters are still to come at least, and of which class the first of them is. */
export function shortestEnds({ alphabet, next, accepts }: Automaton): {
  readonly distances: Float64Array;
  readonly toward: Int32Array;
} {
  const classes = alphabet.classes.length;
  const states = accepts.length;
  const distances = new Float64Array(states).fill(Infinity);
  const toward = new Int32Array(states).fill(DEAD);
  // Transitions by where they lead to.
  const begins = new Int32Array(states + 1);
  for (let i = 0; i < next.length; i++) if (next[i] !== DEAD) begins[next[i]! + 1]!++;
  for (let i = 0; i < states; i++) begins[i + 1]! += begins[i]!;
  const places = begins.slice(0, states);
  const sources = new Int32Array(begins[states]!);
  for (let i = 0; i < next.length; i++) if (next[i] !== DEAD) sources[places[next[i]!]!++] = i;
  const todo: number[] = [];
  for (let state = 0; state < states; state++) {
    if (accepts[state] !== 1) continue;
    distances[state] = 0;
    todo.push(state);
  }
  for (let at = 0; at < todo.length; at++) {
    const state = todo[at]!;
    for (let i = begins[state]!; i < begins[state + 1]!; i++) {
      const from = Math.floor(sources[i]! / classes);
      if (distances[from] !== Infinity) continue;
      distances[from] = distances[state]! + 1;
      toward[from] = sources[i]! % classes;
      todo.push(from);
    }
  }
  return { distances, toward };
}

/** A lone surrogate, which is in no alphabet. */
const HALF = /\p{Surrogate}/u;

/** Whether a string is accepted. */
export function isAccepted({ alphabet, next, accepts }: Automaton, text: string): boolean {
  const classes = alphabet.classes.length;
  let state = 0;
  if (HALF.test(text)) return false;
  for (const sign of text) {
    state = next[state * classes + alphabet.classOf(sign.codePointAt(0)!)]!;
    if (state === DEAD) return false;
  }
  return accepts[state] === 1;
}
