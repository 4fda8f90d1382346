/**
 * States' files are hashed and written in threads, for whoever has a device to keep busy meanwhile. Values go to a thread without a copy, one
 * after the other as it asks for them, so that what is in memory does not grow with the number of states.
 */
import { Worker } from 'node:worker_threads';
import type { TensorData, TensorToWrite } from '../../checkpoint/index.js';
import { StorageError } from '../../errors.js';
import type { WriteState } from '../state-file.js';

/** What a thread is told: a file to write, and then the data of its tensors as it asks for them, each with all of its group. */
export type ToWritingThread =
  | {
      readonly path: string;
      readonly tensors: readonly Omit<TensorToWrite, 'data'>[];
      readonly metadata: Readonly<Record<string, string>>;
    }
  | { readonly data: ReadonlyMap<number, TensorData> }
  | 'unreadable';
/** What it asks for, or how it ended. */
export type FromWritingThread =
  | { readonly wanted: number }
  | { readonly ended: 'written' }
  | { readonly ended: 'failed'; readonly error: unknown; readonly isStorage: boolean };

/** As many threads as files are written at a time. Idle ones do not keep the process from ending. */
export class WritingThreads {
  private readonly idle: Worker[] = [];
  private readonly all = new Set<Worker>();
  private isClosed = false;

  constructor(private readonly module = new URL('./writing-threads-worker.js', import.meta.url)) {}

  /** As `writeStateFile`. Also rejects where the thread ends before the file is written. */
  readonly write: WriteState = async (...file) => {
    if (this.isClosed) throw new StorageError(`Could not write ${file[0]}: its threads are closed.`);
    const worker = this.idle.pop() ?? this.start();
    worker.ref();
    try {
      await writtenBy(worker, ...file);
    } finally {
      worker.unref();
      if (this.all.has(worker)) this.idle.push(worker);
    }
  };

  /** What is being written is not written. */
  async close(): Promise<void> {
    this.isClosed = true;
    await Promise.all([...this.all].map((worker) => worker.terminate()));
  }

  private start(): Worker {
    const worker = new Worker(this.module);
    this.all.add(worker);
    const remove = (): void => {
      this.all.delete(worker);
      const at = this.idle.indexOf(worker);
      if (at >= 0) this.idle.splice(at, 1);
    };
    worker.once('error', remove).once('exit', remove);
    return worker;
  }
}

function writtenBy(worker: Worker, ...[path, tensors, metadata]: Parameters<WriteState>): Promise<void> {
  const tell = (told: ToWritingThread, transferred: ArrayBuffer[] = []): void =>
    worker.postMessage(told, transferred);
  const give = async (wanted: number): Promise<void> => {
    const { data: given, group } = tensors[wanted]!;
    // What is read for this file is nobody else's. Other arrays are copied.
    if (typeof given !== 'function') return tell({ data: new Map([[wanted, given]]) });
    const isTogether = (i: number): boolean =>
      i === wanted || (group !== undefined && tensors[i]!.group === group);
    const data = new Map<number, TensorData>();
    for (const i of [...tensors.keys()].filter(isTogether))
      data.set(i, await (tensors[i]!.data as typeof given)());
    tell({ data }, [...new Set(Array.from(data.values(), ({ buffer }) => buffer as ArrayBuffer))]);
  };
  return new Promise<void>((resolve, reject) => {
    let unreadable: { readonly error: unknown } | undefined;
    const hear = (told: FromWritingThread): void => {
      if ('wanted' in told) {
        give(told.wanted).catch((error: unknown) => {
          unreadable = { error };
          tell('unreadable');
        });
      } else if (told.ended === 'written') end(resolve);
      else {
        const { error, isStorage } = told;
        const said = isStorage ? new StorageError((error as Error).message, { cause: error }) : error;
        end(() => reject(unreadable ? unreadable.error : said));
      }
    };
    const failed = (error: unknown): void => end(() => reject(error));
    const exited = (code: number): void =>
      failed(new Error(`the thread that writes ${path} ended with code ${code}`));
    const end = (settle: () => void): void => {
      worker.off('message', hear).off('error', failed).off('exit', exited);
      settle();
    };
    worker.on('message', hear).on('error', failed).on('exit', exited);
    tell({ path, metadata, tensors: tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })) });
  });
}
