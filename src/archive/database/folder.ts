/**
 * A database in a folder, which any number of processes use at the same time: the first one opens it and lends it to the others. When that
 * one ends, the next takes its place, and what was not committed is done again.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeFolder } from '../../checkpoint/index.js';
import { ArchiveError, ArchiveUnavailableError } from '../../errors.js';
import { LockedError, lockFolder } from '../../platform/node/lock.js';
import { BorrowedDatabase, LostCommitError } from './borrowed.js';
import type { Database, Notice, Query } from './database.js';
import { LostDatabaseError } from './lending-messages.js';
import { hasOrigins, lostDatabase } from './origins.js';
import { FILES, PgliteDatabase, refused } from './pglite.js';

/** How long nothing is said of a process that has the folder and does not lend it, in milliseconds: it may be about to. */
const QUIET = 2000;
const PAUSE = 100;

interface FolderOptions {
  readonly create: boolean;
  readonly notice: Notice;
  readonly signal?: AbortSignal | undefined;
}

type Opened = PgliteDatabase | BorrowedDatabase;

/** PGlite in this process, or in another one that lends it. */
export class FolderDatabase implements Database {
  private isClosed = false;

  private constructor(
    private readonly folder: string,
    private readonly options: FolderOptions,
    private current: Promise<Opened> | undefined,
    readonly shared: boolean,
  ) {}

  /** Throws `ArchiveError` where there is no database and none is to be made, and the signal's reason when it is aborted. */
  static async open(folder: string, options: FolderOptions): Promise<FolderDatabase> {
    if (!options.create && !existsSync(join(folder, FILES))) {
      if (hasOrigins(folder)) throw lostDatabase(folder, 'is gone');
      throw new ArchiveError(
        `there is no archive in ${folder}: add documents first, or name another with --archive`,
      );
    }
    const database = await openOrBorrow(folder, options);
    return new FolderDatabase(folder, options, Promise.resolve(database), database.shared);
  }

  readonly query: Query = (sql, values) => this.using((database) => database.query(sql, values));

  transaction<T>(work: (query: Query) => Promise<T>, options?: { readonly small?: boolean }): Promise<T> {
    return this.using((database) => database.transaction(work, options));
  }

  async close(): Promise<void> {
    this.isClosed = true;
    await this.current?.then(
      (database) => database.close(),
      () => undefined,
    );
  }

  private async using<T>(run: (database: Database) => Promise<T>): Promise<T> {
    for (;;) {
      this.current ??= this.reopen();
      const opened = this.current;
      const database = await opened;
      try {
        return await run(database);
      } catch (error) {
        if (!(error instanceof LostDatabaseError) || this.isClosed) throw refused(this.folder, error);
        if (this.current === opened) this.current = undefined;
        await database.close();
        if (error instanceof LostCommitError && (await error.committed(this.query))) return error.result as T;
      }
    }
  }

  /** Where it fails, the next call tries again. */
  private async reopen(): Promise<Opened> {
    try {
      const database = this.isClosed ? undefined : await openOrBorrow(this.folder, this.options);
      if (database && !this.isClosed) return database;
      await database?.close();
      throw new ArchiveUnavailableError(`the archive ${this.folder} was closed`);
    } catch (error) {
      this.current = undefined;
      throw error;
    }
  }
}

/** Waits while another process of this machine has the folder and does not lend it. */
async function openOrBorrow(folder: string, { notice, signal }: FolderOptions): Promise<Opened> {
  await makeFolder(folder);
  const began = performance.now();
  for (let told = false; ; ) {
    const borrowed = await BorrowedDatabase.of(folder, { notice, signal });
    if (borrowed) return borrowed;
    try {
      return await PgliteDatabase.open(folder, await lockFolder(folder, folder, 'uses it'));
    } catch (error) {
      if (!(error instanceof LockedError)) throw refused(folder, error);
      const { machine, pid, name } = error.holder;
      if (machine !== undefined) {
        throw new ArchiveUnavailableError(
          `the archive ${folder} is open on the machine ${machine} (process ${pid}), and a folder is for one machine at a time: try again when it is done there. If that process has ended, remove ${join(folder, name)}. Several machines share an archive on PostgreSQL: --archive postgres://user@host/database`,
        );
      }
    }
    signal?.throwIfAborted();
    if (!told && performance.now() - began > QUIET) {
      told = true;
      notice(`another process uses ${folder}: waiting until it is done`);
    }
    await sleep(PAUSE, undefined, { ...(signal && { signal }) }).catch(() => signal?.throwIfAborted());
  }
}
