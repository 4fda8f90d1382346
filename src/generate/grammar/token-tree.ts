/** A trie of a vocabulary's tokens by their bytes. */
import type { Vocabulary } from '../../text/index.js';
import type { Matcher, MatchState } from './matcher.js';

/** The number of bytes that occur in UTF-8: all but 192, 193 and 245 to 255. */
const BYTES_OF_UTF8 = 256 - 13;

interface Branch {
  readonly branches: Map<number, Branch>;
  /** Tokens that end here. */
  readonly ids: number[];
}

/** The trie of a model's tokens, without control tokens. Built once for each model. */
export class TokenTree {
  /** Bytes of the longest token. */
  readonly longest: number = 0;
  /** Whether each byte is a token of its own, so that a text has no more tokens than bytes. */
  readonly spellsAll: boolean;
  private readonly root: Branch = { branches: new Map(), ids: [] };

  /** `marks` are control tokens that are included, such as the one that opens a tool call. */
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
      this.longest = Math.max(this.longest, bytes.length);
    }
    const singles = [...this.root.branches.values()].filter(({ ids }) => ids.length > 0);
    this.spellsAll = singles.length >= BYTES_OF_UTF8;
  }

  /** Undefined for control tokens. */
  bytesOf(id: number): Uint8Array | undefined {
    const bytes = this.vocabulary.bytes[id];
    const isText = !this.vocabulary.special.has(id) || this.marks.has(id);
    return bytes && bytes.length > 0 && isText ? bytes : undefined;
  }

  /** All tokens that are allowed after a state. */
  *after(matcher: Matcher, state: MatchState, branch: Branch = this.root): Generator<number> {
    yield* branch.ids;
    for (const [byte, next] of branch.branches) {
      const reached = matcher.step(state, byte);
      if (reached) yield* this.after(matcher, reached, next);
    }
  }

  /** Tokenizes bytes greedily by the longest match; undefined if a byte has no token. */
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
