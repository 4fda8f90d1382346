/** Data sets of tasks: files of packages that are not installed with Heddle. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { DataError } from '../errors.js';

const require = createRequire(import.meta.url);

/** Reads a file of an npm package. Throws `DataError`, with the command that installs it, if the package is missing. */
export async function packageFile(task: string, name: string, path: string): Promise<Buffer> {
  // The file is looked up by path, since some packages do not export all of their files.
  const places = (require.resolve.paths(name) ?? []).map((folder) => join(folder, name, path));
  const found = places.find((place) => existsSync(place));
  if (found !== undefined) return readFile(found);
  throw new DataError(`${task} takes its data from the package ${name}; run: npm install ${name}`);
}

/** Reads a file of a Debian package. Throws `DataError`, with the command that installs it, if it is missing. */
export async function debianFile(task: string, name: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new DataError(
      `${task} takes its data from Debian's package ${name}; run: apt-get install ${name}`,
      {
        cause,
      },
    );
  }
}
