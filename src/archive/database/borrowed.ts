/** A database that another process lends (lending.ts), for the one that borrows it. */
import { randomUUID } from 'node:crypto';
import { createConnection, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { ArchiveError, ArchiveUnavailableError } from '../../errors.js';
import type { Database, Notice, Query } from './database.js';
import { addressIn, identityOf, isOurs } from './lending-address.js';
import {
  type Asked,
  type Greeting,
  LostDatabaseError,
  lost,
  messagesOf,
  send,
  type Told,
} from './lending-messages.js';

/** How long nothing is said of a process that does not answer, in milliseconds. */
const PATIENCE = 5000;

/** A `LostDatabaseError` before the answer to a commit: `committed` tells of the database, once it is open again, whether it was done. */
export class LostCommitError extends LostDatabaseError {
  constructor(
    private readonly id: string,
    /** What the transaction returns. */
    readonly result: unknown,
    cause: unknown,
  ) {
    super((cause as Error).message, { cause });
  }

  async committed(query: Query): Promise<boolean> {
    return (await query('SELECT 1 FROM archive_commits WHERE id = $1', [this.id])).length > 0;
  }
}

interface BorrowOptions {
  readonly notice?: Notice;
  /** Ends waits for a process that does not answer. */
  readonly signal?: AbortSignal | undefined;
}

/** A database that another process has open. */
export class BorrowedDatabase implements Database {
  readonly shared = true;
  private readonly connections = new Set<Connection>();

  private constructor(
    private readonly connect: () => Promise<Connection>,
    private readonly statements: Connection,
  ) {
    this.connections.add(statements);
  }

  /** Undefined where nobody lends it. `notice` is told once that the other process does not answer. */
  static async of(
    folder: string,
    { notice = () => {}, signal }: BorrowOptions = {},
  ): Promise<BorrowedDatabase | undefined> {
    const path = await addressIn(folder);
    // What comes from there is believed.
    if (path === '' || !(await isOurs(dirname(path)))) return undefined;
    let told = false;
    const late = (): void => {
      if (!told) notice(`the process that has ${folder} open does not answer: waiting for it`);
      told = true;
    };
    try {
      const identity = await identityOf(folder);
      const connect = (options?: { isOpening: boolean }) =>
        Connection.to(path, identity, late, signal, options);
      return new BorrowedDatabase(connect, await connect({ isOpening: true }));
    } catch {
      return undefined;
    }
  }

  readonly query: Query = (sql, values) =>
    // What reads can be done twice; of what writes it must be known whether it was done.
    /^\s*SELECT\b/i.test(sql)
      ? this.statements.ask({ sql, values })
      : this.transaction((query) => query(sql, values), { small: true });

  async transaction<T>(work: (query: Query) => Promise<T>, { small = false } = {}): Promise<T> {
    const connection = await this.connect();
    this.connections.add(connection);
    try {
      await connection.ask({ begin: { small } });
      const result = await work((sql, values) => connection.ask({ sql, values }));
      const id = randomUUID();
      await connection.ask({ commit: id }).catch((error: unknown) => {
        throw error instanceof LostDatabaseError ? new LostCommitError(id, result, error) : error;
      });
      return result;
    } finally {
      this.connections.delete(connection);
      connection.close();
    }
  }

  async close(): Promise<void> {
    for (const connection of this.connections) connection.close();
  }
}

/** A connection of a borrower, which asks for one thing after the other. It keeps the process from ending while it waits for an answer. */
class Connection {
  private readonly answers: AsyncGenerator<Greeting | Told, void>;
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly socket: Socket,
    private readonly late: () => void,
    private readonly signal: AbortSignal | undefined,
  ) {
    this.answers = messagesOf<Greeting | Told>(socket);
  }

  /** Throws `LostDatabaseError` where nobody lends this folder. */
  static async to(
    path: string,
    identity: string,
    late: () => void,
    signal: AbortSignal | undefined,
    { isOpening = false } = {},
  ): Promise<Connection> {
    const socket = createConnection(path);
    await new Promise<void>((resolve, reject) => {
      const refuse = (cause: Error): void => reject(lost(cause));
      socket.once('error', refuse).once('connect', () => {
        socket.off('error', refuse).on('error', () => {});
        resolve();
      });
    });
    const connection = new Connection(socket, late, signal);
    try {
      const greeting = await connection.heard({ isOpening });
      if ('folder' in greeting && greeting.folder === identity) return connection;
      throw lost();
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  ask<Row>(asked: Asked): Promise<Row[]> {
    const answered = this.last.then(() => this.answerTo(asked));
    this.last = answered.catch(() => undefined);
    return answered as Promise<Row[]>;
  }

  close(): void {
    this.socket.destroy();
  }

  private async answerTo(asked: Asked): Promise<unknown[]> {
    send(this.socket, asked);
    const told = await this.heard();
    if ('rows' in told) return told.rows;
    throw 'name' in told ? errorOf(told) : lost();
  }

  /**
   * What the lender says next. Throws `LostDatabaseError` where it says nothing more, or too late for a signal that is aborted: what was begun may
   * still be finished then, but for a greeting nobody waits any more.
   */
  private async heard({ isOpening = false } = {}): Promise<Greeting | Told> {
    let isLate = isOpening;
    const stop = (): void => {
      if (isLate && this.signal?.aborted) this.close();
    };
    stop();
    const timer = setTimeout(() => {
      isLate = true;
      this.late();
      stop();
    }, PATIENCE).unref();
    this.signal?.addEventListener('abort', stop);
    this.socket.ref();
    try {
      const { value } = await this.answers.next();
      if (!value) throw lost();
      return value;
    } finally {
      clearTimeout(timer);
      this.signal?.removeEventListener('abort', stop);
      this.socket.unref();
    }
  }
}

function errorOf({ name, message, code }: Exclude<Told, { rows: unknown[] }>): Error {
  if (name === 'LostDatabaseError') return new LostDatabaseError(message);
  if (name === 'ArchiveUnavailableError') return new ArchiveUnavailableError(message);
  if (name === 'ArchiveError') return new ArchiveError(message);
  return Object.assign(new Error(message), code !== undefined && { code });
}
