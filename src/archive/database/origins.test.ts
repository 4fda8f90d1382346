/** A database that lacks files is never replaced by an empty one, and the error says how the archive is made again. */
import { cpSync, existsSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ArchiveUnavailableError } from '../../errors.js';
import { Archive } from '../archive.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-origins-'));
const made = join(root, 'made');
const place = join(root, 'archive');
afterAll(() => rmSync(root, { recursive: true, force: true }));

beforeAll(async () => {
  const archive = await Archive.open({ place: made, create: true, language: 'german' });
  await archive.addRoot('/papers of 1999');
  await archive.addRoot(join(place, 'documents'));
  await archive.addRoot('/letters');
  await archive.removeFiles(['/letters'], { forGood: true });
  await archive.close();
});

const again = `archive add ${process.platform === 'win32' ? '"/papers of 1999"' : "'/papers of 1999'"} ${join(root, 'archive-damaged', 'documents')} --archive ${place} --language german`;

test.each([
  ['all of it', '', 'is gone'],
  ['its version', 'PG_VERSION', 'lacks files, such as database/PG_VERSION'],
  ['its control file', 'global/pg_control', 'lacks files, such as database/global/pg_control'],
  ['its log', 'pg_wal', 'cannot be opened'],
  ['its tables', 'base', 'cannot be opened'],
])('a database that lacks %s', async (_, path, why) => {
  rmSync(place, { recursive: true, force: true });
  cpSync(made, place, { recursive: true });
  const lacking = join(place, 'database', path);
  rmSync(lacking, { recursive: true });
  for (const create of [true, false]) {
    const error = await Archive.open({ place, create }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ArchiveUnavailableError);
    expect((error as Error).message).toContain(`the database of the archive ${place} ${why}`);
    expect((error as Error).message).toContain(again);
    expect(existsSync(lacking)).toBe(false);
  }
});

test('a table whose file is missing', async () => {
  rmSync(place, { recursive: true, force: true });
  cpSync(made, place, { recursive: true });
  const whole = await Archive.open({ place });
  const [table] = await whole.database.query<{ path: string }>(
    `SELECT pg_relation_filepath('archive_passages') AS path`,
  );
  await whole.close();
  rmSync(join(place, 'database', table!.path));
  const archive = await Archive.open({ place });
  const asked = archive.totals();
  await expect(asked).rejects.toBeInstanceOf(ArchiveUnavailableError);
  await expect(asked).rejects.toThrow(`the database of the archive ${place} is damaged`);
  await expect(asked).rejects.toThrow(again);
  await archive.close();
});

test('where many files were added, the error names the file that lists them', async () => {
  rmSync(place, { recursive: true, force: true });
  cpSync(made, place, { recursive: true });
  const archive = await Archive.open({ place });
  for (let i = 0; i < 10; i++) await archive.addRoot(`/papers/${i}`);
  await archive.close();
  truncateSync(join(place, 'database', 'PG_VERSION'));
  const opening = Archive.open({ place });
  await expect(opening).rejects.toThrow(
    `archive add FILES-AND-FOLDERS --archive ${place} --language german (${join(root, 'archive-damaged', 'origins.json')} lists them)`,
  );
});
