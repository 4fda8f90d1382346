/**
 * A database in a folder is open in one process. That process lends it to others of the same user over a socket: a statement that reads, or a
 * transaction, each in its turn. What a borrower has not committed when its connection ends is undone. A commit leaves its name in a table, so that
 * a borrower whose answer was lost finds out whether it was done.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Database, Query } from './database.js';
import { forget, identityOf, makePlace, publish, removePlace, SOCKET, withdraw } from './lending-address.js';
import { type Asked, type Greeting, lost, messagesOf, send } from './lending-messages.js';

/** How long a borrower may be silent in the middle of a transaction, in milliseconds: everybody else waits for it. */
const SILENCE = 60_000;
/** How long a borrower may take to receive its last answer, in milliseconds. */
const FAREWELL = 1000;

/** Names of what borrowers have committed. Nobody asks for one after a day. */
const COMMITS = [
  'CREATE TABLE IF NOT EXISTS archive_commits (id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())',
  `DELETE FROM archive_commits WHERE at < now() - interval '1 day'`,
];

/**
 * Lends a database that this process alone has open. Returns the function that ends it: what runs is finished and answered, what waits is
 * not begun. Throws system errors where there can be no socket.
 */
export async function lend(folder: string, database: Database): Promise<() => Promise<void>> {
  await forget(folder);
  for (const sql of COMMITS) await database.query(sql);
  const place = await makePlace();
  const lender = new Lender(database, { folder: await identityOf(folder) });
  const end = async (): Promise<void> => {
    await lender.end();
    await removePlace(place);
  };
  try {
    const path = join(place, SOCKET);
    await lender.listen(path);
    await publish(folder, path);
  } catch (error) {
    await end();
    throw error;
  }
  return async () => {
    await end();
    await withdraw(folder);
  };
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
