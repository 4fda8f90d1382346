/** The built command, run as a person runs it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RUN_FOLDER } from './run.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Compiles what the command consists of, once a run of the tests: a test must not meet files that another is writing.
 * Throws with the compiler's words.
 */
export function build(): void {
  const built = join(process.env[RUN_FOLDER]!, 'build');
  const words = join(built, 'words');
  if (isFirst(built)) {
    const complaints = [
      ['typescript/bin/tsc', '-p', 'tsconfig.build.json'],
      ['vite/bin/vite.js', 'build', 'studio', '--logLevel', 'warn'],
    ].map(([command, ...args]) => {
      const given = [`node_modules/${command}`, ...args];
      const result = spawnSync(process.execPath, given, { cwd: root, encoding: 'utf8' });
      return result.status === 0 ? '' : `${result.stdout}${result.stderr}`;
    });
    writeFileSync(`${words}.new`, complaints.join(''));
    renameSync(`${words}.new`, words);
  }
  while (!existsSync(words)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  const complaint = readFileSync(words, 'utf8');
  if (complaint !== '') throw new Error(`the build failed:\n${complaint}`);
}

/** Makes a folder; false where another process was faster. */
function isFirst(folder: string): boolean {
  try {
    mkdirSync(folder);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

export interface Outcome {
  /** The exit code; null where a signal ended the process. */
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `heddle` to its end. `watch` sees all of stderr so far whenever more of it comes. */
export function heddle(
  args: readonly string[],
  watch: (stderr: string, process: ChildProcess) => void = () => {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [`${root}dist/cli/main.js`, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      watch(stderr, child);
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
