import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CheckpointError, StorageError } from '../../errors.js';
import { recoverFolder, streamFileAtomic, writeFileAtomic, writeFolderAtomic } from './atomic.js';

const disk = vi.hoisted(() => ({
  /** Called before each disk operation of `atomic.ts`; the operation fails if it throws. */
  before: async (_operation: string): Promise<void> => {},
  /** The most bytes that one write call accepts. */
  takes: Infinity,
}));

vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof import('node:fs/promises')>();
  type Operation = (...operands: unknown[]) => Promise<unknown>;
  const watched = (name: string, operation: unknown) => {
    return async (...operands: unknown[]) => {
      await disk.before(name);
      return (operation as Operation)(...operands);
    };
  };
  const open = async (...operands: Parameters<typeof real.open>) => {
    await disk.before('open');
    const handle = await real.open(...operands);
    const realWrite = handle.write.bind(handle);
    const write = watched('write', (bytes: Uint8Array) => realWrite(bytes.subarray(0, disk.takes)));
    // Syncing is not needed here: these tests simulate the end of a process, not of the machine.
    const sync = watched('sync', async () => {});
    return Object.assign(handle, { write, sync });
  };
  const { mkdir, readdir, rename, rm, stat, writeFile } = real;
  const operations = Object.entries({ mkdir, readdir, rename, rm, stat, writeFile });
  return {
    ...real,
    open,
    ...Object.fromEntries(operations.map(([name, real]) => [name, watched(name, real)])),
  };
});

let here: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-atomic-'));
});
afterEach(() => {
  recover();
  vi.restoreAllMocks();
  rmSync(here, { recursive: true, force: true });
});

let dead = false;

function recover(): void {
  disk.before = async () => {};
  disk.takes = Infinity;
  dead = false;
}

/** Makes all operations from the given one on fail (0 is the next one), as if the process had been killed there. */
function dieAt(operation: number): void {
  let left = operation;
  disk.before = async () => {
    dead ||= left-- === 0;
    if (dead) throw new Error('dead');
  };
}

/** Makes the next operation of that name fail with a system error. */
function failOnce(operation: string, code: string): void {
  disk.before = async (asked) => {
    if (asked !== operation) return;
    recover();
    throw systemError(code);
  };
}

/** Records the operations of these names. */
function recorded(...names: string[]): string[] {
  const operations: string[] = [];
  disk.before = async (operation) => {
    if (names.includes(operation)) operations.push(operation);
  };
  return operations;
}

const systemError = (code: string) =>
  Object.assign(new Error(`${code}: injected`), { code, syscall: 'injected' });

/** Fills a folder with two files, one of them in a subfolder, that contain `word`. */
function filledWith(word: string) {
  return async (folder: string) => {
    writeFileSync(join(folder, 'first'), word);
    await disk.before('fill');
    mkdirSync(join(folder, 'below'));
    writeFileSync(join(folder, 'below', 'second'), word);
  };
}

/** The word of a complete folder; `undefined` when there is no folder. */
function wordIn(folder: string): string | undefined {
  if (!existsSync(folder)) return undefined;
  expect(readdirSync(folder).sort()).toEqual(['.written-by-heddle', 'below', 'first']);
  const word = readFileSync(join(folder, 'first'), 'utf8');
  expect(readFileSync(join(folder, 'below', 'second'), 'utf8')).toBe(word);
  return word;
}

/** Runs `attempt` once for each operation at which it can be killed, and once to the end. */
async function killedEverywhere(attempt: (operation: number) => Promise<boolean>): Promise<number> {
  for (let operation = 0; ; operation++) {
    if (!(await attempt(operation))) return operation;
  }
}

/** Whether `writing` was killed; any other error is rethrown. */
async function wasKilled(writing: Promise<void>): Promise<boolean> {
  try {
    await writing;
    return dead;
  } catch (error) {
    if (!dead) throw error;
    return true;
  } finally {
    recover();
  }
}

