/** The threads' module is the built one. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { DeviceError, StorageError } from '../../errors.js';
import type { Snapshot } from '../snapshot.js';
import { tinyModel } from '../testing/tiny.js';
import { WritingThreads } from './writing-threads.js';

const BUILT = new URL('../../../dist/generate/states/writing-threads-worker.js', import.meta.url);
const folder = mkdtempSync(join(tmpdir(), 'heddle-writing-threads-'));
afterAll(() => rmSync(folder, { recursive: true }));

const { language } = await tinyModel();

async function snapshotAfter(tokens: number): Promise<Snapshot> {
  const session = language.session();
  await session.read(Array.from({ length: tokens }, (_, i) => 1 + ((i * 37) % 299)));
  return session.snapshot();
}

test('files that are written at the same time are those that this thread writes, and what is not read for them stays', async () => {
  const threads = new WritingThreads(BUILT);
  for (let round = 0; round < 2; round++) {
    const snapshots = await Promise.all([3, 40, 7].map(snapshotAfter));
    const logits = snapshots.map((snapshot) => snapshot.logits!.slice());
    await Promise.all(snapshots.map((each, i) => each.save(join(folder, `thread-${i}`), threads.write)));
    for (const [i, each] of snapshots.entries()) {
      expect(each.logits).toEqual(logits[i]);
      await each.save(join(folder, `here-${i}`));
      expect(readFileSync(join(folder, `thread-${i}`))).toEqual(readFileSync(join(folder, `here-${i}`)));
    }
  }
  await threads.close();
});

test('values that are parts of one array are written as those of their own', async () => {
  const threads = new WritingThreads(BUILT);
  const snapshot = await snapshotAfter(9);
  const packed = snapshot.copy();
  packed.state.read = async (names) => {
    const values = [...(await snapshot.state.read(names))];
    const sizes = values.map(([, { data }]) => data.length);
    const all = new Float32Array(sizes.reduce((a, b) => a + b));
    let at = 0;
    return new Map(
      values.map(([name, { dtype, dims, data }]) => {
        const part = all.subarray(at, at + data.length);
        part.set(data as Float32Array);
        at += data.length;
        return [name, { dtype, dims, data: part }];
      }),
    );
  };
  await snapshot.save(join(folder, 'apart'));
  await packed.save(join(folder, 'packed'), threads.write);
  expect(readFileSync(join(folder, 'packed'))).toEqual(readFileSync(join(folder, 'apart')));
  await threads.close();
});

test('each value is asked for once, also where the name of one of its own is between those of a group', async () => {
  const threads = new WritingThreads(BUILT);
  const asked: string[] = [];
  const tensors = ['a', 'b', 'c'].map((name) => ({
    name,
    dtype: 'F32' as const,
    shape: [1],
    ...(name !== 'b' && { group: 0 }),
    data: async () => {
      asked.push(name);
      return Float32Array.of(1);
    },
  }));
  await threads.write(join(folder, 'between'), tensors, {});
  expect(asked).toEqual(['a', 'c', 'b']);
  await threads.close();
});

test('a state that cannot be read, or written, leaves no file, and the thread writes the next one', async () => {
  const threads = new WritingThreads(BUILT);
  const inside = join(folder, 'failing');
  mkdirSync(inside);
  const snapshot = await snapshotAfter(9);
  const broken = snapshot.copy();
  broken.state.read = async () => {
    throw new DeviceError('played');
  };
  await expect(broken.save(join(inside, 'a'), threads.write)).rejects.toThrow(new DeviceError('played'));
  const missing = snapshot.save(join(inside, 'no-such-folder', 'a'), threads.write);
  await expect(missing).rejects.toBeInstanceOf(StorageError);
  await expect(missing).rejects.toThrow('Could not write');
  expect(readdirSync(inside)).toEqual([]);
  await snapshot.save(join(inside, 'a'), threads.write);
  expect(readdirSync(inside)).toEqual(['a']);
  await threads.close();
});

test('threads that end, or never begin, refuse what is being written and what comes after', async () => {
  const snapshot = await snapshotAfter(9);
  const missing = new WritingThreads(new URL('./no-such-module.js', import.meta.url));
  await expect(snapshot.save(join(folder, 'b'), missing.write)).rejects.toThrow(/Cannot find module/);
  const closed = new WritingThreads(BUILT);
  const waiting = snapshot.copy();
  waiting.state.read = () => new Promise(() => {});
  const saving = waiting.save(join(folder, 'b'), closed.write);
  await Promise.all([expect(saving).rejects.toThrow('ended with code'), closed.close()]);
  await expect(snapshot.save(join(folder, 'b'), closed.write)).rejects.toThrow(StorageError);
});
