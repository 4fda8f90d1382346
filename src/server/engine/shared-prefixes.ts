/**
 * Where prompts part. Many begin alike, with the same instructions or the same document, and go on in ways of their own: the
 * state at the place where two parted is worth keeping, since others will part there too.
 */
import { sharedLength } from '../../generate/index.js';

/** Prompts that are remembered. */
const REMEMBERED = 64;
/** Fewer tokens in common are read again as fast as a state is found. */
const WORTHWHILE = 32;

/** The last prompts, by which the length of a new one's common beginning is found. */
export class SharedPrefixes {
  private readonly prompts: (readonly number[])[] = [];

  /** Takes up a prompt; returns how many of its tokens an earlier one had too, 0 where that is not worth a state. */
  add(ids: readonly number[]): number {
    const shared = this.prompts.reduce((most, prompt) => Math.max(most, sharedLength(prompt, ids)), 0);
    this.prompts.push(ids);
    if (this.prompts.length > REMEMBERED) this.prompts.shift();
    return shared >= WORTHWHILE ? shared : 0;
  }
}
