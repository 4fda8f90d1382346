/** Removing documents for good: what scanning finds again at the same paths is not read again until it is named. */
import { rm } from 'node:fs/promises';
import { sep } from 'node:path';
import type { Archive } from './archive.js';
import type { DocumentEntry } from './entries.js';
import { uploadsOf } from './places.js';
import { entryOf, isUnchanged } from './scan.js';

/**
 * Removes documents with everything that was made of them, all or none. Files that were uploaded, and are as they were then, are deleted; other
 * files stay. Returns the paths of those that stay, for each document.
 */
export async function removeDocuments(
  archive: Archive,
  documents: readonly DocumentEntry[],
): Promise<string[][]> {
  const files = await Promise.all(documents.map(({ content }) => archive.filesOf(content)));
  await archive.removeFiles(
    files.flat().map(({ path }) => path),
    { forGood: true },
  );
  // A copy of an archive does not delete the files of the original.
  const uploads = `${uploadsOf(archive)}${sep}`;
  const kept = documents.map((): string[] => []);
  // Deleted last: a file that is left because the process ended is not read again.
  for (const [i, own] of files.entries()) {
    for (const file of own) {
      const isOurs = file.isUpload && file.path.startsWith(uploads);
      const now = isOurs ? await entryOf(file.path).catch(() => undefined) : undefined;
      if (now && isUnchanged(file, now)) await rm(file.path, { force: true });
      else if (now || !isOurs) kept[i]!.push(file.path);
    }
  }
  return kept;
}
