/** Opens the database at a place. */
import type { Database, Notice } from './database.js';
import { FolderDatabase } from './folder.js';
import { PostgresDatabase } from './postgres.js';

/** Whether a place is PostgreSQL's, and no folder. */
export function isUrl(place: string): boolean {
  return /^postgres(ql)?:\/\//.test(place);
}

/**
 * The database at a place: `postgres://user@host/name`, or a folder, which is made with a database in it where there is none unless `create` is
 * false. Throws `ArchiveError` where it cannot be opened.
 */
export function openDatabase(
  place: string,
  { create, notice, signal }: { create: boolean; notice: Notice; signal?: AbortSignal | undefined },
): Promise<Database> {
  return isUrl(place)
    ? PostgresDatabase.open(place, notice)
    : FolderDatabase.open(place, { create, notice, signal });
}
