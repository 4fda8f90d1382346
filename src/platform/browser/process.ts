/** Threads, turns of the event loop, digests. */
import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import type { Digest, Thread } from '../platform.js';

/** The browser's own digest takes a whole text at once, and answers later: of neither kind is what is hashed here. */
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

/** One where the page is not isolated: its threads may not share memory. */
export function availableThreads(): number {
  return globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
}

/** No page is told. */
export function mostMemory(): number | undefined {
  return undefined;
}

/** No browser hides it. */
export function enableRelaxedSimd(): void {}

/** Handed over as text, a thread needs no file; a page's content security policy has to allow workers from `blob:`. */
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

/** A message to oneself: timers wait for some milliseconds. */
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
