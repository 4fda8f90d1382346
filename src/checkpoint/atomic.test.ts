import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CheckpointError, StorageError } from '../errors.js';
import { recoverFolder, streamFileAtomic, writeFileAtomic, writeFolderAtomic } from './atomic.js';

const disk = vi.hoisted(() => ({
  /** Called before every operation that `atomic.ts` asks of the disk; by throwing it makes the operation fail. */
  before: async (_operation: string): Promise<void> => {},
  /** How many bytes one write takes at most. */
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
    // What is written outlives the process without a sync, and these tests kill no machine.
    const sync = watched('sync', async () => {});
    return Object.assign(handle, { write, sync });
  };
  const { mkdir, readdir, rename, rm, stat } = real;
  const operations = Object.entries({ mkdir, readdir, rename, rm, stat });
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
  rmSync(here, { recursive: true, force: true });
});

let dead = false;

function recover(): void {
  disk.before = async () => {};
  disk.takes = Infinity;
  dead = false;
}

/** From the given operation on (0 is the next one), nothing works any more, as when the process is killed there. */
function dieAt(operation: number): void {
  let left = operation;
  disk.before = async () => {
    dead ||= left-- === 0;
    if (dead) throw new Error('dead');
  };
}

/** The next operation of that name fails with a system error. */
function failOnce(operation: string, code: string): void {
  disk.before = async (asked) => {
    if (asked !== operation) return;
    recover();
    throw systemError(code);
  };
}

const systemError = (code: string) =>
  Object.assign(new Error(`${code}: injected`), { code, syscall: 'injected' });

/** A complete folder, recognizable by its word: two files, one of them further down. */
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
  expect(readdirSync(folder).sort()).toEqual(['below', 'first']);
  const word = readFileSync(join(folder, 'first'), 'utf8');
  expect(readFileSync(join(folder, 'below', 'second'), 'utf8')).toBe(word);
  return word;
}

/** Runs `attempt` once for each operation at which it can be killed, then once more unharmed. */
async function killedEverywhere(attempt: (operation: number) => Promise<boolean>): Promise<number> {
  for (let operation = 0; ; operation++) {
    if (!(await attempt(operation))) return operation;
  }
}

