/** Reads the prompt of an answer, from its longest cached prefix, and takes a snapshot where the answer begins. */
import type { PrefixStore } from './prefix-memory.js';
import type { ReadOptions, ReadResult, Session } from './session.js';
import { longestBeginning, type Snapshot } from './snapshot.js';

/** The tokens before an answer. */
export interface Prompt {
  readonly ids: readonly number[];
  /** The position of a snapshot from which another answer, or the next turn, continues. */
  readonly boundary: number;
}

/** Known prefixes of a prompt, and positions for snapshots. */
export interface PromptOptions extends ReadOptions {
  /** Snapshots of possible prefixes, in addition to those of the store. */
  readonly known?: readonly (Snapshot | undefined)[];
  /** Lengths at which the state is stored, in addition to the boundary. */
  readonly stops?: readonly number[];
}

/** The costs of reading, and the snapshot at the boundary. */
export interface PromptResult extends ReadResult {
  /** The snapshot at the boundary, which the caller disposes of; undefined if the boundary is 0. */
  readonly mark: Snapshot | undefined;
}

/**
 * Reads a prompt into a session whose cache is `store`, and whose tokens are a prefix of the prompt. Throws as `Session.read` does; the
 * session then keeps what it has read so far.
 */
export async function readPrompt(
  session: Session,
  { ids, boundary }: Prompt,
  store: PrefixStore,
  { known = [], stops = [], ...options }: PromptOptions = {},
): Promise<PromptResult> {
  let readTokens = 0;
  let mark: Snapshot | undefined;
  try {
    for (const stop of new Set([...stops, boundary, ids.length].sort((a, b) => a - b))) {
      const part = ids.slice(0, stop);
      const longest = longestBeginning(part, known);
      if (longest && longest.length > session.tokens.length) session.restore(longest);
      // An empty session looks into its cache itself.
      if (session.tokens.length > 0 && session.tokens.length < stop) {
        const found = await store.find(part);
        if (found && found.length > session.tokens.length) session.restore(found);
        found?.dispose();
      }
      if (session.tokens.length < stop) {
        readTokens += (await session.read(part.slice(session.tokens.length), options)).readTokens;
      }
      if (stop === boundary && stop > 0 && session.tokens.length === stop) mark = await session.snapshot();
    }
  } catch (error) {
    mark?.dispose();
    throw error;
  }
  return { reusedTokens: ids.length - readTokens, readTokens, mark };
}
