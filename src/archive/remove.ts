/** Removing documents for good: what scanning finds again at the same paths is not read again until it is named. */
import { rm } from 'node:fs/promises';
import { sep } from 'node:path';
import type { Archive } from './archive.js';
import type { DocumentEntry } from './entries.js';
import { entryOf, isUnchanged } from './scan.js';
import { uploadsOf } from './upload.js';

/**
 * Removes a document with everything that was made of it. Files that were uploaded, and are as they were then, are deleted; other files stay.
 * Returns the paths of those that stay.
 */
export async function removeDocument(archive: Archive, { content }: DocumentEntry): Promise<string[]> {
  const files = await archive.filesOf(content);
  await archive.removeFiles(
    files.map(({ path }) => path),
    { forGood: true },
  );
  // A copy of an archive does not delete the files of the original.
  const uploads = `${uploadsOf(archive)}${sep}`;
  const kept: string[] = [];
  // Deleted last: a file that is left because the process ended is not read again.
  for (const file of files) {
    const isOurs = file.isUpload && file.path.startsWith(uploads);
    const now = isOurs ? await entryOf(file.path).catch(() => undefined) : undefined;
    if (now && isUnchanged(file, now)) await rm(file.path, { force: true });
    else if (now || !isOurs) kept.push(file.path);
  }
  return kept;
}
