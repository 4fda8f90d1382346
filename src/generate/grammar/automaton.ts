/**
 * Deterministic finite automata over characters, and their intersections. They are trimmed: from every state an accepting one can be
 * reached, so that a text that follows one can always be completed.
 */
import type { Alphabet } from './characters.js';
import type { Work } from './work.js';

/** The state from which no text is accepted. */
export const DEAD = -1;

/** States are numbers from 0; state 0 is the start. */
export interface Automaton {
  readonly alphabet: Alphabet;
  /** [state * classes + class]: the next state, or `DEAD`. */
  readonly next: ArrayLike<number>;
  /** [state]: 1 where a string may end. */
  readonly accepts: ArrayLike<number>;
}

/** Conditions on strings: accepted by some automata, refused by others, and of a certain length. */
export interface Conditions {
  readonly accepted: readonly Automaton[];
  /** Automata that must not accept. They must be complete, since a string that reaches `DEAD` in one is refused. */
  readonly refused: readonly Automaton[];
  readonly least: number;
  readonly most: number;
}

/** The most transitions of an automaton. */
const MANY_TRANSITIONS = 400_000;

/** The product automaton of all conditions, which share an alphabet. Undefined if no string satisfies them. Throws `WorkError`. */
export function intersection(
  alphabet: Alphabet,
  { accepted, refused, least, most }: Conditions,
  work: Work,
): Automaton | undefined {
  const parts = [...accepted, ...refused];
  const classes = alphabet.classes.length;
  // If long strings are allowed, shorter limits are tried first: the product automaton is smaller, and a shorter limit only restricts what may
  // be generated.
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
    // Without an upper bound, lengths beyond the minimum are equivalent and share states.
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

/** Removes the states from which no accepting one can be reached; undefined if the start is among them. */
export function trimmed({ alphabet, next, accepts }: Automaton): Automaton | undefined {
  const { distances } = shortestEnds({ alphabet, next, accepts });
  if (distances[0] === Infinity) return undefined;
  const kept = Int32Array.from(next, (to) => (to !== DEAD && distances[to] === Infinity ? DEAD : to));
  return { alphabet, next: kept, accepts };
}

/** For each state, the length of the shortest accepted continuation, and the class of its first character. */
export function shortestEnds({ alphabet, next, accepts }: Automaton): {
  readonly distances: Float64Array;
  readonly toward: Int32Array;
} {
  const classes = alphabet.classes.length;
  const states = accepts.length;
  const distances = new Float64Array(states).fill(Infinity);
  const toward = new Int32Array(states).fill(DEAD);
  // Transitions grouped by target.
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

/** A lone surrogate, which no alphabet contains. */
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
