/** Builds the plugin of `plugin.c`, for tests, where a C compiler is. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCE = fileURLToPath(new URL('plugin.c', import.meta.url));

/** Whether this machine can build it. */
export const canBuild = (() => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return process.platform === 'linux';
  } catch {
    return false;
  }
})();

/** A new shared library, built with these definitions (`MINOR=40`), with what it counts. */
export function buildPlugin(...definitions: string[]): string {
  const path = join(mkdtempSync(join(tmpdir(), 'heddle-plugin-')), 'plugin.so');
  const flags = ['-shared', '-fPIC', '-O1', '-o', path, ...definitions.map((text) => `-D${text}`)];
  execFileSync('cc', [...flags, SOURCE, '-lpthread']);
  return path;
}
