/** What is states: at once in memory, and on the disk when there was nothing to do for a while, or at the end. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { LanguageModel, Snapshot } from '../../generate/index.js';
import { tinyModel } from '../../generate/testing/tiny.js';
import { StateCache } from './state-cache.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-states-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let language: LanguageModel;
beforeAll(async () => {
  ({ language } = await tinyModel());
});

async function stateOf(ids: number[]): Promise<Snapshot> {
  const session = language.session();
  await session.read(ids);
  return session.snapshot();
}

const files = (folder: string): number => {
  try {
    return readdirSync(folder).length;
  } catch {
    return 0;
  }
};

test('nothing is written while there is work, and all of it later', async () => {
  const folder = join(root, 'later');
  const states = new StateCache(language, 1e9, folder);
  // Work that leaves nothing must not keep what comes later from the disk.
  states.begin();
  states.end();
  await new Promise((resolve) => setTimeout(resolve, 1100));
  states.begin();
  await states.put(await stateOf([1, 2, 3]));
  await states.put(await stateOf([4, 5, 6]));
  expect((await states.find([1, 2, 3, 4]))!.length).toBe(3);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  expect(files(folder)).toBe(0);
  states.end();
  await vi.waitFor(() => expect(files(folder)).toBe(2), 60_000);
  await states.close();
});

test('what is left is written at the end, and found by the next', async () => {
  const folder = join(root, 'end');
  const states = new StateCache(language, 1e9, folder);
  states.begin();
  await states.put(await stateOf([7, 8]));
  await states.close();
  const next = new StateCache(language, 1e9, folder);
  expect(next.held([7, 8, 9])).toBeUndefined();
  expect((await next.find([7, 8, 9]))!.length).toBe(2);
  expect(next.held([7, 8, 9])!.length).toBe(2);
});

test('what does not fit waits for nothing', async () => {
  const folder = join(root, 'small');
  const state = await stateOf([1, 2]);
  const states = new StateCache(language, 5 * state.bytes, folder);
  states.begin();
  for (let id = 1; id <= 20; id++) await states.put(await stateOf([id, 2]));
  expect(states.size).toBeLessThan(20);
  await states.close();
  expect(files(folder)).toBe(1);
});
