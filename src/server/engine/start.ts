/** Starts the engine's thread. */
import { MessageChannel, Worker } from 'node:worker_threads';
import { disableTelemetry } from '../../engine/index.js';
import { EngineEndedError, errorOf, type Failure } from '../errors.js';
import { Caller } from './calls.js';
import type { EngineOptions } from './engine.js';
import type { EngineCalls } from './protocol.js';

/** The server's handle of the engine's thread. */
export interface RunningEngine {
  readonly calls: Caller<EngineCalls>;
  /** Resolves when the thread has ended, whatever the reason. */
  readonly ended: Promise<void>;
  /** Waits for pending writes to disk, and ends the thread. */
  close(): Promise<void>;
}

/** Resolves when the models are loaded. Throws the error if loading fails. */
export async function startEngine(options: EngineOptions): Promise<RunningEngine> {
  disableTelemetry();
  const { port1, port2 } = new MessageChannel();
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: { port: port2, options },
    transferList: [port2],
  });
  const calls = new Caller<EngineCalls>(port1);
  const ended = new Promise<void>((resolve) => {
    const over = (reason: string): void => {
      calls.end(new EngineEndedError(`the engine has ended (${reason}): start the server again`));
      resolve();
    };
    worker.once('error', (error: Error) => over(error.message));
    worker.once('exit', (code) => over(`exit code ${code}`));
  });
  const failure = await Promise.race([
    new Promise<Failure | 'ready'>((resolve) => worker.once('message', resolve)),
    ended.then(() => 'ended' as const),
  ]);
  if (failure === 'ended') throw new EngineEndedError('the engine ended while it loaded the models');
  if (failure !== 'ready') {
    await worker.terminate();
    throw errorOf(failure);
  }
  return {
    calls,
    ended,
    async close() {
      // A thread that has ended has nothing to finish.
      await calls.call('close', null).catch((error: unknown) => {
        if (!(error instanceof EngineEndedError)) throw error;
      });
      await worker.terminate();
      port1.close();
      await ended;
    },
  };
}
