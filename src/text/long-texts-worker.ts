/** The thread that makes the tokens of one long text (long-texts.ts). */
import { parentPort, workerData } from 'node:worker_threads';
import { Tokenizer } from './tokenizer.js';
import type { TokenizerFiles } from './tokenizer-json.js';

const { files, text } = workerData as { files: TokenizerFiles; text: string };
const ids = Uint32Array.from(new Tokenizer(files).encode(text));
parentPort!.postMessage(ids, [ids.buffer]);
