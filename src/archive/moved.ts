/** An archive in a folder that was moved or copied: what was uploaded into it lies at other paths than before. */
import { existsSync } from 'node:fs';
import { sep } from 'node:path';
import type { Archive } from './archive.js';
import { uploadsOf } from './places.js';

/** Has the archive know its uploads by the paths that they have now, where they are there. Whoever calls it has the folder to itself. */
export async function followMove(archive: Archive): Promise<void> {
  const now = uploadsOf(archive);
  await archive.database.transaction(
    async (query) => {
      const [about] = await query<{ uploads: string | null }>('SELECT uploads FROM archive_about');
      const before = about!.uploads;
      if (before === now) return;
      await query('UPDATE archive_about SET uploads = $1', [now]);
      if (before === null) return;
      const files = await query<{ path: string }>(
        'SELECT path FROM archive_files WHERE left(path, length($1)) = $1',
        [`${before}${sep}`],
      );
      const renamed = files
        .map(({ path }) => ({ old: path, path: now + path.slice(before.length) }))
        .filter(({ path }) => existsSync(path));
      const names = [renamed.map(({ old }) => old), renamed.map(({ path }) => path)];
      const among = 'unnest($1::text[], $2::text[]) AS name (old, path) ON name.old';
      await query(
        `INSERT INTO archive_files SELECT name.path, size, modified, changed, content, problem
         FROM archive_files f JOIN ${among} = f.path ON CONFLICT DO NOTHING`,
        names,
      );
      await query(
        `INSERT INTO archive_uploads SELECT name.path, content
         FROM archive_uploads f JOIN ${among} = f.path ON CONFLICT DO NOTHING`,
        names,
      );
      await query(
        `INSERT INTO archive_removed SELECT $2 || right(path, -length($1)) FROM archive_removed
         WHERE left(path, length($1)) = $1 ON CONFLICT DO NOTHING`,
        [`${before}${sep}`, `${now}${sep}`],
      );
      await query('DELETE FROM archive_files WHERE path = ANY($1::text[])', [names[0]]);
      await query(
        'INSERT INTO archive_roots SELECT $2 FROM archive_roots WHERE path = $1 ON CONFLICT DO NOTHING',
        [before, now],
      );
      // Of a copy without its uploads, those of the original are still meant.
      if (renamed.length === files.length) await query('DELETE FROM archive_roots WHERE path = $1', [before]);
    },
    { small: true },
  );
}
