/** Where the parts of an archive lie: in its folder, or for a database on a server in the default one. */
import { resolve } from 'node:path';
import { isUrl } from './database/open.js';

/** Where archives are by default. */
export const ARCHIVE_FOLDER = 'heddle-archive';

/** The archive's folder: for a database elsewhere, that of its states and uploads. */
export function folderOf(place: string): string {
  return isUrl(place) ? ARCHIVE_FOLDER : place;
}

/** Where the states of an archive are by default. */
export function statesOf(place: string): string {
  return `${folderOf(place)}/states`;
}

/** Where an archive keeps what was uploaded. Files of other people may lie there too. */
export function uploadsOf({ place }: { readonly place: string }): string {
  return resolve(folderOf(place), 'documents');
}
