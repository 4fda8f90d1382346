/** Long texts become tokens in a thread of their own: a word of a million letters takes seconds, in which nobody else should have to wait. */
import { BackgroundWork } from '../platform/node/background-work.js';
import type { Tokenizer } from './tokenizer.js';
import type { TokenizerFiles } from './tokenizer-json.js';

/** In characters: a shorter text takes less time than to start a thread. */
export const LONG_TEXT = 2 ** 16;

/** What the thread gets. */
export interface LongText {
  readonly files: TokenizerFiles;
  readonly text: string;
}

const work = new WeakMap<Tokenizer, BackgroundWork<LongText, Uint32Array>>();

/** As `Tokenizer.encode`; a long text leaves this thread free meanwhile. Throws the signal's reason soon after it is aborted. */
export async function encodeApart(
  tokenizer: Tokenizer,
  text: string,
  signal?: AbortSignal,
): Promise<number[]> {
  if (text.length <= LONG_TEXT) return tokenizer.encode(text);
  let background = work.get(tokenizer);
  if (!background) {
    background = new BackgroundWork(new URL('./long-texts-worker.js', import.meta.url));
    work.set(tokenizer, background);
  }
  return Array.from(await background.run({ files: tokenizer.files, text }, signal));
}
