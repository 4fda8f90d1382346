/** PostgreSQL, by node-postgres. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { ArchiveError } from '../../errors.js';
import { type Database, type Notice, type Query, RANDOM_PAGE, refusal } from './database.js';

/** How long a database that has gone away is waited for, in milliseconds: it may be starting again. */
const PATIENCE = 120_000;
const CONNECTIONS = 8;

/** A PostgreSQL server, which several processes and machines can use at once. */
export class PostgresDatabase implements Database {
  readonly shared = true;

  private constructor(
    private readonly pool: pg.Pool,
    private readonly name: string,
    private readonly notice: Notice,
  ) {}

  static async open(place: string, notice: Notice): Promise<PostgresDatabase> {
    const pool = new pg.Pool({
      connectionString: place,
      max: CONNECTIONS,
      connectionTimeoutMillis: 10_000,
      application_name: 'heddle archive',
      options: `-c random_page_cost=${RANDOM_PAGE}`,
    });
    // A connection that ends while nobody uses it: the next query finds out.
    pool.on('error', () => {});
    // Without the password, if there is one.
    const name = place.replace(/\/\/([^@/]*)@/, (_, user: string) => `//${user.split(':')[0]}@`);
    const database = new PostgresDatabase(pool, name, notice);
    try {
      await pool.query('SELECT 1');
    } catch (error) {
      await pool.end();
      throw database.failed(error);
    }
    return database;
  }

  readonly query: Query = (sql, values) =>
    this.patiently(async () => (await this.pool.query(sql, values as unknown[])).rows);

  transaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    return this.patiently(async () => {
      const client = await this.pool.connect();
      let lost: Error | undefined;
      // What a connection says when it ends between two queries.
      const onError = (error: Error): void => {
        lost = error;
      };
      client.on('error', onError);
      try {
        await client.query('BEGIN');
        const result = await work(async (sql, values) => (await client.query(sql, values as unknown[])).rows);
        await client.query('COMMIT');
        return result;
      } catch (error) {
        if (!isConnection(error)) await client.query('ROLLBACK').catch(() => {});
        else lost = error as Error;
        throw error;
      } finally {
        client.off('error', onError);
        client.release(lost);
      }
    });
  }

  async close(): Promise<void> {
    await this.pool.end();
  }

  /** Does it again where the connection is lost, until the database is back or patience is at its end. */
  private async patiently<T>(work: () => Promise<T>): Promise<T> {
    const until = performance.now() + PATIENCE;
    for (let pause = 100, told = false; ; pause = Math.min(2 * pause, 5000)) {
      try {
        const result = await work();
        if (told) this.notice(`${this.name} is back`);
        return result;
      } catch (error) {
        const again = isConnection(error) || isConflict(error);
        if (!again || performance.now() > until) throw this.failed(error);
        if (isConnection(error) && !told) {
          told = true;
          this.notice(`${this.name} cannot be reached (${messageOf(error)}): trying again for two minutes`);
        }
        await sleep(pause);
      }
    }
  }

  private failed(error: unknown): unknown {
    if (!(error instanceof Error) || !('code' in error || isConnection(error))) return error;
    if (error instanceof ArchiveError) return error;
    const todo = isConnection(error)
      ? 'check that it runs and that the URL is right, and start again: what was done is kept'
      : 'what was done before is kept';
    const { code } = error as Error & { code?: string };
    return refusal(code, `the database ${this.name} refuses: ${messageOf(error)}. ${todo}.`, error);
  }
}

function messageOf(error: unknown): string {
  const { message, code } = error as Error & { code?: string };
  return message === '' ? (code ?? 'no reason given') : message;
}

/** Whether the database cannot be reached, or is about to end or to begin. */
function isConnection(error: unknown): boolean {
  const { code = '', message = '' } = error as Error & { code?: string };
  return (
    /^(08|57P0)/.test(code) ||
    [
      'ECONNREFUSED',
      'ECONNRESET',
      'EPIPE',
      'ETIMEDOUT',
      'ENOTFOUND',
      'EAI_AGAIN',
      'ENOENT',
      '53300',
    ].includes(code) ||
    /Connection terminated|timeout exceeded when trying to connect|not queryable/.test(message)
  );
}

/** Whether two transactions were in each other's way: deadlocks, and what serializes. */
function isConflict(error: unknown): boolean {
  return ['40001', '40P01'].includes((error as { code?: string }).code ?? '');
}
