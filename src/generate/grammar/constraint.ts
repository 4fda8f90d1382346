/**
 * Constrained decoding: allows only tokens whose bytes follow the grammar, and of those only the ones after which the text can still be
 * completed with the remaining tokens.
 *
 * A constraint is the position of one text in the grammar: `allows` and `allowed` say which tokens may come next, `advance` accepts one.
 * `steer` and `chosen` are the same as a processor of logits.
 */
import { ConfigError, DataError } from '../../errors.js';
import { likeliest } from '../likeliest.js';
import { CANDIDATES, type Steering } from '../sampler.js';
import { Matcher, type MatchState } from './matcher.js';
import type { Node } from './node.js';
import type { TokenTree } from './token-tree.js';

/**
 * While more tokens than this remain, a text that has fewer bytes to come is assumed to be completable, also where the vocabulary has no token
 * for some bytes.
 */
const PLENTY = 1024;
/**
 * The limit of work for one token, in units of `Matcher.spent`: some hundredths of a second. Tokens that were not checked by then are
 * disallowed, which restricts the choice but never allows a wrong token.
 */
const EFFORT = 50_000;

/** Restricts the tokens of one text to those with which it still follows a grammar. */
export class Constraint implements Steering {
  private readonly matcher: Matcher;
  private state: MatchState;
  /** The tokens that `steer` allowed last. */
  candidates: readonly number[] = [];
  private readonly plans = new Map<MatchState, readonly number[] | undefined>();

  /** `ends` are the tokens that end a text. Throws `ConfigError` for a grammar without any text. */
  constructor(
    grammar: Node,
    private readonly vocabulary: TokenTree,
    private readonly ends: readonly number[],
  ) {
    this.matcher = new Matcher(grammar);
    this.state = this.matcher.start;
  }

  /**
   * Throws `ConfigError` if no text fits into so many tokens: nothing is to be written then. Without it a text that is too long is cut. If it does
   * not throw, texts that follow `steer` are complete within them, as far as the vocabulary has a token for each byte.
   */
  expectRoom(tokens: number): void {
    if (this.isShort(this.state.cost, tokens + 1)) return;
    const plan = this.planOf(this.state);
    // Some bytes of the plan have no token; there may be others.
    if (!plan && !this.vocabulary.spellsAll) return;
    const needed = plan?.length ?? this.state.cost;
    if (needed > tokens)
      throw new ConfigError(
        `maxTokens is ${tokens}, and a short text that the schema allows takes ${needed} tokens: give as many at least`,
      );
  }

  /** Whether a token may come next if `left` tokens remain, including this one. */
  allows(id: number, left: number): boolean {
    if (this.state.accepts && this.ends.includes(id)) return true;
    const plan = this.urgent(left);
    return plan ? id === plan[0] : this.fits(id, left);
  }

  /**
   * The tokens that may come next, in no order: all of them, or, within the limit of work, those found first. `allows` is faster for few
   * tokens.
   */
  allowed(left: number): Set<number> {
    const found = new Set<number>(this.state.accepts ? this.ends : []);
    const plan = this.urgent(left);
    if (plan) return found.add(plan[0]!);
    const enough = this.matcher.spent + EFFORT;
    for (const id of this.vocabulary.after(this.matcher, this.state)) {
      if (this.fits(id, left)) found.add(id);
      if (this.matcher.spent > enough) break;
    }
    if (found.size > 0) return found;
    const [next] = this.planOf(this.state) ?? [];
    return next === undefined ? found : found.add(next);
  }

  /** Accepts a token, which must be allowed. Returns whether the text is complete, so that nothing can follow. */
  advance(id: number): boolean {
    const [planned, ...rest] = this.plans.get(this.state) ?? [];
    this.plans.clear();
    this.state = this.matcher.run(this.state, this.vocabulary.bytesOf(id)!)!;
    if (id === planned) this.plans.set(this.state, rest);
    return this.state.final;
  }

  /**
   * Masks logits [vocabulary], with `left` tokens remaining: the most likely tokens are checked first, and all tokens only if none of those
   * is allowed. Throws `DataError` if no token is allowed.
   */
  steer(logits: Float32Array, left: number): void {
    let allowed = new Set<number>(this.state.accepts ? this.ends : []);
    const plan = this.urgent(left);
    if (plan) allowed.add(plan[0]!);
    else {
      const enough = this.matcher.spent + EFFORT;
      for (const id of likeliest(logits, CANDIDATES)) {
        if (this.fits(id, left)) allowed.add(id);
        if (this.matcher.spent > enough) break;
      }
    }
    if (allowed.size === 0) allowed = this.allowed(left);
    if (allowed.size === 0) {
      throw new DataError('no token of this model can go on as the format demands: ask for another format');
    }
    const ids = [...allowed];
    const kept = ids.map((id) => logits[id]!);
    logits.fill(Number.NEGATIVE_INFINITY);
    for (const [i, id] of ids.entries()) logits[id] = kept[i]!;
    this.candidates = ids;
  }

  /** As `advance`. */
  chosen(id: number): boolean {
    return this.advance(id);
  }

  /** The tokens that must come now for the text to end within the remaining ones; undefined while there is a choice. */
  private urgent(left: number): readonly number[] | undefined {
    if (this.isShort(this.state.cost, left)) return undefined;
    const plan = this.planOf(this.state);
    return plan && plan.length >= left && plan.length > 0 ? plan : undefined;
  }

  private fits(id: number, left: number): boolean {
    const bytes = this.vocabulary.bytesOf(id);
    const cost = bytes && this.matcher.costAfter(this.state, bytes);
    if (cost === undefined) return false;
    if (this.isShort(cost, left)) return true;
    // Fewer tokens than bytes are enough.
    const plan = this.planOf(this.matcher.run(this.state, bytes!)!);
    return plan !== undefined && plan.length < left;
  }

  /** Whether this many bytes can follow a token that is one of the `left` remaining ones: a byte takes at most one token. */
  private isShort(bytes: number, left: number): boolean {
    return bytes < left && (this.vocabulary.spellsAll || left >= PLENTY);
  }

  /** A short, though not always the shortest, series of tokens that completes the text. */
  private planOf(state: MatchState): readonly number[] | undefined {
    if (!this.plans.has(state)) {
      const bytes = this.matcher.completion(state);
      this.plans.set(state, bytes && this.vocabulary.spell(bytes));
    }
    return this.plans.get(state);
  }
}
