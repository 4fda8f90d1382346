/** Removing documents for good: what scanning finds again at the same paths is not read again until it is named. */
import { rm } from 'node:fs/promises';
import { sep } from 'node:path';
import type { Archive } from './archive.js';
import type { DocumentEntry } from './entries.js';
import { uploadsOf } from './upload.js';

/**
 * Removes a document with everything that was made of it. Files that were uploaded are deleted; other files stay. Returns the paths of those
 * that stay.
 */
export async function removeDocument(archive: Archive, { content }: DocumentEntry): Promise<string[]> {
  const paths = (await archive.filesOf(content)).map(({ path }) => path);
  await archive.removeFiles(paths, { forGood: true });
  const uploads = `${uploadsOf(archive)}${sep}`;
  const isUploaded = (path: string): boolean => path.startsWith(uploads);
  // Deleted last: a file that is left because the process ended is not read again.
  for (const path of paths.filter(isUploaded)) await rm(path, { force: true });
  return paths.filter((path) => !isUploaded(path));
}
