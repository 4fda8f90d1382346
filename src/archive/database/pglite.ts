/** PGlite: PostgreSQL in this process, with its files in a folder. */
import { existsSync } from 'node:fs';
import { access, constants, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { PGlite } from '@electric-sql/pglite';
import { ArchiveError, ArchiveUnavailableError } from '../../errors.js';
import { expectRoom, ROOM } from '../disk-room.js';
import { importFrom, PGLITE, packageFolder } from '../packages.js';
import { type Database, type Query, RANDOM_PAGE, refusal } from './database.js';
import { lend } from './lending.js';
import { hasOrigins, lostDatabase } from './origins.js';

/** As many are needed to open a database and to read it: opening it may make one such file. */
const LEAST_ROOM = 24e6;

/** In the archive's folder. */
export const FILES = 'database';

/** PostgreSQL in this process, whose data is a folder; one process at a time can open it, and lends it to others. */
export class PgliteDatabase implements Database {
  readonly shared = false;
  private last: Promise<unknown> = Promise.resolve();
  private endLending = async (): Promise<void> => {};

  private constructor(
    private readonly folder: string,
    private readonly database: PGlite,
    private readonly unlock: () => Promise<void>,
  ) {}

  /** Opens or makes the database in a folder that is locked; closing it calls `unlock`. Throws `ArchiveError`. */
  static async open(folder: string, unlock: () => Promise<void>): Promise<PgliteDatabase> {
    const files = join(folder, FILES);
    try {
      const { PGlite } = (await importFrom(
        await packageFolder(PGLITE),
        PGLITE,
      )) as typeof import('@electric-sql/pglite');
      if (!existsSync(files) && hasOrigins(folder)) throw lostDatabase(folder, 'is gone');
      await expectRoom(folder, existsSync(files) ? LEAST_ROOM : ROOM);
      if (existsSync(files)) await expectFiles(folder);
      else {
        // A folder that was begun and not finished is no database: it gets its name when it is whole.
        const begun = join(folder, `${FILES}.new`);
        await rm(begun, { recursive: true, force: true });
        await mkdir(begun, { mode: 0o700 });
        const made = await PGlite.create(begun);
        await made.close();
        await rename(begun, files);
      }
      const database = await PGlite.create(files).catch((error: unknown) => {
        // What is no Error comes from the file system, and a RangeError from memory.
        if (!(error instanceof Error) || error instanceof RangeError)
          throw refused(folder, { message: reasonOf(error) });
        throw lostDatabase(
          folder,
          `cannot be opened, as where files are missing or damaged (${error.message})`,
          error,
        );
      });
      await database.query(`SET random_page_cost = ${RANDOM_PAGE}`);
      const opened = new PgliteDatabase(folder, database, unlock);
      // Where there can be no such socket, others wait.
      opened.endLending = await lend(folder, opened).catch(() => opened.endLending);
      return opened;
    } catch (error) {
      await unlock();
      throw refused(folder, error);
    }
  }

  readonly query: Query = (sql, values) =>
    this.inTurn(async () => (await this.database.query(sql, values as unknown[])).rows as never);

  transaction<T>(work: (query: Query) => Promise<T>, { small = false } = {}): Promise<T> {
    return this.inTurn(async () => {
      await expectRoom(this.folder, small ? LEAST_ROOM : ROOM);
      return this.database.transaction((inside) =>
        work(async (sql, values) => (await inside.query(sql, values as unknown[])).rows as never),
      );
    });
  }

  async close(): Promise<void> {
    await this.endLending();
    await this.last.catch(() => {});
    await this.database.close().catch(() => {});
    await this.unlock();
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.last.catch(() => {}).then(work);
    this.last = done;
    return done.catch((error: unknown) => {
      throw refused(this.folder, error);
    });
  }
}

/** Files without which PGlite makes a new database over the one that is there, or ends in the middle. */
const NEEDED = ['PG_VERSION', 'global/pg_control'];

/** Throws `ArchiveUnavailableError` where one of them is missing, and system errors where this user may not use it. */
async function expectFiles(folder: string): Promise<void> {
  for (const name of NEEDED) {
    await access(join(folder, FILES, name), constants.R_OK | constants.W_OK).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
        throw lostDatabase(folder, `lacks files, such as ${join(FILES, name)}`);
      },
    );
  }
}

/** Codes of PostgreSQL for files of the database that are missing or damaged. */
const DAMAGE = /^(58P01|XX00[12])$/;

/** What PGlite or the file system refuses, as `ArchiveError`; any other error as it is. */
export function refused(folder: string, error: unknown): unknown {
  if (error instanceof ArchiveError) return error;
  // What PGlite's file system and its end throw is no Error.
  if (!(error instanceof Error)) {
    return new ArchiveUnavailableError(`the archive ${folder} cannot be used: ${reasonOf(error)}`, {
      cause: error,
    });
  }
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) return error;
  if (DAMAGE.test(code)) return lostDatabase(folder, `is damaged (${error.message})`, error);
  const why = /No space left|ENOSPC|53100/.test(`${error.message} ${code}`)
    ? 'the disk is full'
    : /^(EACCES|EPERM|EROFS)$/.test(code)
      ? `this user may not write to it, which searching needs, too (${error.message})`
      : error.message;
  return refusal(code, `the archive ${folder} cannot be used: ${why}. What was done before is kept.`, error);
}

function reasonOf(error: unknown): string {
  const { name, message, errno } = (error ?? {}) as { name?: string; message?: string; errno?: number };
  return message || [name, errno].filter((each) => each !== undefined).join(' ') || String(error);
}
