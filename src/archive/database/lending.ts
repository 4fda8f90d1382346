/**
 * A database in a folder is open in one process. That process lends it to others of the same user over a socket: a statement that reads, or a
 * transaction, each in its turn. What a borrower has not committed when its connection ends is undone. A commit leaves its name in a table, so that
 * a borrower whose answer was lost finds out whether it was done.
 *
 * The socket is in a folder for temporary files that only its user can enter, since a socket's path has to be short; a file in the archive's
 * folder has that path. A copy of the folder has a copy of that file: whoever lends says first which folder it has.
 */
import { randomUUID } from 'node:crypto';
import { lstat, mkdtemp, readdir, readFile, realpath, rm, rmdir, stat } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { writeFileAtomic } from '../../checkpoint/index.js';
import { ArchiveError, ArchiveUnavailableError } from '../../errors.js';
import type { Database, Notice, Query } from './database.js';

/** In the archive's folder: the path of the socket. */
const ADDRESS = 'database.socket';
const PREFIX = 'heddle-archive-';
const SOCKET = 'socket';
/** How long a borrower may be silent in the middle of a transaction, in milliseconds: everybody else waits for it. */
const SILENCE = 60_000;
/** How long a borrower may take to receive its last answer, in milliseconds. */
const FAREWELL = 1000;
/** How long nothing is said of a process that does not answer, in milliseconds. */
const PATIENCE = 5000;

/** Names of what borrowers have committed. Nobody asks for one after a day. */
const COMMITS = [
  'CREATE TABLE IF NOT EXISTS archive_commits (id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())',
  `DELETE FROM archive_commits WHERE at < now() - interval '1 day'`,
];

/** What a lender says first: which folder it has. */
interface Greeting {
  readonly folder: string;
}
interface Statement {
  readonly sql: string;
  readonly values: readonly unknown[] | undefined;
}
type Asked = Statement | { readonly begin: { readonly small: boolean } } | { readonly commit: string };
type Told =
  | { readonly rows: unknown[] }
  | { readonly name: string; readonly message: string; readonly code: unknown };

/** The process that lent a database has ended, or lends it no more. Nothing of what was asked is done. */
export class LostDatabaseError extends ArchiveUnavailableError {}

/** The same before the answer to a commit: `committed` tells of the database, once it is open again, whether it was done. */
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

/**
 * Lends a database that this process alone has open. Returns the function that ends it: what runs is finished and answered, what waits is
 * not begun. Throws system errors where there can be no socket.
 */
export async function lend(folder: string, database: Database): Promise<() => Promise<void>> {
  await forget(folder);
  for (const sql of COMMITS) await database.query(sql);
  const place = await mkdtemp(join(await realpath(tmpdir()), PREFIX));
  const lender = new Lender(database, { folder: await identityOf(folder) });
  const end = async (): Promise<void> => {
    await lender.end();
    await removePlace(place);
  };
  try {
    const path = join(place, SOCKET);
    await lender.listen(path);
    await writeFileAtomic(join(folder, ADDRESS), path);
  } catch (error) {
    await end();
    throw error;
  }
  return async () => {
    await end();
    await rm(join(folder, ADDRESS), { force: true });
  };
}

/** Removes what a process has left that was killed while it lent the database. Whoever calls it has the folder's lock. */
async function forget(folder: string): Promise<void> {
  const path = await addressIn(folder);
  const place = dirname(path);
  const isOne = basename(path) === SOCKET && dirname(place) === (await realpath(tmpdir()));
  if (isOne && (await isOurs(place)) && !(await isAnswered(path))) await removePlace(place);
  await rm(join(folder, ADDRESS), { force: true });
}

/** Removes a folder with nothing but a socket in it; any other one stays. */
async function removePlace(place: string): Promise<void> {
  const names = await readdir(place).catch(() => undefined);
  if (!names?.every((name) => name === SOCKET)) return;
  await rm(join(place, SOCKET), { force: true });
  await rmdir(place).catch(() => {});
}

/** Whether it is a folder for a socket that only this user can enter. */
async function isOurs(place: string): Promise<boolean> {
  const found = await lstat(place).catch(() => undefined);
  return (
    basename(place).startsWith(PREFIX) &&
    found?.isDirectory() === true &&
    found.uid === process.getuid?.() &&
    (found.mode & 0o777) === 0o700
  );
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    const tell = (is: boolean): void => {
      socket.destroy();
      resolve(is);
    };
    socket.once('connect', () => tell(true)).once('error', () => tell(false));
  });
}

function addressIn(folder: string): Promise<string> {
  return readFile(join(folder, ADDRESS), 'utf8').catch(() => '');
}

/** Tells a folder from its copies. */
async function identityOf(folder: string): Promise<string> {
  const { dev, ino } = await stat(folder, { bigint: true });
  return `${dev}-${ino}`;
}

/** Answers borrowers. */
class Lender {
  private readonly server: Server;
  private readonly borrowers = new Set<Promise<unknown>>();
  /** Ends the waits for what borrowers say next. */
  private readonly waits = new Set<() => void>();
  private isEnding = false;

  constructor(
    private readonly database: Database,
    private readonly greeting: Greeting,
  ) {
    this.server = createServer((socket) => {
      socket
        .on('error', () => {})
        .on('timeout', () => socket.destroy())
        .unref();
      const served = this.serve(socket)
        .catch(() => {})
        .then(() => farewell(socket))
        .finally(() => this.borrowers.delete(served));
      this.borrowers.add(served);
    }).unref();
  }

