/** One process opens a database in a folder, and the others borrow it. */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, test, vi } from 'vitest';
import { ArchiveError, ArchiveUnavailableError } from '../../errors.js';
import { lockFolder } from '../../platform/node/lock.js';
import { BorrowedDatabase } from './borrowed.js';
import type { Query } from './database.js';
import { FolderDatabase } from './folder.js';
import { LostDatabaseError } from './lending-messages.js';
import { PgliteDatabase, refused } from './pglite.js';

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

test('a copy of a folder that is lent is another database', async () => {
  const own = await open();
  const address = readFileSync(join(folder, 'database.socket'), 'utf8');
  const copy = join(root, 'copy');
  cpSync(folder, copy, { recursive: true, filter: (path) => !/lock-\d+-[^/\\]*$/.test(path) });
  expect(readFileSync(join(copy, 'database.socket'), 'utf8')).toBe(address);
  expect(await BorrowedDatabase.of(copy)).toBeUndefined();
  const copied = await FolderDatabase.open(copy, { create: false, notice: () => {} });
  await copied.query('CREATE TABLE of_the_copy ()');
  await expect(own.query('SELECT * FROM of_the_copy')).rejects.toThrow('does not exist');
  await copied.close();
  // The original is still lent.
  const borrowed = await open();
  expect([borrowed.shared, existsSync(address)]).toEqual([true, true]);
  await borrowed.close();
  await own.close();
});

test('nothing is removed but a socket that nobody answers, and nothing is asked that others may write to', async () => {
  const temporary = realpathSync(tmpdir());
  mkdirSync(folder, { recursive: true });
  const elsewhere = join(root, 'heddle-archive-elsewhere');
  const [withFile, open755, dead] = ['file', 'open', 'dead'].map(() =>
    mkdtempSync(join(temporary, 'heddle-archive-')),
  ) as [string, string, string];
  mkdirSync(elsewhere, { mode: 0o700 });
  writeFileSync(join(withFile, 'precious'), '');
  chmodSync(open755, 0o755);
  for (const place of [elsewhere, withFile, dead]) writeFileSync(join(place, 'socket'), '');
  let asked = 0;
  const server = createServer((socket) => socket.destroy(asked++ as never)).listen(join(open755, 'socket'));
  for (const place of [elsewhere, withFile, open755, dead]) {
    writeFileSync(join(folder, 'database.socket'), join(place, 'socket'));
    const own = await open();
    expect(own.shared).toBe(false);
    await own.close();
    expect(existsSync(join(place, 'socket'))).toBe(place !== dead);
  }
  expect([asked, existsSync(join(withFile, 'precious')), existsSync(dead)]).toEqual([0, true, false]);
  await new Promise((resolve) => server.close(resolve));
  for (const place of [withFile, open755]) rmSync(place, { recursive: true });
});

/** A table with one number, which each statement should raise once. */
async function counting(own: FolderDatabase): Promise<void> {
  await own.query('DROP TABLE IF EXISTS counter');
  await own.query('CREATE TABLE counter AS SELECT 0 AS n');
}
const RAISE = 'UPDATE counter SET n = n + 1';
const countOf = async ({ query }: { query: Query }) =>
  (await query<{ n: number }>('SELECT n FROM counter'))[0]!.n;

test('what borrowers asked for while the lender closes is done once', async () => {
  const own = await open();
  await counting(own);
  const borrowers = [await open(), await open(), await open()];
  let release!: () => void;
  const held = own.transaction(() => new Promise<void>((resolve) => (release = resolve)));
  const raising = borrowers.flatMap((each) => [
    each.query(RAISE),
    each.transaction((query) => query(RAISE)),
    each.query(`WITH raised AS (${RAISE} RETURNING n) SELECT n FROM raised`),
  ]);
  // They wait in the lender by now, or come when it has closed.
  await sleep(200);
  const closing = own.close();
  release();
  await Promise.all([held, closing, ...raising]);
  expect(await countOf(borrowers[0]!)).toBe(9);
  for (const each of borrowers) await each.close();
});

