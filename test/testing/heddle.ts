/** The built command, run as a person runs it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RUN_FOLDER } from './run.js';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Those of `npm run build` that the command needs. */
const STEPS = [
  ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'],
  ['scripts/command.mjs'],
  ['scripts/browser.mjs'],
  ['node_modules/vite/bin/vite.js', 'build', 'studio'],
  ['node_modules/vite/bin/vite.js', 'build', 'studio', '--config', 'studio/vite.explain.config.ts'],
];

/**
 * Builds what the command consists of, once a run of the tests: a test must not meet files that another is writing.
 * Throws with the words of what failed.
 */
export function build(): void {
  const built = join(process.env[RUN_FOLDER]!, 'build');
  const words = join(built, 'words');
  if (isFirst(built)) {
    // vitest says 'test' here, for which the studio's bundle would be the larger one for development.
    const env = { ...process.env, NODE_ENV: 'production' };
    const results = STEPS.map((args) =>
      spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', env }),
    );
    const failed = results.filter(({ status }) => status !== 0);
    writeFileSync(`${words}.new`, failed.map(({ stdout, stderr }) => `${stdout}${stderr}`).join('\n'));
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

/** How hints name the command where a test runs it: the folder it runs in is ours, unless a test names another. */
export const HEDDLE = 'node dist/cli/main.js';

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
  cwd?: string,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [`${root}dist/cli/main.js`, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd,
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
