/** Tokenizes texts in a worker thread, so that this thread is free. */
import { Worker } from 'node:worker_threads';
import type { Tokenizer } from './tokenizer.js';

/** A text that the thread is to tokenize. */
export interface TokensAsked {
  readonly id: number;
  readonly text: string;
}
/** Its tokens, or the error. */
export type TokensTold =
  | { readonly id: number; readonly ids: Uint32Array<ArrayBuffer> }
  | { readonly id: number; readonly error: unknown };

interface Waiting {
  readonly done: (ids: Uint32Array) => void;
  readonly failed: (error: unknown) => void;
}

/** A thread with its own tokenizer. It does not keep the process alive. */
export class TokenThread {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private asked = 0;
  private failure: unknown;

  constructor(
    { files }: Pick<Tokenizer, 'files'>,
    module = new URL('./token-thread-worker.js', import.meta.url),
  ) {
    this.worker = new Worker(module, { workerData: files });
    this.worker.on('message', (told: TokensTold) => {
      const { done, failed } = this.waiting.get(told.id)!;
      this.waiting.delete(told.id);
      if ('ids' in told) done(told.ids);
      else failed(told.error);
    });
    this.worker.on('error', (error) => this.fail(error));
    this.worker.on('exit', (code) =>
      this.fail(new Error(`the thread of the tokenizer ended with code ${code}`)),
    );
    this.worker.unref();
  }

  /** Like `Tokenizer.encode`, with the same errors. */
  encode(text: string): Promise<Uint32Array> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return new Promise((done, failed) => {
      const id = this.asked++;
      this.waiting.set(id, { done, failed });
      this.worker.postMessage({ id, text } satisfies TokensAsked);
    });
  }

  /** Pending requests are rejected. */
  async close(): Promise<void> {
    await this.worker.terminate();
  }

  private fail(error: unknown): void {
    this.failure ??= error;
    for (const { failed } of this.waiting.values()) failed(this.failure);
    this.waiting.clear();
  }
}