test.each([
  ['committed', true],
  ['not committed', false],
])('what was %s when its answer was lost is done once', async (_, isCommitted) => {
  const own = await open();
  await counting(own);
  const borrowing = vi.spyOn(BorrowedDatabase, 'of');
  const { transaction } = PgliteDatabase.prototype;
  const running = vi.spyOn(PgliteDatabase.prototype, 'transaction');
  const borrowed = await open();
  const raise = [
    () => borrowed.query(RAISE),
    () => borrowed.transaction((query) => query(RAISE)),
    () => borrowed.query(`  ${RAISE} RETURNING n`),
  ];
  for (const [done, each] of raise.entries()) {
    const connections = (await borrowing.mock.results.at(-1)!.value) as BorrowedDatabase;
    running.mockImplementationOnce(async function (this: PgliteDatabase, work, options) {
      const result = await transaction.call(
        this,
        async (query) => {
          const inside = await work(query);
          if (isCommitted) return inside;
          await connections.close();
          throw new LostDatabaseError('the process ends');
        },
        options,
      );
      await connections.close();
      return result as never;
    });
    const rows = await each();
    expect(await countOf(own)).toBe(done + 1);
    if (done === 2) expect(rows).toEqual([{ n: 3 }]);
  }
  expect(running).toHaveBeenCalled();
  vi.restoreAllMocks();
  await borrowed.close();
  await own.close();
});

test('where nobody can open the database for now, the next call tries again', async () => {
  const own = await open();
  await counting(own);
  const borrowed = await open();
  await own.close();
  const files = join(folder, 'database');
  renameSync(files, `${files}.away`);
  writeFileSync(files, '');
  for (let i = 0; i < 2; i++) {
    const error = await countOf(borrowed).catch((thrown: unknown) => thrown as Error);
    expect(error).toBeInstanceOf(Error);
    expect((error as Error).message).not.toBe('');
  }
  rmSync(files);
  renameSync(`${files}.away`, files);
  expect(await countOf(borrowed)).toBe(0);
  await borrowed.close();
  // What is closed opens nothing.
  await expect(borrowed.query(RAISE)).rejects.toThrow();
  expect(readdirSync(folder)).toEqual(['database']);
});

test('what is thrown and is no error has a message', () => {
  const error = refused(folder, { name: 'ErrnoError', errno: 20 });
  expect(error).toBeInstanceOf(ArchiveUnavailableError);
  expect((error as Error).message).toBe(`the archive ${folder} cannot be used: ErrnoError 20`);
});

test('a lender that does not answer is told, and the wait for it can be ended', async () => {
  const unlock = await lockFolder(folder, folder, 'uses it');
  const place = mkdtempSync(join(realpathSync(tmpdir()), 'heddle-archive-'));
  const server = createServer(() => {}).listen(join(place, 'socket'));
  writeFileSync(join(folder, 'database.socket'), join(place, 'socket'));
  const told: string[] = [];
  const stop = new AbortController();
  const waiting = open((line) => told.push(line) && stop.abort(), stop.signal);
  await expect(waiting).rejects.toThrow('aborted');
  expect(told).toEqual([`the process that has ${folder} open does not answer: waiting for it`]);
  server.close();
  rmSync(place, { recursive: true, force: true });
  await unlock();
});

test('a lender that stops answering holds nobody up who is told to end, and what it answers in time is still done', async () => {
  const own = await open();
  await own.query('DROP TABLE IF EXISTS numbers');
  await own.query('CREATE TABLE numbers (n int)');
  const told: string[] = [];
  const stop = new AbortController();
  const borrowed = await open((line) => told.push(line), stop.signal);
  expect(borrowed.shared).toBe(true);
  let goOn = (): void => {};
  const stopped = own.transaction(() => new Promise<void>((resolve) => (goOn = resolve)));
  const [reading, writing] = [
    borrowed.query('SELECT n FROM numbers'),
    borrowed.transaction((query) => query('INSERT INTO numbers VALUES (1)')),
  ];
  const ends = Promise.allSettled([reading, writing]);
  await vi.waitUntil(() => told.length > 0, { timeout: 60_000 });
  stop.abort();
  expect((await ends).map((each) => each.status === 'rejected' && each.reason)).toEqual([
    stop.signal.reason,
    stop.signal.reason,
  ]);
  goOn();
  await stopped;
  expect(await numbers(own)).toEqual([]);
  await borrowed.close();
  // One that answers: what was begun is finished.
  const late = new AbortController();
  const other = await open(undefined, late.signal);
  await other.transaction(async (query) => {
    late.abort();
    await query('INSERT INTO numbers VALUES (2)');
  });
  expect(await numbers(other)).toEqual([2]);
  await other.close();
  await own.close();
});

test('a folder that another machine has open is refused, and stays locked', async () => {
  const lock = join(folder, `lock-${process.pid}-other.lan`);
  writeFileSync(lock, '');
  const opening = open();
  await expect(opening).rejects.toBeInstanceOf(ArchiveUnavailableError);
  await expect(opening).rejects.toThrow(
    `the archive ${folder} is open on the machine other.lan (process ${process.pid})`,
  );
  expect(existsSync(lock)).toBe(true);
  rmSync(lock);
  await (await open()).close();
});
