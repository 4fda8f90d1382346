/** A thread of writing-threads.ts. */
import { parentPort } from 'node:worker_threads';
import type { TensorData } from '../../checkpoint/index.js';
import { StorageError } from '../../errors.js';
import { waitInPlace } from '../../platform/node/atomic.js';
import { writeStateFile } from '../state-file.js';
import type { FromWritingThread, ToWritingThread } from './writing-threads.js';

waitInPlace();
const port = parentPort!;
const tell = (told: FromWritingThread): void => port.postMessage(told);

/** Takes the data that were asked for. */
let take: (told: ToWritingThread) => void = () => {};
/** What was told and is not written yet. */
const told = new Map<number, TensorData>();

async function asked(wanted: number): Promise<TensorData> {
  if (!told.has(wanted)) {
    const given = await new Promise<ReadonlyMap<number, TensorData>>((resolve, reject) => {
      take = (answer) => {
        if (answer !== 'unreadable' && 'data' in answer) resolve(answer.data);
        else reject(new Error('what is to be written cannot be read'));
      };
      tell({ wanted });
    });
    for (const [i, data] of given) told.set(i, data);
  }
  const data = told.get(wanted)!;
  told.delete(wanted);
  return data;
}

port.on('message', async (message: ToWritingThread) => {
  if (message === 'unreadable' || 'data' in message) return take(message);
  const { path, tensors, metadata } = message;
  told.clear();
  try {
    await writeStateFile(
      path,
      tensors.map((tensor, i) => ({ ...tensor, data: () => asked(i) })),
      metadata,
    );
    tell({ ended: 'written' });
  } catch (error) {
    tell({ ended: 'failed', error, isStorage: error instanceof StorageError });
  }
});
