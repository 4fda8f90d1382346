/**
 * A database in a folder is open in one process. That process lends it to others of the same user over a socket: a statement, or a
 * transaction of several, each in its turn. What a borrower has not committed when its connection ends is undone.
 *
 * The socket is in a folder for temporary files that only its user can enter, since a socket's path has to be short; a file in the archive's
 * folder has that path.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import { writeFileAtomic } from '../../checkpoint/index.js';
import { ArchiveError, ArchiveUnavailableError } from '../../errors.js';
import type { Database, Query } from './database.js';

/** In the archive's folder: the path of the socket. */
const ADDRESS = 'database.socket';
const PREFIX = 'heddle-archive-';
/** How long a borrower may be silent in the middle of a transaction, in milliseconds: everybody else waits for it. */
const SILENCE = 60_000;

type Asked =
  | { readonly sql: string; readonly values: readonly unknown[] | undefined }
  | { readonly begin: { readonly small: boolean } }
  | 'commit';
type Told =
  | { readonly rows: unknown[] }
  | { readonly name: string; readonly message: string; readonly code: unknown };

/** The process that lent a database has ended, or lends it no more. */
export class LostDatabaseError extends ArchiveUnavailableError {}

/** Lends a database that this process alone has open. Returns the function that ends it. Throws system errors where there can be no socket. */
export async function lend(folder: string, database: Database): Promise<() => Promise<void>> {
  await forget(folder);
  const place = await mkdtemp(join(tmpdir(), PREFIX));
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.unref().on('error', () => {}));
    socket.once('close', () => sockets.delete(socket));
    answer(socket, database)
      .catch(() => {})
      .finally(() => socket.destroy());
  }).unref();
  const end = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
    await rm(place, { recursive: true, force: true });
  };
  try {
    const path = join(place, 'socket');
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(path, resolve);
    });
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
  const place = dirname(await addressIn(folder));
  if (basename(place).startsWith(PREFIX)) await rm(place, { recursive: true, force: true });
  await rm(join(folder, ADDRESS), { force: true });
}

function addressIn(folder: string): Promise<string> {
  return readFile(join(folder, ADDRESS), 'utf8').catch(() => '');
}

/** A database that another process has open. */
export class BorrowedDatabase implements Database {
  readonly shared = true;
  private readonly connections = new Set<Connection>();

  private constructor(
    private readonly path: string,
    private readonly statements: Connection,
  ) {
    this.connections.add(statements);
  }

  /** Undefined where nobody lends it. */
  static async of(folder: string): Promise<BorrowedDatabase | undefined> {
    const path = await addressIn(folder);
    if (path === '') return undefined;
    try {
      return new BorrowedDatabase(path, await Connection.to(path));
    } catch {
      return undefined;
    }
  }

  readonly query: Query = (sql, values) => this.statements.ask({ sql, values });

  async transaction<T>(work: (query: Query) => Promise<T>, { small = false } = {}): Promise<T> {
    const connection = await Connection.to(this.path);
    this.connections.add(connection);
    try {
      await connection.ask({ begin: { small } });
      const result = await work((sql, values) => connection.ask({ sql, values }));
      await connection.ask('commit');
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
  private readonly answers: AsyncGenerator<Told, void>;
  private last: Promise<unknown> = Promise.resolve();

  private constructor(private readonly socket: Socket) {
    this.answers = messagesOf<Told>(socket);
  }

  /** Throws `LostDatabaseError` where nobody listens. */
  static to(path: string): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = createConnection(path);
      const refuse = (cause: Error): void => reject(lost(cause));
      socket.once('error', refuse).once('connect', () => {
        socket
          .off('error', refuse)
          .on('error', () => {})
          .unref();
        resolve(new Connection(socket));
      });
    });
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
    this.socket.ref();
    try {
      send(this.socket, asked);
      const { value } = await this.answers.next();
      if (!value) throw lost();
      if ('rows' in value) return value.rows;
      throw errorOf(value);
    } finally {
      this.socket.unref();
    }
  }
}

function lost(cause?: unknown): LostDatabaseError {
  return new LostDatabaseError('the process that had the archive open has ended: start again', { cause });
}

function errorOf({ name, message, code }: Exclude<Told, { rows: unknown[] }>): Error {
  if (name === 'ArchiveUnavailableError') return new ArchiveUnavailableError(message);
  if (name === 'ArchiveError') return new ArchiveError(message);
  return Object.assign(new Error(message), code !== undefined && { code });
}

/** Answers a borrower until its connection ends. */
async function answer(socket: Socket, database: Database): Promise<void> {
  const messages = messagesOf<Asked>(socket);
  const reply = async (run: () => Promise<unknown[]>): Promise<void> => {
    try {
      tell({ rows: await run() });
    } catch (error) {
      const { name, message, code } = error as Error & { code?: unknown };
      tell({ name, message, code });
    }
  };
  const tell = (told: Told): void => send(socket, told);
  const run = async (asked: Asked, query: Query): Promise<unknown[]> => {
    if (asked === 'commit' || !('sql' in asked)) throw new Error('a transaction was not begun, or twice');
    return query(asked.sql, asked.values);
  };
  const transaction = async (small: boolean): Promise<unknown[]> => {
    await database.transaction(
      async (query) => {
        tell({ rows: [] });
        socket.setTimeout(SILENCE, () => socket.destroy());
        for (;;) {
          const { value: asked } = await messages.next();
          if (asked === undefined) throw lost();
          if (asked === 'commit') return;
          await reply(() => run(asked, query));
        }
      },
      { small },
    );
    return [];
  };
  for (let next = await messages.next(); !next.done; next = await messages.next()) {
    const asked = next.value;
    await reply(() =>
      asked !== 'commit' && 'begin' in asked ? transaction(asked.begin.small) : run(asked, database.query),
    );
    socket.setTimeout(0);
  }
}

/** A message is its length, in four bytes, and what V8 makes of it. */
function send(socket: Socket, message: Asked | Told): void {
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
