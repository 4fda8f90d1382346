/** Jobs in threads: results, errors, and aborts of waiting and running jobs. */
import { expect, test } from 'vitest';
import { BackgroundWork } from './background-work.js';

// Squares a number; never answers for 0, and throws for a negative number.
const code = `
  import { parentPort, workerData } from 'node:worker_threads';
  if (workerData < 0) throw new RangeError('negative');
  if (workerData > 0) parentPort.postMessage(workerData ** 2);
  else setInterval(() => {}, 1000);
`;
const squares = () =>
  new BackgroundWork<number, number>(new URL(`data:text/javascript,${encodeURIComponent(code)}`));

test('each job has its own result or error', async () => {
  const work = squares();
  const results = await Promise.allSettled([work.run(3), work.run(-1), work.run(5)]);
  expect(
    results.map((result) => (result.status === 'fulfilled' ? result.value : result.reason.message)),
  ).toEqual([9, 'negative', 25]);
});

test('a job can be aborted while it waits and while it runs', async () => {
  const work = squares();
  const [first, second] = [new AbortController(), new AbortController()];
  const running = work.run(0, first.signal);
  const waiting = work.run(4, second.signal);
  const last = work.run(6);
  second.abort(new Error('the second is not wanted'));
  await expect(waiting).rejects.toThrow('the second is not wanted');
  first.abort(new Error('the first is not wanted'));
  await expect(running).rejects.toThrow('the first is not wanted');
  expect(await last).toBe(36);
});