  listen(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject).listen(path, resolve);
    });
  }

  /** Returns when all that was begun is done and answered. */
  async end(): Promise<void> {
    this.isEnding = true;
    const closed = this.server.listening && new Promise((resolve) => this.server.close(resolve));
    for (const stop of this.waits) stop();
    await Promise.all(this.borrowers);
    await closed;
  }

  /** Answers a borrower until its connection ends, or the lending. */
  private async serve(socket: Socket): Promise<void> {
    const messages = messagesOf<Asked>(socket);
    send(socket, this.greeting);
    for (;;) {
      const asked = await this.next(messages);
      if (asked === undefined) return;
      await reply(socket, () =>
        'begin' in asked
          ? this.transaction(socket, messages, asked.begin.small)
          : run(asked, this.database.query),
      );
    }
  }

  private async transaction(
    socket: Socket,
    messages: AsyncGenerator<Asked, void>,
    small: boolean,
  ): Promise<unknown[]> {
    await this.database.transaction(
      async (query) => {
        if (this.isEnding) throw lost();
        send(socket, { rows: [] });
        for (;;) {
          socket.setTimeout(SILENCE);
          const asked = await this.next(messages);
          socket.setTimeout(0);
          if (asked === undefined) throw lost();
          if ('commit' in asked) {
            await query('INSERT INTO archive_commits (id) VALUES ($1)', [asked.commit]);
            return;
          }
          await reply(socket, () => run(asked, query));
        }
      },
      { small },
    );
    return [];
  }

  /** Undefined where the connection or the lending has ended. */
  private async next(messages: AsyncGenerator<Asked, void>): Promise<Asked | undefined> {
    if (this.isEnding) return undefined;
    let stop!: () => void;
    const stopped = new Promise<undefined>((resolve) => {
      stop = () => resolve(undefined);
    });
    this.waits.add(stop);
    try {
      return await Promise.race([messages.next().then(({ value }) => value ?? undefined), stopped]);
    } finally {
      this.waits.delete(stop);
    }
  }
}

async function reply(socket: Socket, work: () => Promise<unknown[]>): Promise<void> {
  try {
    send(socket, { rows: await work() });
  } catch (error) {
    const { name, message, code } = error as Error & { code?: unknown };
    send(socket, { name, message, code });
  }
}

async function run(asked: Asked, query: Query): Promise<unknown[]> {
  if (!('sql' in asked)) throw new Error('a transaction was not begun, or twice');
  return query(asked.sql, asked.values);
}

/** Ends a connection when what was said has been received. */
async function farewell(socket: Socket): Promise<void> {
  const timer = setTimeout(() => socket.destroy(), FAREWELL);
  await new Promise<void>((resolve) => {
    socket.once('close', resolve).end(resolve);
  });
  clearTimeout(timer);
  socket.destroy();
}

interface BorrowOptions {
  readonly notice?: Notice;
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
      const connect = (stop?: AbortSignal) => Connection.to(path, identity, late, stop);
      return new BorrowedDatabase(() => connect(), await connect(signal));
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
  ) {
    this.answers = messagesOf<Greeting | Told>(socket);
  }

  /** Throws `LostDatabaseError` where nobody lends this folder, or the wait for the greeting is ended. */
  static async to(
    path: string,
    identity: string,
    late: () => void,
    signal: AbortSignal | undefined,
  ): Promise<Connection> {
    const socket = createConnection(path);
    await new Promise<void>((resolve, reject) => {
      const refuse = (cause: Error): void => reject(lost(cause));
      socket.once('error', refuse).once('connect', () => {
        socket.off('error', refuse).on('error', () => {});
        resolve();
      });
    });
    const connection = new Connection(socket, late);
    const stop = (): void => connection.close();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      if (signal?.aborted) throw lost();
      const greeting = await connection.heard();
      if ('folder' in greeting && greeting.folder === identity) return connection;
      throw lost();
    } catch (error) {
      connection.close();
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
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

  /** What the lender says next. Throws `LostDatabaseError` where it says nothing more. */
  private async heard(): Promise<Greeting | Told> {
    const timer = setTimeout(this.late, PATIENCE).unref();
    this.socket.ref();
    try {
      const { value } = await this.answers.next();
      if (!value) throw lost();
      return value;
    } finally {
      clearTimeout(timer);
      this.socket.unref();
    }
  }
}

function lost(cause?: unknown): LostDatabaseError {
  return new LostDatabaseError('the process that had the archive open has ended: start again', { cause });
}

function errorOf({ name, message, code }: Exclude<Told, { rows: unknown[] }>): Error {
  if (name === 'LostDatabaseError') return new LostDatabaseError(message);
  if (name === 'ArchiveUnavailableError') return new ArchiveUnavailableError(message);
  if (name === 'ArchiveError') return new ArchiveError(message);
  return Object.assign(new Error(message), code !== undefined && { code });
}

/** A message is its length, in four bytes, and what V8 makes of it. */
function send(socket: Socket, message: Greeting | Asked | Told): void {
  const bytes = serialize(message);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  socket.write(length);
  socket.write(bytes);
}

/** Messages until the connection ends, or fails. */
async function* messagesOf<Message>(socket: Socket): AsyncGenerator<Message, void> {
  let parts: Buffer[] = [];
  let size = 0;
  let needed = 4;
  try {
    for await (const part of socket) {
      parts.push(part as Buffer);
      size += (part as Buffer).length;
      if (size < needed) continue;
      let held = Buffer.concat(parts);
      while (held.length >= 4 && held.length >= 4 + held.readUInt32LE()) {
        const end = 4 + held.readUInt32LE();
        yield deserialize(held.subarray(4, end)) as Message;
        held = held.subarray(end);
      }
      parts = [held];
      size = held.length;
      needed = held.length < 4 ? 4 : 4 + held.readUInt32LE();
    }
  } catch {
    // It is over, whatever the reason.
  }
}
