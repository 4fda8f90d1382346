/** Threads, turns of the event loop, digests. */
import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import type { Digest, Thread } from '../platform.js';

/** See `Platform.sha256`. Web Crypto's digest is neither incremental nor synchronous, so a JavaScript implementation is used. */
export function sha256(): Digest {
  const hash = nobleSha256.create();
  return {
    update(data) {
      hash.update(typeof data === 'string' ? utf8ToBytes(data) : data);
      return this;
    },
    digest: () => bytesToHex(hash.digest()),
  };
}

/** See `Platform.availableThreads`. One if the page is not cross-origin isolated, since its threads cannot share memory. */
export function availableThreads(): number {
  return globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
}

/** Browsers do not expose the memory size. */
export function mostMemory(): number | undefined {
  return undefined;
}

/** See `Platform.enableRelaxedSimd`. Browsers have no flag for it. */
export function enableRelaxedSimd(): void {}

/** See `Platform.startThread`. The source is loaded from a Blob, so the page's content security policy must allow workers from `blob:`. */
export function startThread(source: string, data: unknown): Thread {
  const text = `onmessage = ({ data }) => (${source})(data, () => postMessage('ready'));`;
  const url = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  const worker = new Worker(url);
  let end: (why: string) => void = () => {};
  const ended = new Promise<string>((resolve) => {
    end = resolve;
    worker.onerror = (event) => resolve(event.message || 'it could not be started');
  });
  const ready = new Promise<void>((resolve, reject) => {
    worker.onmessage = () => resolve();
    ended.then((why) => reject(new Error(why)));
  });
  ready.catch(() => {}).finally(() => URL.revokeObjectURL(url));
  worker.postMessage(data);
  return {
    ready,
    ended,
    async terminate() {
      worker.terminate();
      end('it was terminated');
    },
  };
}

/** Messages to this thread, for `nextTurn`. */
const channel = new MessageChannel();
const waiting: (() => void)[] = [];
channel.port1.onmessage = () => waiting.shift()?.();

/** See `Platform.nextTurn`; a message channel is used, since browsers delay nested timers by 4 ms. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    waiting.push(resolve);
    channel.port2.postMessage(undefined);
  });
}
