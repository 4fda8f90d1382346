/** A thread of writing-threads.ts. */
import { parentPort } from 'node:worker_threads';
import type { TensorData } from '../../checkpoint/index.js';
import { StorageError } from '../../errors.js';
import { waitInPlace } from '../../platform/node/atomic.js';
import { writeStateFile } from '../snapshot.js';
import type { FromWritingThread, ToWritingThread } from './writing-threads.js';

waitInPlace();
const port = parentPort!;
const tell = (told: FromWritingThread): void => port.postMessage(told);

/** Takes the data that were asked for. */
let take: (told: ToWritingThread) => void = () => {};

function asked(wanted: number): Promise<TensorData> {
  return new Promise((resolve, reject) => {
    take = (told) => {
      if (told !== 'unreadable' && 'data' in told) resolve(told.data);
      else reject(new Error('what is to be written cannot be read'));
    };
    tell({ wanted });
  });
}

port.on('message', async (told: ToWritingThread) => {
  if (told === 'unreadable' || 'data' in told) return take(told);
  const { path, tensors, metadata } = told;
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
