/** Data of tasks that others made: packages that are not installed with Heddle. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { DataError } from '../errors.js';

const require = createRequire(import.meta.url);

/** A file of an npm package. Throws `DataError`, with what brings it, where the package is not installed. */
export async function packageFile(task: string, name: string, path: string): Promise<Buffer> {
  // Some packages export less than what lies in them.
  const places = (require.resolve.paths(name) ?? []).map((folder) => join(folder, name, path));
  const found = places.find((place) => existsSync(place));
  if (found !== undefined) return readFile(found);
  throw new DataError(`${task} takes its data from the package ${name}; run: npm install ${name}`);
}

/** A file of a Debian package. Throws `DataError`, with what brings it, where it is not there. */
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
