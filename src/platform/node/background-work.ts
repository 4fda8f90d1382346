/** Work of seconds that runs in threads of its own, so that nobody else has to wait. */
import { Worker } from 'node:worker_threads';

/** Runs one module again and again, each time in a new thread that gets its `workerData` and posts one message; one thread after the other. */
export class BackgroundWork<Data, Result> {
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly module: URL) {}

  /** What the module makes of the data. Throws what it throws, and the signal's reason soon after it is aborted. */
  run(data: Data, signal?: AbortSignal): Promise<Result> {
    const done = this.last.then(() => this.inThread(data, signal));
    this.last = done.catch(() => undefined);
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(signal!.reason);
      signal?.addEventListener('abort', abort, { once: true });
      done.then(resolve, reject).finally(() => signal?.removeEventListener('abort', abort));
    });
  }

  private async inThread(workerData: Data, signal: AbortSignal | undefined): Promise<Result> {
    signal?.throwIfAborted();
    const worker = new Worker(this.module, { workerData });
    let abort = (): void => {};
    try {
      return await new Promise<Result>((resolve, reject) => {
        worker.once('message', resolve);
        worker.once('error', reject);
        worker.once('exit', (code) => reject(new Error(`the thread ended with code ${code}`)));
        abort = () => reject(signal!.reason);
        signal?.addEventListener('abort', abort, { once: true });
      });
    } finally {
      signal?.removeEventListener('abort', abort);
      await worker.terminate();
    }
  }
}
