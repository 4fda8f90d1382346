/**
 * Finds shared prefixes of prompts. Many prompts begin with the same instructions or the same document: the state where two prompts diverge
 * is worth caching, since others will diverge there too.
 */
import { sharedLength } from '../../generate/index.js';

/** The number of recent prompts that are compared. */
const REMEMBERED = 64;
/** The shortest prefix worth caching, in tokens; shorter ones are read as fast as a state is looked up. */
const WORTHWHILE = 32;

/** The recent prompts. */
export class SharedPrefixes {
  private readonly prompts: (readonly number[])[] = [];

  /** Adds a prompt; returns the length of its longest prefix shared with an earlier one, or 0 if that is not worth caching. */
  add(ids: readonly number[]): number {
    const shared = this.prompts.reduce((most, prompt) => Math.max(most, sharedLength(prompt, ids)), 0);
    this.prompts.push(ids);
    if (this.prompts.length > REMEMBERED) this.prompts.shift();
    return shared >= WORTHWHILE ? shared : 0;
  }
}
