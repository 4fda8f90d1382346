/**
 * One writer a folder: whoever writes puts a file `lock-<pid>` there first, and then looks whether another stands beside it.
 *
 * Of two that come at once, the one that looks later sees the other's file, so they never both go on. Both may give way; then
 * each tries again after a moment of its own. Locks of processes that are gone are removed by whoever meets them; they
 * are told apart by their names, so nobody can remove a new lock in mistake for an old one.
 */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeFolder } from '../checkpoint/index.js';
import { StorageError } from '../errors.js';

/** The locks that this process holds; a process that was killed may have had the same id. */
const held = new Set<string>();

const TRIES = 5;

/**
 * Takes the lock of a folder, which is made where it is missing; the promise's value gives it back.
 *
 * @param owner what is being written, for the message
 * @param doing what the other process does, for the message
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
        // Whoever gives an empty folder back removes it, perhaps just now.
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

/** Puts the own lock beside the others; the id of another writer, if there is one. */
async function claim(folder: string, own: string): Promise<number | undefined> {
  await makeFolder(folder);
  await writeFile(own, '');
  return otherWriter(folder);
}

/** The id of another process that holds or wants the folder; removes the locks of those that are gone. */
async function otherWriter(folder: string): Promise<number | undefined> {
  for (const name of await readdir(folder)) {
    const pid = Number(/^lock-(\d+)$/.exec(name)?.[1] ?? process.pid);
    if (pid === process.pid) continue;
    if (isAlive(pid)) return pid;
    await rm(join(folder, name), { force: true });
  }
  return undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