/** Whether `writing` was killed; a failure of the living is passed on. */
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

  test('killed anywhere, it is the old one or the new one, and the next write leaves nothing else', async () => {
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

  test('a filesystem that syncs no folders is good enough', async () => {
    let syncs = 0;
    disk.before = async (operation) => {
      if (operation === 'sync' && ++syncs === 2) throw systemError('EINVAL');
    };
    await writeFileAtomic(join(here, 'state'), 'new');
    expect(syncs).toBe(2);
  });

  test('what its producer throws is passed on, and nothing is left', async () => {
    const failure = new CheckpointError('no such tensor');
    const writing = streamFileAtomic(join(here, 'state'), async (write) => {
      await write(Uint8Array.of(1));
      throw failure;
    });
    await expect(writing).rejects.toBe(failure);
    expect(readdirSync(here)).toEqual([]);
  });

  test('a missing folder, and a folder of its name, are refused', async () => {
    await expect(writeFileAtomic(join(here, 'none', 'state'), 'new')).rejects.toThrow(/does not exist/);
    mkdirSync(join(here, 'state'));
    await expect(writeFileAtomic(join(here, 'state'), 'new')).rejects.toThrow(StorageError);
    expect(readdirSync(here)).toEqual(['state']);
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

  test('only the leftovers of dead writers of the same file are removed', async () => {
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

  test('two writers side by side leave one whole file', async () => {
    const path = join(here, 'state');
    await Promise.all(['a', 'b', 'c'].map((letter) => writeFileAtomic(path, letter.repeat(10_000))));
    expect(readFileSync(path, 'utf8')).toMatch(/^(a{10000}|b{10000}|c{10000})$/);
    expect(readdirSync(here)).toEqual(['state']);
  });
});

describe('a folder', () => {
  test('is made with those above it, replaced with nothing kept, and nothing else is left', async () => {
    const folder = join(here, 'runs', 'one');
    await writeFolderAtomic(folder, filledWith('old'));
    writeFileSync(join(folder, 'stale'), '');
    await writeFolderAtomic(folder, filledWith('new'));
    expect(wordIn(folder)).toBe('new');
    expect(readdirSync(dirname(folder))).toEqual(['one']);
  });

  test('killed anywhere, also while a crash is being repaired, a complete one is found again', async () => {
    const folder = join(here, 'model');
    const found = new Set<string | undefined>();
    let missing = 0;
    await killedEverywhere(async (first) => {
      const operations = await killedEverywhere(async (second) => {
        await writeFolderAtomic(folder, filledWith('old'));
        dieAt(first);
        await wasKilled(writeFolderAtomic(folder, filledWith('new')));
        if (!existsSync(folder)) missing++;
        dieAt(second);
        const killed = await wasKilled(writeFolderAtomic(folder, filledWith('newer')));

        await recoverFolder(folder);
        found.add(wordIn(folder));
        await writeFolderAtomic(folder, filledWith('last'));
        expect(wordIn(folder)).toBe('last');
        expect(readdirSync(here)).toEqual(['model']);
        return killed;
      });
      expect(operations).toBeGreaterThan(10);
      dieAt(first);
      return wasKilled(writeFolderAtomic(folder, filledWith('new')));
    });
    expect(found).toEqual(new Set(['old', 'new', 'newer']));
    expect(missing).toBeGreaterThan(0);
  });

  test('killed anywhere when there was none before, it is absent or complete', async () => {
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

  test('recovery puts the previous folder back onto an empty one, and never onto a filled one', async () => {
    const folder = join(here, 'model');
    const previous = join(here, '.model.previous');
    mkdirSync(previous);
    await filledWith('old')(previous);
    mkdirSync(folder);
    await recoverFolder(folder);
    expect(wordIn(folder)).toBe('old');

    mkdirSync(previous);
    await filledWith('older')(previous);
    await recoverFolder(folder);
    expect(wordIn(folder)).toBe('old');

    rmSync(folder, { recursive: true });
    failOnce('rename', 'EROFS');
    await expect(recoverFolder(folder)).rejects.toThrow(/read-only/);
    await expect(recoverFolder(join(here, 'none'))).resolves.toBeUndefined();
  });

  test('when the last rename fails, the old folder is put back at once', async () => {
    const folder = join(here, 'model');
    await writeFolderAtomic(folder, filledWith('old'));
    let renames = 0;
    disk.before = async (operation) => {
      // The first two look for a folder to recover, and move the old one aside.
      if (operation === 'rename' && ++renames === 3) throw systemError('EACCES');
    };
    await expect(writeFolderAtomic(folder, filledWith('new'))).rejects.toThrow(/no permission/);
    recover();
    expect(wordIn(folder)).toBe('old');
    expect(readdirSync(here)).toEqual(['model']);
  });

  test('what stops the filling is passed on, a system error in words, and the old folder stays', async () => {
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

  test('neither a file nor the working directory is replaced', async () => {
    const path = join(here, 'file');
    writeFileSync(path, 'kept');
    await expect(writeFolderAtomic(path, filledWith('new'))).rejects.toThrow(StorageError);
    expect(readFileSync(path, 'utf8')).toBe('kept');
    for (const folder of ['.', '..', dirname(process.cwd())]) {
      await expect(writeFolderAtomic(folder, filledWith('new'))).rejects.toThrow(/working directory/);
    }
    expect(readdirSync(here)).toEqual(['file']);
  });

  test.skipIf(process.platform === 'win32')('keeps its permissions', async () => {
    const folder = join(here, 'model');
    mkdirSync(folder, { mode: 0o700 });
    await writeFolderAtomic(folder, filledWith('new'));
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });
});
