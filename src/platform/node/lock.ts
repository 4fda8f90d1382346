/**
 * A lock that lets one process at a time write a folder. A writer first creates the file `lock-<pid>` in the folder, then checks
 * whether the folder holds the lock file of another process.
 *
 * Of two writers that start at once, the one that checks later sees the other's file, so they never both hold the lock. Both may
 * give up; each then retries after a random delay. A writer removes the lock files of processes that have ended. Lock files carry
 * the process id in their names, so a new lock is never removed in place of a stale one.
 */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StorageError } from '../../errors.js';
import { makeFolder } from './make-folder.js';

/** Paths of the locks that this process holds. A lock file with our process id that is not listed was left by a killed process of the same id. */
const held = new Set<string>();

const TRIES = 5;

/**
 * Acquires the lock of a folder, and creates the folder if it is missing. Returns the function that releases the lock.
 *
 * @param owner what is being written, for the error message
 * @param doing what the other process does, for the error message
 * @throws StorageError when another process holds it; system errors
 */
export async function lockFolder(
  folder: string,
  owner: string,
  doing = 'is downloading into it',
): Promise<() => Promise<void>> {
  const own = resolve(folder, `lock-${process.pid}`);
  const release = async (): Promise<void> => {
    await rm(own, { force: true });
    held.delete(own);
  };
  for (let tries = 1; ; tries++) {
    let other: number | undefined = process.pid;
    if (!held.has(own)) {
      held.add(own);
      try {
        other = await claim(folder, own);
        if (other === undefined) return release;
      } catch (error) {
        await release().catch(() => {});
        // A writer that releases an empty folder removes it, perhaps between our calls.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries === TRIES) throw error;
      }
      await release();
    }
    if (tries === TRIES) {
      throw new StorageError(
        `Could not write ${owner}: process ${other} ${doing}. Wait until it is done; if that process is something else, remove ${join(folder, `lock-${other}`)}.`,
      );
    }
    await sleep(20 + Math.random() * 80);
  }
}

/** Creates our lock file. Returns the id of another writer, if there is one. */
async function claim(folder: string, own: string): Promise<number | undefined> {
  await makeFolder(folder);
  await writeFile(own, '');
  return otherWriter(folder);
}

/** The id of another process that holds or is acquiring the lock. Removes the lock files of processes that have ended. */
async function otherWriter(folder: string): Promise<number | undefined> {
  for (const name of await readdir(folder)) {
    const pid = Number(/^lock-(\d+)$/.exec(name)?.[1] ?? process.pid);
    if (pid === process.pid) continue;
    if (isAlive(pid)) return pid;
    await rm(join(folder, name), { force: true });
  }
  return undefined;
}

/** Whether there is a process of this id on this machine. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
