/**
 * Long texts become tokens in a thread of their own, one after the other: a word of a million letters takes seconds, in which nobody
 * else should have to wait. Who no longer waits for one ends its thread.
 */
import { Worker } from 'node:worker_threads';
import type { Tokenizer } from './tokenizer.js';
import type { TokenizerFiles } from './tokenizer-json.js';

/** In characters: a shorter text takes less time than to start a thread. */
export const LONG_TEXT = 2 ** 16;

const longTexts = new WeakMap<Tokenizer, LongTexts>();

/** As `Tokenizer.encode`; a long text leaves this thread free meanwhile. Throws the signal's reason soon after it is aborted. */
export async function encodeApart(
  tokenizer: Tokenizer,
  text: string,
  signal?: AbortSignal,
): Promise<number[]> {
  if (text.length <= LONG_TEXT) return tokenizer.encode(text);
  let texts = longTexts.get(tokenizer);
  if (!texts) {
    texts = new LongTexts(tokenizer.files);
    longTexts.set(tokenizer, texts);
  }
  return texts.encode(text, signal);
}

class LongTexts {
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly files: TokenizerFiles) {}

  /** The ids of a text, as `Tokenizer.encode` has them. Throws the signal's reason soon after it is aborted. */
  encode(text: string, signal?: AbortSignal): Promise<number[]> {
    const done = this.last.then(() => this.run(text, signal));
    this.last = done.catch(() => undefined);
    return done;
  }

  private async run(text: string, signal: AbortSignal | undefined): Promise<number[]> {
    signal?.throwIfAborted();
    const worker = new Worker(new URL('./long-texts-worker.js', import.meta.url), {
      workerData: { files: this.files, text },
    });
    try {
      return await new Promise<number[]>((resolve, reject) => {
        worker.once('message', (ids: Uint32Array) => resolve(Array.from(ids)));
        worker.once('error', reject);
        worker.once('exit', (code) => reject(new Error(`the thread ended with code ${code}`)));
        signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
        if (signal?.aborted) reject(signal.reason);
      });
    } finally {
      await worker.terminate();
    }
  }
}
