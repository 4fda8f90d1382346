/** Work that takes seconds, in worker threads, so that it does not block the event loop. */
import { Worker } from 'node:worker_threads';

/** A queue of jobs for one worker module. Each job runs in a thread of its own, which gets the job as `workerData` and posts one message. */
export class BackgroundWork<Data, Result> {
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly module: URL) {}

  /** Runs a job after those before it. Rejects with the module's error, or with the signal's reason as soon as it is aborted, also while it waits. */
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
