/**
 * Holds what a model writes to a grammar: of the tokens only those may be chosen whose bytes can come next, and of those only such
 * that the rest can still be written with the tokens that are left.
 *
 * A constraint is where a text has got to: `allows` and `allowed` say what may come next, `advance` goes on. `steer` and `chosen`
 * are the same for whoever chooses from an array of logits.
 */
import { DataError } from '../../errors.js';
import { likeliest } from '../likeliest.js';
import { CANDIDATES, type Steering } from '../sampler.js';
import { Matcher, type MatchState } from './matcher.js';
import type { Node } from './node.js';
import type { TokenTree } from './token-tree.js';

/** While more tokens than that are left, no beginning is too long to be finished. */
const PLENTY = 1024;
/**
 * How much one choice may cost, as `Matcher.spent` counts: some hundredths of a second. When it is spent, the tokens that were not looked
 * at are left out, which narrows what may be written and lets nothing through that must not be.
 */
const EFFORT = 50_000;

/** Restricts the tokens of one text to those with which it still follows a grammar. */
export class Constraint implements Steering {
  private readonly matcher: Matcher;
  private state: MatchState;
  /** The tokens that `steer` left the last time. */
  candidates: readonly number[] = [];
  private readonly plans = new Map<MatchState, readonly number[] | undefined>();

  /** `ends` are the tokens that end a text. Throws `ConfigError` for a grammar that no text follows. */
  constructor(
    grammar: Node,
    private readonly vocabulary: TokenTree,
    private readonly ends: readonly number[],
  ) {
    this.matcher = new Matcher(grammar);
    this.state = this.matcher.start;
  }

  /** Whether a token may come next, while `left` tokens may be written, this one included. */
  allows(id: number, left: number): boolean {
    if (this.state.accepts && this.ends.includes(id)) return true;
    const plan = this.urgent(left);
    return plan ? id === plan[0] : this.fits(id, left);
  }

  /**
   * The tokens that may come next, in no order: all, or where there are too many those that were found first. `allows` is faster for a few
   * of them.
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

  /** Takes a token up, which must be allowed. Returns whether the text is complete with it, so that nothing can follow. */
  advance(id: number): boolean {
    const [planned, ...rest] = this.plans.get(this.state) ?? [];
    this.plans.clear();
    this.state = this.matcher.run(this.state, this.vocabulary.bytesOf(id)!)!;
    if (id === planned) this.plans.set(this.state, rest);
    return this.state.final;
  }

  /**
   * Leaves of logits [vocabulary] only those of tokens that may come, while `left` tokens may: of the likeliest ones, and only
   * where none of them may, of all. Throws `DataError` where none may.
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

  /** The tokens with which the text has to end now if it is to end in time; undefined while there is a choice. */
  private urgent(left: number): readonly number[] | undefined {
    if (left >= PLENTY || this.isShort(this.state.cost, left)) return undefined;
    const plan = this.planOf(this.state);
    return plan && plan.length >= left && plan.length > 0 ? plan : undefined;
  }

  private fits(id: number, left: number): boolean {
    const bytes = this.vocabulary.bytesOf(id);
    const cost = bytes && this.matcher.costAfter(this.state, bytes);
    if (cost === undefined) return false;
    if (left >= PLENTY || this.isShort(cost, left)) return true;
    // It takes fewer tokens than bytes.
    const plan = this.planOf(this.matcher.run(this.state, bytes!)!);
    return plan !== undefined && plan.length < left;
  }

  /** Whether so many bytes can be written after a token, if this is one of `left`: a byte is a token at most. */
  private isShort(bytes: number, left: number): boolean {
    return bytes < left && this.vocabulary.spellsAll;
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
