/** Threads, turns of the event loop, digests. */
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import type { Digest, Thread } from '../platform.js';

export function sha256(): Digest {
  return createHash('sha256');
}

export function availableThreads(): number {
  return availableParallelism();
}

/** Bytes that this process may still take. */
export function availableMemory(): number | undefined {
  return process.availableMemory();
}

/** Node 20 has it behind this flag, which later versions do not know. */
export function enableRelaxedSimd(): void {
  setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/** Handed over as text, a thread needs no file. The process may end while it waits for work. */
export function startThread(source: string, data: unknown): Thread {
  const text = `
    const { parentPort, workerData } = require('node:worker_threads');
    (${source})(workerData, () => parentPort.postMessage('ready'));`;
  const worker = new Worker(text, { eval: true, workerData: data });
  const ended = new Promise<string>((resolve) => {
    worker.once('error', (error) => resolve((error as Error).message));
    worker.once('exit', (code) => resolve(`it ended with code ${code}`));
  });
  const ready = new Promise<void>((resolve, reject) => {
    worker.once('message', () => {
      worker.unref();
      resolve();
    });
    ended.then((why) => reject(new Error(why)));
  });
  return { ready, ended, terminate: () => worker.terminate() };
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
