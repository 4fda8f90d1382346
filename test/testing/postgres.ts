/** A PostgreSQL of the tests' own, where one is installed. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Where Debian has each version's programs; elsewhere they are on the PATH. */
const DEBIAN = '/usr/lib/postgresql';
const FOLDERS = [
  ...(process.env.PATH ?? '').split(delimiter),
  ...namesIn(DEBIAN).map((version) => join(DEBIAN, version, 'bin')),
];
const programs = FOLDERS.find((folder) => {
  const names = namesIn(folder);
  return ['initdb', 'postgres', 'pg_isready'].every((each) => names.includes(each));
});

/** PostgreSQL refuses to run as root: then its own user runs it. */
const isRoot = process.getuid?.() === 0;
const user = isRoot ? idsOf('postgres') : undefined;

/** Whether this machine has one that can be started here. */
export const hasPostgres = programs !== undefined && (!isRoot || user !== undefined);

/** Starts one with an empty database. Returns its address, `postgres://heddle@host/database`, and what ends it. */
export async function startPostgres(): Promise<{ url: string; stop(): Promise<void> }> {
  // The tests' own folder of temporary files is one that another user cannot enter.
  const root = mkdtempSync(join(user ? '/tmp' : tmpdir(), 'heddle-postgres-'));
  if (user) chownSync(root, user.uid, user.gid);
  const data = join(root, 'data');
  const run = (program: string, ...args: string[]) =>
    execFileSync(join(programs!, program), args, { ...user, cwd: root, stdio: ['ignore', 'ignore', 'pipe'] });
  run('initdb', '-D', data, '-U', 'heddle', '-A', 'trust', '-E', 'UTF8', '--locale', 'C', '--no-sync');
  // It listens on a socket in its own folder alone.
  const options = ['-D', data, '-k', root, '-c', 'listen_addresses=', '-c', 'fsync=off'];
  const server = spawn(join(programs!, 'postgres'), options, { ...user, cwd: root, stdio: 'ignore' });
  const gone = new Promise((resolve) => server.on('close', resolve));
  process.once('exit', () => server.kill('SIGQUIT'));
  const url = `postgres://heddle@${encodeURIComponent(root)}/postgres`;
  while (spawnSync(join(programs!, 'pg_isready'), ['-h', root]).status !== 0) {
    if (server.exitCode !== null) throw new Error(`PostgreSQL has ended with ${server.exitCode}`);
    await sleep(50);
  }
  return {
    url,
    async stop() {
      server.kill('SIGINT');
      await gone;
      rmSync(root, { recursive: true, force: true });
    },
  };
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function idsOf(name: string): { uid: number; gid: number } | undefined {
  const [uid, gid] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }).stdout);
  return uid && gid ? { uid: Number(uid), gid: Number(gid) } : undefined;
}
