/** Texts become tokens in a thread, for whoever has other work to do all the time. */
import { Worker } from 'node:worker_threads';
import type { Tokenizer } from './tokenizer.js';

/** What the thread is asked for, and what it answers. */
export interface TokensAsked {
  readonly id: number;
  readonly text: string;
}
export type TokensTold =
  | { readonly id: number; readonly ids: Uint32Array<ArrayBuffer> }
  | { readonly id: number; readonly error: unknown };

interface Waiting {
  readonly done: (ids: Uint32Array) => void;
  readonly failed: (error: unknown) => void;
}

/** A thread with a tokenizer of its own. It does not keep the process from ending. */
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

  /** As `Tokenizer.encode`, and throws as it does. */
  encode(text: string): Promise<Uint32Array> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return new Promise((done, failed) => {
      const id = this.asked++;
      this.waiting.set(id, { done, failed });
      this.worker.postMessage({ id, text } satisfies TokensAsked);
    });
  }

  /** What still waits for tokens is refused. */
  async close(): Promise<void> {
    await this.worker.terminate();
  }

  private fail(error: unknown): void {
    this.failure ??= error;
    for (const { failed } of this.waiting.values()) failed(this.failure);
    this.waiting.clear();
  }
}
