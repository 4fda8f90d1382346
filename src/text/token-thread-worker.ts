/** The thread of token-thread.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import type { TokensAsked, TokensTold } from './token-thread.js';
import { Tokenizer } from './tokenizer.js';
import type { TokenizerFiles } from './tokenizer-json.js';

const tokenizer = new Tokenizer(workerData as TokenizerFiles);
parentPort!.on('message', ({ id, text }: TokensAsked) => {
  try {
    const ids = Uint32Array.from(tokenizer.encode(text));
    parentPort!.postMessage({ id, ids } satisfies TokensTold, [ids.buffer]);
  } catch (error) {
    parentPort!.postMessage({ id, error } satisfies TokensTold);
  }
});
