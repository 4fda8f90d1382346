/**
 * Holds what a model writes to a grammar: of the tokens only those may be chosen whose bytes can come next, and of those only such
 * that the rest can still be written with the tokens that are left. Looked at are the likeliest tokens first; only where none of
 * them fits, all of them.
 */
import { DataError } from '../../errors.js';
import type { Vocabulary } from '../../text/index.js';
import { CANDIDATES } from '../sampling.js';
import { Matcher, type MatchState } from './matcher.js';
import type { Node } from './node.js';

/** While more tokens than that are left, no beginning is too long to be finished. */
const PLENTY = 1024;

export class Constraint {
  private readonly matcher: Matcher;
  private state: MatchState;
  private readonly plans = new Map<MatchState, readonly number[] | undefined>();

  /** `ends` are the tokens that end a text. */
  constructor(
    grammar: Node,
    private readonly vocabulary: TokenTree,
    private readonly ends: readonly number[],
  ) {
    this.matcher = new Matcher(grammar);
    this.state = this.matcher.start;
  }

  /** Leaves of logits [vocabulary] only those of tokens that may come, while `left` tokens may. Throws `DataError` where none may. */
  steer(logits: Float32Array, left: number): void {
    const { state } = this;
    const allowed = new Set<number>();
    if (state.accepts) for (const end of this.ends) allowed.add(end);
    const plan = this.planOf(state);
    if (plan && plan.length >= left && plan.length > 0) allowed.add(plan[0]!);
    else {
      for (const id of likeliest(logits, CANDIDATES)) if (this.fits(id, left)) allowed.add(id);
      if (allowed.size === 0) {
        for (const id of this.vocabulary.after(this.matcher, state)) if (this.fits(id, left)) allowed.add(id);
      }
      if (allowed.size === 0 && plan) allowed.add(plan[0]!);
    }
    if (allowed.size === 0) {
      throw new DataError('no token of this model can go on as the format demands: ask for another format');
    }
    for (let id = 0; id < logits.length; id++) if (!allowed.has(id)) logits[id] = Number.NEGATIVE_INFINITY;
  }

  /** Takes a token up; whether the text is complete with it. */
  chosen(id: number): boolean {
    this.state = this.matcher.run(this.state, this.vocabulary.bytesOf(id)!)!;
    return this.state.final;
  }

  private fits(id: number, left: number): boolean {
    const bytes = this.vocabulary.bytesOf(id);
    const next = bytes && this.matcher.run(this.state, bytes);
    if (!next) return false;
    if (left >= PLENTY) return true;
    const plan = this.planOf(next);
    return plan !== undefined && plan.length < left;
  }

  /** Tokens with which the text can end from here, few if not the fewest. */
  private planOf(state: MatchState): readonly number[] | undefined {
    if (!this.plans.has(state)) {
      const bytes = this.matcher.completion(state);
      this.plans.set(state, bytes && this.vocabulary.spell(bytes));
    }
    return this.plans.get(state);
  }
}

interface Branch {
  readonly branches: Map<number, Branch>;
  /** Tokens that end here. */
  readonly ids: number[];
}

/** The tokens of a vocabulary by their bytes, without those that are no part of a text. Made once for a model. */
export class TokenTree {
  private readonly root: Branch = { branches: new Map(), ids: [] };

  /** `marks` are special tokens that are a part of texts all the same, such as the one that opens a call. */
  constructor(
    private readonly vocabulary: Vocabulary,
    private readonly marks: ReadonlySet<number> = new Set(),
  ) {
    for (const id of vocabulary.bytes.keys()) {
      const bytes = this.bytesOf(id);
      if (!bytes) continue;
      let branch = this.root;
      for (const byte of bytes) {
        let next = branch.branches.get(byte);
        if (!next) {
          next = { branches: new Map(), ids: [] };
          branch.branches.set(byte, next);
        }
        branch = next;
      }
      branch.ids.push(id);
    }
  }

  /** Undefined for what is no part of a text. */
  bytesOf(id: number): Uint8Array | undefined {
    const bytes = this.vocabulary.bytes[id];
    const isText = !this.vocabulary.special.has(id) || this.marks.has(id);
    return bytes && bytes.length > 0 && isText ? bytes : undefined;
  }

  /** All tokens that may come after a state. */
  *after(matcher: Matcher, state: MatchState, branch: Branch = this.root): Generator<number> {
    yield* branch.ids;
    for (const [byte, next] of branch.branches) {
      const reached = matcher.step(state, byte);
      if (reached) yield* this.after(matcher, reached, next);
    }
  }

  /** Bytes as tokens, always the longest that fits; undefined where there is none for some byte. */
  spell(bytes: Uint8Array): readonly number[] | undefined {
    const ids: number[] = [];
    for (let at = 0; at < bytes.length; ) {
      let branch: Branch | undefined = this.root;
      let best: { id: number; end: number } | undefined;
      for (let end = at; branch; end++) {
        if (branch.ids.length > 0) best = { id: branch.ids[0]!, end };
        branch = end < bytes.length ? branch.branches.get(bytes[end]!) : undefined;
      }
      if (!best) return undefined;
      ids.push(best.id);
      at = best.end;
    }
    return ids;
  }
}

/** The likeliest `count` tokens, in no order. */
function likeliest(logits: Float32Array, count: number): number[] {
  if (logits.length <= count) return Array.from(logits.keys());
  const threshold = logits.slice().sort()[logits.length - count]!;
  const found: number[] = [];
  for (let id = 0; id < logits.length && found.length < count; id++) {
    if (logits[id]! >= threshold) found.push(id);
  }
  return found;
}
