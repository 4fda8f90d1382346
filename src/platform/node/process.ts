/** Threads, turns of the event loop, digests. */
import { createHash } from 'node:crypto';
import { availableParallelism, totalmem } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import type { Digest, Thread } from '../platform.js';

/** The most bytes that the hash gets in one call; Node's limit is 2^31 - 1. */
const MOST_BYTES = 2 ** 30;

/** See `Platform.sha256`; `most` is the most bytes that the hash gets in one call. */
export function sha256(most = MOST_BYTES): Digest {
  const hash = createHash('sha256');
  const digest: Digest = {
    update(data) {
      if (typeof data === 'string') hash.update(data);
      else for (let at = 0; at < data.length; at += most) hash.update(data.subarray(at, at + most));
      return digest;
    },
    digest: (encoding) => hash.digest(encoding),
  };
  return digest;
}

/** See `Platform.availableThreads`: the processors that this process may use. */
export function availableThreads(): number {
  return availableParallelism();
}

/**
 * The most bytes that this process can have: the limit of its container, or the machine's memory. The free memory is less meaningful, since it
 * does not include reclaimable caches.
 */
export function mostMemory(): number | undefined {
  const machine = totalmem();
  // Without a limit some systems report 0 or nothing, others a huge number.
  const allowed = process.constrainedMemory() ?? 0;
  const most = allowed > 0 && (machine === 0 || allowed < machine) ? allowed : machine;
  return most > 0 && Number.isFinite(most) ? most : undefined;
}

/** See `Platform.enableRelaxedSimd`. Node 20 needs the V8 flag; later versions do not have it. */
export function enableRelaxedSimd(): void {
  setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/** Starts a thread from source text, which needs no file. An idle thread does not keep the process alive. */
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

/** See `Platform.nextTurn`. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
