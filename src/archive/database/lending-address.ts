/**
 * Where the process that lends a folder's database listens. The socket is in a folder for temporary files that only its user can enter, since a
 * socket's path has to be short; a file in the archive's folder has that path. A copy of the folder has a copy of that file: `identityOf`
 * tells them apart.
 */
import { lstat, mkdtemp, readdir, readFile, realpath, rm, rmdir, stat } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { writeFileAtomic } from '../../checkpoint/index.js';

/** In the archive's folder: the path of the socket. */
const ADDRESS = 'database.socket';
const PREFIX = 'heddle-archive-';
/** The name of the socket in its folder. */
export const SOCKET = 'socket';

/** Makes the folder for a socket. */
export async function makePlace(): Promise<string> {
  return mkdtemp(join(await realpath(tmpdir()), PREFIX));
}

/** Writes where the socket is. */
export async function publish(folder: string, path: string): Promise<void> {
  await writeFileAtomic(join(folder, ADDRESS), path);
}

/** Removes what `publish` wrote. */
export async function withdraw(folder: string): Promise<void> {
  await rm(join(folder, ADDRESS), { force: true });
}

/** Removes what a process has left that was killed while it lent the database. Whoever calls it has the folder's lock. */
export async function forget(folder: string): Promise<void> {
  const path = await addressIn(folder);
  const place = dirname(path);
  const isOne = basename(path) === SOCKET && dirname(place) === (await realpath(tmpdir()));
  if (isOne && (await isOurs(place)) && !(await isAnswered(path))) await removePlace(place);
  await withdraw(folder);
}

/** Removes a folder with nothing but a socket in it; any other one stays. */
export async function removePlace(place: string): Promise<void> {
  const names = await readdir(place).catch(() => undefined);
  if (!names?.every((name) => name === SOCKET)) return;
  await rm(join(place, SOCKET), { force: true });
  await rmdir(place).catch(() => {});
}

/** Whether it is a folder for a socket that only this user can enter. */
export async function isOurs(place: string): Promise<boolean> {
  const found = await lstat(place).catch(() => undefined);
  return (
    basename(place).startsWith(PREFIX) &&
    found?.isDirectory() === true &&
    found.uid === process.getuid?.() &&
    (found.mode & 0o777) === 0o700
  );
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    const tell = (is: boolean): void => {
      socket.destroy();
      resolve(is);
    };
    socket.once('connect', () => tell(true)).once('error', () => tell(false));
  });
}

/** The path of the socket; empty where nobody lends the database. */
export function addressIn(folder: string): Promise<string> {
  return readFile(join(folder, ADDRESS), 'utf8').catch(() => '');
}

/** Tells a folder from its copies. */
export async function identityOf(folder: string): Promise<string> {
  const { dev, ino } = await stat(folder, { bigint: true });
  return `${dev}-${ino}`;
}
