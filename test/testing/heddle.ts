/** The built command, run as a person runs it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Compiles what the command consists of. Throws with the compiler's words. */
export function build(): void {
  const compiler = 'node_modules/typescript/bin/tsc';
  const result = spawnSync(process.execPath, [compiler, '-p', 'tsconfig.build.json'], {
    cwd: root,
    encoding: 'utf8',
  });
  if (result.status !== 0) throw new Error(`the build failed:\n${result.stdout}${result.stderr}`);
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
