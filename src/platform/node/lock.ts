/**
 * A lock that lets one process at a time write a folder. A writer first creates the file `lock-<pid>-<machine>` in the folder, then checks
 * whether the folder holds the lock file of another process.
 *
 * Of two writers that start at once, the one that checks later sees the other's file, so they never both hold the lock. Both may
 * give up; each then retries after a random delay. A writer removes the lock files of processes of its machine that have ended; whether a
 * process of another machine runs, as on a network share, it cannot know. Lock files carry the process id in their names, so a new lock is
 * never removed in place of a stale one.
 */
import { readdir, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StorageError } from '../../errors.js';
import { makeFolder } from './make-folder.js';

/** Paths of the locks that this process holds. A lock file with our process id that is not listed was left by a killed process of the same id. */
const held = new Set<string>();

const TRIES = 5;

/** Another process has the lock. */
export class LockedError extends StorageError {
  constructor(
    message: string,
    readonly holder: LockHolder,
  ) {
    super(message);
  }
}

/** A process that has a lock. */
export interface LockHolder {
  /** The name of the lock's file. */
  readonly name: string;
  readonly pid: number;
  /** The machine of the process, if it is another one. */
  readonly machine?: string;
}

/**
 * Acquires the lock of a folder, and creates the folder if it is missing. Returns the function that releases the lock.
 *
 * @param owner what is being written, for the error message
 * @param doing what the other process does, for the error message
 * @throws LockedError when another process holds it; system errors
 */
export async function lockFolder(
  folder: string,
  owner: string,
  doing = 'is downloading into it',
): Promise<() => Promise<void>> {
  const name = `lock-${process.pid}-${encodeURIComponent(hostname())}`;
  const own = resolve(folder, name);
  const release = async (): Promise<void> => {
    await rm(own, { force: true });
    held.delete(own);
  };
  for (let tries = 1; ; tries++) {
    let other: LockHolder | undefined = { name, pid: process.pid };
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
      const { pid, machine } = other!;
      const who = `process ${pid}${machine === undefined ? '' : ` on the machine ${machine}`}`;
      const unless = machine === undefined ? 'is something else' : 'has ended';
      throw new LockedError(
        `Could not write ${owner}: ${who} ${doing}. Wait until it is done; if that process ${unless}, remove ${join(folder, other!.name)}.`,
        other!,
      );
    }
    await sleep(20 + Math.random() * 80);
  }
}

/** Creates our lock file. Returns another writer, if there is one. */
async function claim(folder: string, own: string): Promise<LockHolder | undefined> {
  await makeFolder(folder);
  await writeFile(own, '');
  for (const name of await readdir(folder)) {
    if (name === basename(own)) continue;
    const other = holderOf(name);
    if (other === undefined) continue;
    if (other.machine !== undefined || (other.pid !== process.pid && isAlive(other.pid))) return other;
    await rm(join(folder, name), { force: true });
  }
  return undefined;
}

/** The process that a lock file is of. Those of older versions do not name the machine: it was this one. */
function holderOf(name: string): LockHolder | undefined {
  const [, pid, machine] = /^lock-(\d+)(?:-(.+))?$/.exec(name) ?? [];
  if (pid === undefined) return undefined;
  const isHere = machine === undefined || machine === encodeURIComponent(hostname());
  return { name, pid: Number(pid), ...(!isHere && { machine }) };
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
