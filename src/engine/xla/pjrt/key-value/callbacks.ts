/**
 * PJRT's callbacks for a key-value store, through which the processes of a run tell each other of their devices and start their
 * collectives. The values are in Valkey or Redis.
 */
import { MessageChannel, type Transferable, Worker } from 'node:worker_threads';
import { DeviceError } from '../../../../errors.js';
import { type CallbackData, KINDS, type Kind, type StoreData } from './requests.js';

/** The addresses of the callbacks, for `PJRT_Client_Create`. They may be called from any thread until `close`. */
export interface KeyValueCallbacks extends Readonly<Record<Kind, bigint>> {
  close(): Promise<void>;
}

/**
 * Starts the callbacks, each in a thread of its own, so that one that waits for a value does not keep another from storing it.
 *
 * @param place Address of a Valkey or Redis (`redis://host:6379`).
 * @param prefix Stands before the keys: each run has its own.
 * @param koffi Where koffi is imported from.
 * @throws DeviceError where the store cannot be reached.
 */
export async function openCallbacks(
  place: string,
  prefix: string,
  koffi: string,
): Promise<KeyValueCallbacks> {
  const channels = KINDS.map(() => new MessageChannel());
  const ports = channels.map(({ port1 }) => port1);
  const workers: Worker[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(workers.map((worker) => worker.terminate()));
  };
  try {
    await start(workers, './store-worker.js', { place, prefix, ports } satisfies StoreData, ports);
    const addresses = await Promise.all(
      KINDS.map(async (kind, i) => {
        const port = channels[i]!.port2;
        const data = { kind, port, koffi } satisfies CallbackData;
        return [kind, (await start(workers, './callback-worker.js', data, [port])) as bigint] as const;
      }),
    );
    return { ...(Object.fromEntries(addresses) as Record<Kind, bigint>), close };
  } catch (error) {
    await close();
    throw new DeviceError(`the store at ${place} cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** Starts a thread, which does not keep the process alive, and waits for its first message. */
async function start(
  workers: Worker[],
  module: string,
  workerData: unknown,
  transferList: readonly Transferable[],
): Promise<unknown> {
  // Node's options of the process may be for its main module alone, such as --input-type.
  const worker = new Worker(new URL(module, import.meta.url), {
    workerData,
    transferList: [...transferList],
    execArgv: [],
  });
  workers.push(worker);
  const message = await new Promise<unknown>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`a thread ended with code ${code}`)));
  });
  worker.unref();
  return message;
}
