/** Reading the prompt of an answer: from the longest beginning that is known, with the state kept where the answer begins. */
import type { PrefixStore } from './prefix-memory.js';
import type { ReadOptions, ReadResult, Session } from './session.js';
import { longestBeginning, type Snapshot } from './snapshot.js';

/** What is read before an answer. */
export interface Prompt {
  readonly ids: readonly number[];
  /** Where the answer begins: the state there is that from which another answer, or the next turn, goes on. */
  readonly boundary: number;
}

/** Where a prompt may be taken up, and where its state is worth keeping. */
export interface PromptOptions extends ReadOptions {
  /** What else may be a beginning of the prompt, besides what the store has. */
  readonly known?: readonly (Snapshot | undefined)[];
  /** Lengths at which the state is worth keeping, besides the boundary. */
  readonly stops?: readonly number[];
}

/** What reading took, and the state from which the answer goes on. */
export interface PromptResult extends ReadResult {
  /** The state at the boundary, to be disposed of by the caller; undefined where that is 0. */
  readonly mark: Snapshot | undefined;
}

/**
 * Brings a session whose cache is `store`, and which has read nothing or a beginning of the prompt, to the prompt's end. Throws as `Session.read` does; what was read
 * until then, the session has read.
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
      // A session that has read nothing looks into its cache itself.
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
