/** Tokenizes long texts in a worker thread, since a word of a million letters takes seconds, which would block the event loop. */
import { BackgroundWork } from '../platform/node/background-work.js';
import type { Tokenizer } from './tokenizer.js';
import type { TokenizerFiles } from './tokenizer-json.js';

/** Characters from which a thread is used; a shorter text takes less time than starting a thread. */
export const LONG_TEXT = 2 ** 16;

/** The input of the thread. */
export interface LongText {
  readonly files: TokenizerFiles;
  readonly text: string;
}

const work = new WeakMap<Tokenizer, BackgroundWork<LongText, Uint32Array>>();

/** Like `Tokenizer.encode`, but a long text does not block this thread. Throws the signal's reason soon after it is aborted. */
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
