/** The thread that makes the tokens of one long text (long-texts.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import type { LongText } from './long-texts.js';
import { Tokenizer } from './tokenizer.js';

const { files, text } = workerData as LongText;
const ids = Uint32Array.from(new Tokenizer(files).encode(text));
parentPort!.postMessage(ids, [ids.buffer]);
