/** Atomic replacement of folders, also if a browser operation fails in between. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { readFolder, readText } from './files.js';
import { PrivateVolume } from './private-volume.js';
import { memory } from './volumes.js';
import { makeFolder, recoverFolder, remove, writeFileAtomic, writeFolderAtomic } from './writing.js';

vi.stubGlobal('navigator', {});

const FOLDER = '/memory/run/checkpoint';
beforeEach(() => makeFolder('/memory/run'));
afterEach(async () => {
  vi.restoreAllMocks();
  await remove('/memory/run');
});

const write = (version: string): Promise<void> =>
  writeFolderAtomic(FOLDER, async (temporary) => {
    for (const name of ['config', 'moments', 'weights'])
      await writeFileAtomic(`${temporary}/${name}`, version);
  });

async function contents(): Promise<string[]> {
  const names = (await readFolder(FOLDER)).map(({ name }) => name).sort();
  return Promise.all(names.map(async (name) => `${name} ${await readText(`${FOLDER}/${name}`)}`));
}

/** Makes the next move of a file of this name fail. */
function refuse(name: string): void {
  const { move } = memory;
  vi.spyOn(memory, 'move').mockImplementation(async (from, to) => {
    if (to !== `${FOLDER}/${name}`) return move.call(memory, from, to);
    vi.restoreAllMocks();
    throw new DOMException('in use', 'NoModificationAllowedError');
  });
}

test('a replacement that fails halfway loses no file, and is completed later', async () => {
  await write('old');
  refuse('weights');
  await expect(write('new')).rejects.toThrow('another tab is writing it');
  await recoverFolder(FOLDER);
  expect(await contents()).toEqual(['config new', 'moments new', 'weights new']);
  refuse('moments');
  await expect(write('newer')).rejects.toThrow('another tab is writing it');
  await write('newest');
  expect(await contents()).toEqual(['config newest', 'moments newest', 'weights newest']);
  expect(await readFolder('/memory/run')).toEqual([{ name: 'checkpoint', isFolder: true }]);
});

test('a failure before the commit leaves the folder unchanged, and nothing beside it', async () => {
  await write('old');
  const failure = writeFolderAtomic(FOLDER, async (temporary) => {
    await writeFileAtomic(`${temporary}/config`, 'new');
    throw new Error('no more');
  });
  await expect(failure).rejects.toThrow('no more');
  expect(await contents()).toEqual(['config old', 'moments old', 'weights old']);
  expect(await readFolder('/memory/run')).toEqual([{ name: 'checkpoint', isFolder: true }]);
});

test('the next writer removes the temporaries of one that did not finish', async () => {
  const left = `/memory/run/.checkpoint.${crypto.randomUUID()}.heddle-tmp`;
  await makeFolder(left);
  await writeFileAtomic(`${left}/weights`, 'half');
  await writeFileAtomic('/memory/run/.checkpoint.other', 'kept');
  await write('old');
  expect((await readFolder('/memory/run')).map(({ name }) => name).sort()).toEqual([
    '.checkpoint.other',
    'checkpoint',
  ]);
});

test('a file that cannot be flushed is closed, so that it can be opened again', async () => {
  const closed = vi.fn();
  const handle = {
    flush: () => {
      throw new DOMException('full', 'QuotaExceededError');
    },
    close: closed,
  };
  const root = { getFileHandle: async () => ({ createSyncAccessHandle: async () => handle }) };
  const writer = await new PrivateVolume(root as unknown as FileSystemDirectoryHandle).openWriter('/a');
  expect(() => writer.close()).toThrow('full');
  expect(closed).toHaveBeenCalledOnce();
});
