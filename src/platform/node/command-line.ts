/** The shell command that calls Heddle, for hints that can be copied. */
import { realpathSync } from 'node:fs';
import { basename, delimiter, dirname, isAbsolute, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getEnvironmentData, isMainThread, setEnvironmentData } from 'node:worker_threads';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const MAIN = join(ROOT, 'dist', 'cli', 'main.js');

/** The key under which worker threads find the process's argv[1]; their own argv[1] is their module. */
const CALLED = 'heddle/called';
if (isMainThread) setEnvironmentData(CALLED, process.argv[1] ?? '');

/** The scripts of a clone's package.json that call `heddle`. */
const SCRIPTS: readonly (string | undefined)[] = ['heddle', 'start'];

/** The shell command for `heddle`, as this process was called; in another program, as its author can call it. */
export function heddleCommand(): string {
  const { env } = process;
  const called = String(getEnvironmentData(CALLED) ?? '');
  if (!isMain(called)) return 'npx heddle';
  const isPackage = ROOT.includes(`${sep}node_modules${sep}`);
  if (!isPackage && env.npm_package_name === 'heddle' && SCRIPTS.includes(env.npm_lifecycle_event)) {
    return 'npm run -s heddle --';
  }
  const folders = (env.PATH ?? '').split(delimiter);
  // On Windows the command on the PATH is a script that starts the package's file.
  const shims = [dirname(called), join(ROOT, '..', '..')];
  const isOnPath = shims.some((folder) => basename(folder) !== '.bin' && folders.includes(folder));
  if (isOnPath && (isPackage || basename(called) === 'heddle')) return 'heddle';
  if (isPackage) return 'npx heddle';
  const path = relative(process.cwd(), called);
  return `node ${quoted(path.startsWith('..') || isAbsolute(path) ? called : path)}`;
}

function isMain(path: string): boolean {
  try {
    return realpathSync(path) === MAIN;
  } catch {
    return false;
  }
}

/** A call of `heddle` with these arguments, each quoted if the shell requires it. */
export function heddleCall(...args: readonly string[]): string {
  return [heddleCommand(), ...args.map(quoted)].join(' ');
}

/** Quotes a word for sh, or for cmd and PowerShell on Windows. */
export function quoted(word: string): string {
  if (process.platform === 'win32') return /^[\w@+=:,./\\-]+$/.test(word) ? word : `"${word}"`;
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
