/** Builds the libraries of `plugin.c` and `driver.c`, for tests, where a C compiler is. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Whether this machine can build them. */
export const canBuild = (() => {
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return process.platform === 'linux';
  } catch {
    return false;
  }
})();

/** A new PJRT plugin, built with these definitions (`MINOR=40`). */
export function buildPlugin(...definitions: string[]): string {
  return build('plugin.c', definitions);
}

/** A library that answers as NVIDIA's driver does. */
export function buildDriver(...definitions: string[]): string {
  return build('driver.c', definitions);
}

function build(source: string, definitions: readonly string[]): string {
  const path = join(mkdtempSync(join(tmpdir(), 'heddle-library-')), 'library.so');
  const flags = ['-shared', '-fPIC', '-O1', '-o', path, ...definitions.map((text) => `-D${text}`)];
  execFileSync('cc', [...flags, fileURLToPath(new URL(source, import.meta.url)), '-lpthread']);
  return path;
}