describe('a file', () => {
  test('is written and replaced, text as UTF-8, and nothing else is left', async () => {
    const path = join(here, 'config.json');
    await writeFileAtomic(path, 'größer');
    expect(readFileSync(path, 'utf8')).toBe('größer');
    await writeFileAtomic(path, Uint8Array.of(1, 2, 3));
    expect([...readFileSync(path)]).toEqual([1, 2, 3]);
    expect(readdirSync(here)).toEqual(['config.json']);
  });

  test('is written in pieces, in order, even when the disk takes a part at a time', async () => {
    const path = join(here, 'pieces');
    const bytes = new Uint8Array(3);
    disk.takes = 2;
    await streamFileAtomic(path, async (write) => {
      for (const first of [0, 3, 6]) {
        bytes.set([first, first + 1, first + 2]);
        await write(bytes);
      }
    });
    expect([...readFileSync(path)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test('after a kill at any operation it is the old or the new file, and the next write leaves nothing else', async () => {
    const path = join(here, 'state');
    const left = new Set<string>();
    let littered = 0;
    const operations = await killedEverywhere(async (operation) => {
      writeFileSync(path, 'old');
      dieAt(operation);
      const killed = await wasKilled(writeFileAtomic(path, 'new'));
      left.add(readFileSync(path, 'utf8'));
      littered += readdirSync(here).length - 1;
      await writeFileAtomic(path, 'newer');
      expect(readFileSync(path, 'utf8')).toBe('newer');
      expect(readdirSync(here)).toEqual(['state']);
      return killed;
    });
    expect(operations).toBeGreaterThan(4);
    expect(left).toEqual(new Set(['old', 'new']));
    expect(littered).toBeGreaterThan(0);
  });

  test.each([
    ['write', 'ENOSPC', /disk is full/],
    ['sync', 'ENOSPC', /disk is full/],
    ['write', 'EDQUOT', /quota/],
    ['open', 'EACCES', /no permission/],
    ['rename', 'EPERM', /no permission/],
    ['open', 'EROFS', /read-only/],
    ['write', 'EIO', /EIO: injected/],
  ])(
    'when %s fails with %s, says so in words and leaves the old file alone',
    async (operation, code, words) => {
      const path = join(here, 'state');
      writeFileSync(path, 'old');
      failOnce(operation, code);
      const failure = await writeFileAtomic(path, 'new').catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(StorageError);
      expect((failure as StorageError).message).toMatch(words);
      expect((failure as StorageError).message).toContain(path);
      expect((failure as StorageError).cause).toMatchObject({ code });
      expect(readdirSync(here)).toEqual(['state']);
      expect(readFileSync(path, 'utf8')).toBe('old');
    },
  );

  test('is synced before the rename, and the rename is synced before the promise resolves', async () => {
    const operations = recorded('write', 'sync', 'rename');
    await writeFileAtomic(join(here, 'state'), 'new');
    expect(operations).toEqual(['write', 'sync', 'rename', 'sync']);
  });

  test('a folder that may not be listed can be written to', async () => {
    failOnce('readdir', 'EACCES');
    await writeFileAtomic(join(here, 'state'), 'new');
    expect(readFileSync(join(here, 'state'), 'utf8')).toBe('new');
  });

  test('works on a filesystem that cannot sync folders', async () => {
    let syncs = 0;
    disk.before = async (operation) => {
      if (operation === 'sync' && ++syncs === 2) throw systemError('EINVAL');
    };
    await writeFileAtomic(join(here, 'state'), 'new');
    expect(syncs).toBe(2);
  });

  test('an error of its producer is rethrown, and nothing is left', async () => {
    const failure = new CheckpointError('no such tensor');
    const writing = streamFileAtomic(join(here, 'state'), async (write) => {
      await write(Uint8Array.of(1));
      throw failure;
    });
    await expect(writing).rejects.toBe(failure);
    expect(readdirSync(here)).toEqual([]);
  });

  test('fails in a missing folder, and if a folder has its name', async () => {
    await expect(writeFileAtomic(join(here, 'none', 'state'), 'new')).rejects.toThrow(/does not exist/);
    mkdirSync(join(here, 'state'));
    await expect(writeFileAtomic(join(here, 'state'), 'new')).rejects.toThrow(StorageError);
    expect(readdirSync(here)).toEqual(['state']);
  });

  test.skipIf(!existsSync('/dev/null'))('does not replace a device', async () => {
    // Through a link, so that the device would survive a failure of this test.
    symlinkSync('/dev/null', join(here, 'null'));
    await expect(writeFileAtomic(join(here, 'null'), 'new')).rejects.toThrow(/is not a file/);
  });

  test.skipIf(process.platform === 'win32')(
    'keeps permissions, and replaces a link without following it',
    async () => {
      const path = join(here, 'private');
      writeFileSync(path, 'old', { mode: 0o600 });
      await writeFileAtomic(path, 'new');
      expect(statSync(path).mode & 0o777).toBe(0o600);

      symlinkSync(path, join(here, 'link'));
      await writeFileAtomic(join(here, 'link'), 'other');
      expect(lstatSync(join(here, 'link')).isSymbolicLink()).toBe(false);
      expect(readFileSync(path, 'utf8')).toBe('new');
    },
  );

  test('removes only temporaries of ended writers of the same file', async () => {
    const dead = spawnSync(process.execPath, ['-e', '']).pid;
    const named = (file: string, writer: number) => `.${file}.${writer}-0123456789ab.heddle-tmp`;
    const kept = [
      named('state', process.ppid),
      named('other', dead),
      `.state.${dead}`,
      '.state.notes',
    ].sort();
    for (const name of [...kept, named('state', dead), named('state', process.pid)])
      writeFileSync(join(here, name), '');
    await writeFileAtomic(join(here, 'state'), 'new');
    expect(readdirSync(here).sort()).toEqual([...kept, 'state'].sort());
  });

  test('two concurrent writers leave one complete file', async () => {
    const path = join(here, 'state');
    await Promise.all(['a', 'b', 'c'].map((letter) => writeFileAtomic(path, letter.repeat(10_000))));
    expect(readFileSync(path, 'utf8')).toMatch(/^(a{10000}|b{10000}|c{10000})$/);
    expect(readdirSync(here)).toEqual(['state']);
  });
});

describe('a folder', () => {
  test('is created with its parents, replaced without keeping old files, and nothing else is left', async () => {
    const folder = join(here, 'runs', 'one');
    await writeFolderAtomic(folder, filledWith('old'));
    writeFileSync(join(folder, 'stale'), '');
    await writeFolderAtomic(folder, filledWith('new'));
    expect(wordIn(folder)).toBe('new');
    expect(readdirSync(dirname(folder))).toEqual(['one']);
  });

  test('after a kill at any operation, and another during recovery, a complete folder is found', async () => {
    const folder = join(here, 'model');
    /** Kills the replacement of an old folder by a new one; returns whether the operation was reached. */
    const crash = async (operation: number) => {
      await writeFolderAtomic(folder, filledWith('old'));
      dieAt(operation);
      return wasKilled(writeFolderAtomic(folder, filledWith('new')));
    };
    const states = new Set<string>();
    const found = new Set<string | undefined>();
    await killedEverywhere(async (first) => {
      const killed = await crash(first);
      const state = `${readdirSync(here).sort().join()} ${wordIn(folder)}`.replace(/\d+-[0-9a-f]+/g, 'ID');
      // Most operations leave the same names behind; each such state is recovered once.
      if (states.has(state)) return killed;
      states.add(state);
      await killedEverywhere(async (second) => {
        await crash(first);
        dieAt(second);
        const killedAgain = await wasKilled(writeFolderAtomic(folder, filledWith('newer')));
        await recoverFolder(folder);
        found.add(wordIn(folder));
        await writeFolderAtomic(folder, filledWith('last'));
        expect(wordIn(folder)).toBe('last');
        expect(readdirSync(here)).toEqual(['model']);
        return killedAgain;
      });
      return killed;
    });
    expect(states).toEqual(
      new Set([
        'model old',
        '.model.ID.heddle-tmp,model old',
        '.model.ID.heddle-tmp,.model.heddle-previous undefined',
        '.model.heddle-previous,model new',
        'model new',
      ]),
    );
    expect(found).toEqual(new Set(['old', 'new', 'newer']));
  });

  test('after a kill at any operation of the first write, it is absent or complete', async () => {
    const folder = join(here, 'model');
    const found = new Set<string | undefined>();
    await killedEverywhere(async (operation) => {
      dieAt(operation);
      const killed = await wasKilled(writeFolderAtomic(folder, filledWith('new')));
      await recoverFolder(folder);
      found.add(wordIn(folder));
      rmSync(folder, { recursive: true, force: true });
      return killed;
    });
    expect(found).toEqual(new Set([undefined, 'new']));
  });

  test('a reader that recovers at any moment of a write sees a complete folder and does no harm', async () => {
    const folder = join(here, 'model');
    const seen = new Set<string | undefined>();
    const operations = await killedEverywhere(async (moment) => {
      await writeFolderAtomic(folder, filledWith('old'));
      let left = moment;
      disk.before = async () => {
        if (left-- !== 0) return;
        await recoverFolder(folder);
        seen.add(wordIn(folder));
      };
      await writeFolderAtomic(folder, filledWith('new'));
      const reached = left < 0;
      recover();
      expect(wordIn(folder)).toBe('new');
      expect(readdirSync(here)).toEqual(['model']);
      return reached;
    });
    expect(operations).toBeGreaterThan(10);
    expect(seen).toEqual(new Set(['old', 'new']));
  });

  test('recovery restores the previous folder over an empty one, and never over a filled one', async () => {
    const folder = join(here, 'model');
    const previous = join(here, '.model.heddle-previous');
    await writeFolderAtomic(folder, filledWith('old'));
    renameSync(folder, previous);
    mkdirSync(folder);
    await recoverFolder(folder);
    expect(wordIn(folder)).toBe('old');

    mkdirSync(previous);
    writeFileSync(join(previous, 'other'), '');
    await recoverFolder(folder);
    expect(wordIn(folder)).toBe('old');

    rmSync(folder, { recursive: true });
    failOnce('rename', 'EROFS');
    await expect(recoverFolder(folder)).rejects.toThrow(/read-only/);
    await expect(recoverFolder(join(here, 'none'))).resolves.toBeUndefined();
  });

  test('is synced completely before the rename, and the rename is synced', async () => {
    const folder = join(here, 'model');
    await writeFolderAtomic(folder, filledWith('old'));
    const operations = recorded('fill', 'sync', 'rename');
    await writeFolderAtomic(folder, filledWith('new'));
    // Three files and two folders, after the attempt to recover and before the two renames of the swap.
    const synced = Array<string>(5).fill('sync');
    expect(operations).toEqual(['rename', 'fill', ...synced, 'rename', 'rename', 'sync']);
  });

  test('a failure to remove the old folder after the swap is left to the next write', async () => {
    const folder = join(here, 'model');
    await writeFolderAtomic(folder, filledWith('old'));
    await writeFolderAtomic(folder, async (temporary) => {
      await filledWith('new')(temporary);
      failOnce('rm', 'EACCES');
    });
    expect(wordIn(folder)).toBe('new');
    expect(readdirSync(here)).toEqual(['.model.heddle-previous', 'model']);
    await writeFolderAtomic(folder, filledWith('newer'));
    expect(readdirSync(here)).toEqual(['model']);
  });

  test('when the last rename fails, the old folder is restored at once', async () => {
    const folder = join(here, 'model');
    await writeFolderAtomic(folder, filledWith('old'));
    let renames = 0;
    disk.before = async (operation) => {
      // The first two attempt to recover a folder, and move the old one aside.
      if (operation === 'rename' && ++renames === 3) throw systemError('EACCES');
    };
    await expect(writeFolderAtomic(folder, filledWith('new'))).rejects.toThrow(/no permission/);
    recover();
    expect(wordIn(folder)).toBe('old');
    expect(readdirSync(here)).toEqual(['model']);
  });

  test('an error while filling is rethrown, a system error with an explanation, and the old folder stays', async () => {
    const folder = join(here, 'model');
    await writeFolderAtomic(folder, filledWith('old'));
    for (const [failure, expected] of [
      [new CheckpointError('no such tensor'), CheckpointError],
      [new TypeError('a bug'), TypeError],
      [systemError('ENOSPC'), StorageError],
    ] as const) {
      const writing = writeFolderAtomic(folder, async (temporary) => {
        writeFileSync(join(temporary, 'half'), '');
        throw failure;
      });
      await expect(writing).rejects.toBeInstanceOf(expected);
      expect(wordIn(folder)).toBe('old');
      expect(readdirSync(here)).toEqual(['model']);
    }
  });

  test('an error names the final path of a file, not the temporary one', async () => {
    const folder = join(here, 'model');
    const writing = writeFolderAtomic(folder, async (temporary) => {
      failOnce('write', 'ENOSPC');
      await writeFileAtomic(join(temporary, 'weights'), 'new');
    });
    await expect(writing).rejects.toThrow(`Could not write ${join(folder, 'weights')}: the disk is full`);
    expect(readdirSync(here)).toEqual([]);
  });

  test('files that Heddle did not write are never replaced, also if they appear during the write', async () => {
    const folder = join(here, 'documents');
    mkdirSync(folder);
    writeFileSync(join(folder, 'letter'), 'kept');
    await expect(writeFolderAtomic(folder, filledWith('new'))).rejects.toThrow(
      /did not write, such as letter/,
    );
    await expect(writeFolderAtomic(join(folder, 'letter'), filledWith('new'))).rejects.toThrow(
      /a file stands/,
    );

    const other = join(here, 'other');
    const writing = writeFolderAtomic(other, async (temporary) => {
      await filledWith('new')(temporary);
      mkdirSync(other);
      writeFileSync(join(other, 'letter'), 'kept');
    });
    await expect(writing).rejects.toThrow(StorageError);
    for (const kept of [folder, other]) expect(readFileSync(join(kept, 'letter'), 'utf8')).toBe('kept');
    expect(readdirSync(here).sort()).toEqual(['documents', 'other']);
  });

  test('the previous folder is kept while something else has the name', async () => {
    const folder = join(here, 'model');
    await writeFolderAtomic(folder, filledWith('old'));
    renameSync(folder, join(here, '.model.heddle-previous'));
    mkdirSync(folder);
    writeFileSync(join(folder, 'log'), '');
    await expect(writeFolderAtomic(folder, filledWith('new'))).rejects.toThrow(/such as log/);
    rmSync(folder, { recursive: true });
    await recoverFolder(folder);
    expect(wordIn(folder)).toBe('old');
  });

  test('the working directory and its parents are not replaced; folders beside it are', async () => {
    // All are in the temporary folder, so that nothing else is lost if the guard fails.
    for (const name of ['run', 'run-2']) await writeFolderAtomic(join(here, name), filledWith('old'));
    for (const inside of ['', 'below', '..below']) {
      vi.spyOn(process, 'cwd').mockReturnValue(join(here, 'run', inside));
      await expect(writeFolderAtomic(join(here, 'run'), filledWith('new'))).rejects.toThrow(
        /working directory/,
      );
    }
    await writeFolderAtomic(join(here, 'run-2'), filledWith('new'));
    await writeFolderAtomic(join(here, 'run', 'below', 'model'), filledWith('new'));
    vi.restoreAllMocks();
    expect(readFileSync(join(here, 'run', 'first'), 'utf8')).toBe('old');
    expect(wordIn(join(here, 'run-2'))).toBe('new');
  });

  test.skipIf(process.platform === 'win32')('keeps its permissions', async () => {
    const folder = join(here, 'model');
    mkdirSync(folder, { mode: 0o700 });
    await writeFolderAtomic(folder, filledWith('new'));
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });
});
