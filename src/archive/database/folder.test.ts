/** One process opens a database in a folder, and the others borrow it. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ArchiveError, ArchiveUnavailableError } from '../../errors.js';
import { lockFolder } from '../../platform/node/lock.js';
import type { Query } from './database.js';
import { FolderDatabase } from './folder.js';
import { BorrowedDatabase } from './lending.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-folder-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const folder = join(root, 'archive');
const open = (notice: (line: string) => void = () => {}, signal?: AbortSignal) =>
  FolderDatabase.open(folder, { create: true, notice, signal });

const numbers = async ({ query }: { query: Query }): Promise<number[]> =>
  (await query<{ n: number }>('SELECT n FROM numbers ORDER BY n')).map(({ n }) => n);

test('a borrowed database answers as the open one does, with rows and with errors', async () => {
  const own = await open();
  const borrowed = await open();
  expect([own.shared, borrowed.shared]).toEqual([false, true]);
  const address = readFileSync(join(folder, 'database.socket'), 'utf8');
  expect(statSync(dirname(address)).mode & 0o777).toBe(0o700);
  const bytes = Uint8Array.from({ length: 3e6 }, (_, i) => i % 251);
  const answers = await Promise.all(
    [own, borrowed].map(async (database) => {
      const [row] = await database.query<{ bytes: Uint8Array; text: string; list: unknown; none: null }>(
        `SELECT $1::bytea AS bytes, $2 AS text, jsonb_build_object('a', $3::text[]) AS list, NULL AS none, 1::int8 AS n`,
        [bytes, 'ä\u0001"', ['x', 'y']],
      );
      expect(Buffer.from(row!.bytes).equals(bytes)).toBe(true);
      const refused = async (work: Promise<unknown>) => {
        const error = (await work.catch((thrown: unknown) => thrown)) as Error;
        return [error.constructor, error.message];
      };
      return [
        row!.text,
        row!.list,
        row!.none,
        await refused(database.query('SELECT * FROM nowhere')),
        await refused(database.query('SELECT 1 / $1::int', [0])),
        await refused(database.transaction((query) => query('SELECT * FROM nowhere'))),
        await refused(
          database.transaction(async () => {
            throw new RangeError('own');
          }),
        ),
      ];
    }),
  );
  expect(answers[1]).toEqual(answers[0]);
  expect(answers[0]!.slice(3).map((each) => (each as unknown[])[0])).toEqual([
    ArchiveUnavailableError,
    ArchiveError,
    ArchiveUnavailableError,
    RangeError,
  ]);
  await borrowed.close();
  await own.close();
  expect([existsSync(address), readdirSync(folder)]).toEqual([false, ['database']]);
});

test('transactions of several processes come one after the other, and one that fails or breaks off changes nothing', async () => {
  const own = await open();
  await own.query('DROP TABLE IF EXISTS numbers');
  await own.query('CREATE TABLE numbers (n int)');
  const borrowers = [await open(), await open()];
  const add = (query: Query) =>
    query(`INSERT INTO numbers SELECT coalesce(max(n), 0) + 1 FROM numbers`).then(() =>
      query(`UPDATE numbers SET n = n WHERE n = 1`),
    );
  await Promise.all(
    [own, ...borrowers].flatMap((database) => Array.from({ length: 5 }, () => database.transaction(add))),
  );
  const fifteen = Array.from({ length: 15 }, (_, i) => i + 1);
  expect(await numbers(borrowers[0]!)).toEqual(fifteen);
  const failed = borrowers[0]!.transaction(async (query) => {
    await add(query);
    throw new RangeError('own');
  });
  await expect(failed).rejects.toThrow(RangeError);
  // One whose process ends in the middle of it.
  const lonely = (await BorrowedDatabase.of(folder))!;
  const broken = lonely.transaction(async (query) => {
    await add(query);
    await lonely.close();
    await query('SELECT 1');
  });
  await expect(broken).rejects.toThrow('has ended');
  expect(await numbers(borrowers[1]!)).toEqual(fifteen);
  for (const database of [...borrowers, own]) await database.close();
});

test('where the process ends that has it open, the next one takes its place, and what was not committed is done again', async () => {
  const own = await open();
  await own.query('DROP TABLE IF EXISTS numbers');
  await own.query('CREATE TABLE numbers (n int)');
  const first = await open();
  const second = await open();
  let begun = 0;
  let closing: Promise<void> | undefined;
  await first.transaction(async (query) => {
    begun++;
    await query('INSERT INTO numbers VALUES (1)');
    closing ??= own.close();
    await query('INSERT INTO numbers VALUES (2)');
  });
  await closing;
  expect(begun).toBe(2);
  expect(await numbers(second)).toEqual([1, 2]);
  await first.close();
  await second.transaction((query) => query('INSERT INTO numbers VALUES (3)'));
  const third = await open();
  expect([third.shared, await numbers(third)]).toEqual([true, [1, 2, 3]]);
  await third.close();
  await second.close();
});

test('a process that has the folder and does not lend it is waited for, until the wait is ended', async () => {
  const unlock = await lockFolder(folder, folder, 'uses it');
  const told: string[] = [];
  const stop = new AbortController();
  const waiting = open((line) => told.push(line) && stop.abort(), stop.signal);
  await expect(waiting).rejects.toThrow('aborted');
  expect(told).toEqual([`another process uses ${folder}: waiting until it is done`]);
  const opening = open();
  await unlock();
  await (await opening).close();
});
