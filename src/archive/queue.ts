/** What waits to be read, who has taken it, and what came of it. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { isAlive } from '../platform/node/index.js';
import type { Database } from './database/database.js';
import type { Kind } from './formats/page.js';
import type { PageText } from './passages.js';
import { comparable } from './words.js';

/** Pages of a document that somebody reads. */
export interface Stretch {
  readonly id: string;
  readonly content: string;
  readonly first: number;
  /** Absent until the document was opened. */
  readonly last: number | null;
  readonly attempts: number;
}

/** A stretch is somebody else's by now, or its document is gone. */
export class LostError extends Error {}

/** How long a worker may say nothing before others take its work, in seconds, and how often it says something. */
export const LEASE = 30;
/** Seconds between two signs of life of a worker. */
export const HEARTBEAT = 5;
/** Work that so many workers did not survive is given up. */
export const ATTEMPTS = 5;
/** Pages of a stretch. */
const STRETCH = 64;

/** The queue of pages in the database, from which workers take stretches. */
export class PageQueue {
  /** Names this process among the workers. */
  readonly worker = `${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`;

  constructor(
    private readonly database: Database,
    /** Of the text search. */
    private readonly language: string,
  ) {}

  /** Takes pages that nobody reads; undefined where there are none at the moment. */
  async claim(): Promise<Stretch | undefined> {
    const [stretch] = await this.database.query<Stretch>(
      `UPDATE archive_stretches SET worker = $1, until = now() + make_interval(secs => $2), attempts = attempts + 1
       WHERE id = (
         SELECT id FROM archive_stretches WHERE worker IS NULL OR until < now()
         ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
       ) RETURNING id::text, content, first, last, attempts`,
      [this.worker, LEASE],
    );
    return stretch;
  }

  /** Says that this process still reads these stretches. One that it took without hearing so, since the answer was lost, falls to others. */
  async renew(ids: readonly string[]): Promise<void> {
    await this.database.query(
      `UPDATE archive_stretches SET until = now() + make_interval(secs => $2) WHERE worker = $1 AND id = ANY($3::bigint[])`,
      [this.worker, LEASE, ids],
    );
  }

  /** The same of documents that a model reads into states. */
  async renewReadings(model: string, contents: readonly string[]): Promise<void> {
    await this.database.query(
      `UPDATE archive_readings SET until = now() + make_interval(secs => $2)
       WHERE worker = $1 AND model = $3 AND content = ANY($4::text[])`,
      [this.worker, LEASE, model, contents],
    );
  }

  /** Gives back what this process has taken and not done. */
  async release(): Promise<void> {
    for (const table of ['archive_stretches', 'archive_readings']) {
      await this.database.query(
        `UPDATE ${table} SET worker = NULL, until = NULL, attempts = greatest(attempts - 1, 0) WHERE worker = $1`,
        [this.worker],
      );
    }
  }

  /** Gives back what processes of this machine have taken that have ended. */
  async releaseEnded(): Promise<void> {
    for (const table of ['archive_stretches', 'archive_readings']) {
      const rows = await this.database.query<{ worker: string }>(
        `SELECT DISTINCT worker FROM ${table} WHERE worker IS NOT NULL`,
      );
      const ended = rows.map(({ worker }) => worker).filter(hasEnded);
      if (ended.length === 0) continue;
      await this.database.query(
        `UPDATE ${table} SET worker = NULL, until = NULL WHERE worker = ANY($1::text[])`,
        [ended],
      );
    }
  }

  /**
   * Notes that a document was opened and has so many pages. The stretch keeps the first of them; others can take the rest at once. Returns its
   * last page. Throws `LostError`.
   */
  async opened(stretch: Stretch, format: Kind, pages: number): Promise<number> {
    const last = Math.min(STRETCH, pages);
    await this.database.transaction(async (query) => {
      await this.hold(query, stretch);
      await query(
        `UPDATE archive_documents SET pages = $2, format = $3, state = 'reading' WHERE content = $1`,
        [stretch.content, pages, format],
      );
      // Where this is done again, since the answer was lost, the others are there.
      const cut = await query(
        'UPDATE archive_stretches SET last = $2 WHERE id = $1 AND last IS NULL RETURNING id',
        [stretch.id, last],
      );
      if (cut.length === 0) return;
      await query(
        `INSERT INTO archive_stretches (content, first, last)
         SELECT $1, first, least(first + $2 - 1, $3) FROM generate_series($2 + 1, $3, $2) AS first`,
        [stretch.content, STRETCH, pages],
      );
    });
    return last;
  }

  /** Writes what was read of a stretch, and that it is done. Throws `LostError`, and has then written nothing. */
  async finish(stretch: Stretch, pages: readonly PageText[]): Promise<void> {
    await this.database.transaction(async (query) => {
      await this.hold(query, stretch, 'KEY SHARE');
      const rows = pages.map(({ passages: _, ...page }, i) => ({ page: stretch.first + i, ...page }));
      await query(
        `INSERT INTO archive_pages (content, page, state, why, width, height)
         SELECT $1, page, state, why, width, height FROM jsonb_to_recordset($2::jsonb)
           AS (page int, state text, why text, width real, height real)`,
        [stretch.content, json(rows)],
      );
      const passages = pages.flatMap((page, i) =>
        page.passages.map((passage, part) => ({
          page: stretch.first + i,
          part,
          ...passage,
          searched: ifOther(comparable(passage.text), passage.text),
          above: ifOther(comparable(passage.heading), passage.heading),
        })),
      );
      await query(
        `INSERT INTO archive_passages (content, page, part, text, heading, boxes, words)
         SELECT $1, page, part, text, heading, boxes,
           setweight(to_tsvector($3::text::regconfig, coalesce(above, heading)), 'A')
             || to_tsvector($3::text::regconfig, coalesce(searched, text))
         FROM jsonb_to_recordset($2::jsonb) AS (page int, part int, text text, heading text, boxes jsonb, searched text, above text)`,
        [stretch.content, json(passages), this.language],
      );
      // Others may write pages of the document until here.
      await query('SELECT 1 FROM archive_documents WHERE content = $1 FOR NO KEY UPDATE', [stretch.content]);
      // What a model has read of the document lacks these pages, where they were read again, as scanned ones are.
      if (passages.length > 0) await forgetReadings(query, stretch.content);
      await this.done(query, stretch);
    });
  }

  /** Notes that a document cannot be read. Throws `LostError`. */
  async fail(stretch: Stretch, format: Kind | undefined, why: string): Promise<void> {
    await this.database.transaction(async (query) => {
      await this.hold(query, stretch);
      await query('DELETE FROM archive_stretches WHERE id = $1', [stretch.id]);
      await query(`UPDATE archive_documents SET state = 'failed', why = $2, format = $3 WHERE content = $1`, [
        stretch.content,
        clean(why),
        format ?? null,
      ]);
    });
  }

  /**
   * Locks the document and then the stretch, which keeps both from being deleted or taken by somebody else until the transaction ends. With
   * KEY SHARE others may hold the document too. Throws `LostError`.
   */
  private async hold(
    query: Database['query'],
    { id, content }: Stretch,
    lock: 'UPDATE' | 'KEY SHARE' = 'UPDATE',
  ): Promise<void> {
    await query(`SELECT 1 FROM archive_documents WHERE content = $1 FOR ${lock}`, [content]);
    const [mine] = await query('SELECT 1 FROM archive_stretches WHERE id = $1 AND worker = $2 FOR UPDATE', [
      id,
      this.worker,
    ]);
    if (!mine) throw new LostError();
  }

  /** The document must be locked, so that the last two of its stretches cannot end unseen by each other. */
  private async done(query: Database['query'], { id, content }: Stretch): Promise<void> {
    await query('DELETE FROM archive_stretches WHERE id = $1', [id]);
    await query(
      `UPDATE archive_documents SET state = 'read' WHERE content = $1
         AND NOT EXISTS (SELECT 1 FROM archive_stretches WHERE content = $1)`,
      [content],
    );
  }

  /**
   * Puts back into the queue what failed, or was found to be scanned: pages, and documents that could not be opened. Of one document, or of
   * all. Returns how many.
   */
  async retry(
    states: readonly ('scanned' | 'failed')[],
    content?: string,
  ): Promise<{ documents: number; pages: number }> {
    return this.database.transaction(async (query) => {
      const found = await query<{ content: string; state: string }>(
        `SELECT content, state FROM archive_documents d WHERE ($2::text IS NULL OR content = $2) AND (
           (state = 'failed' AND state = ANY($1::text[]))
           OR EXISTS (SELECT 1 FROM archive_pages p WHERE p.content = d.content AND p.state = ANY($1::text[])))
         ORDER BY content FOR UPDATE`,
        [states, content ?? null],
      );
      const unopened = found.filter(({ state }) => state === 'failed').map((each) => each.content);
      await query(
        `UPDATE archive_documents SET state = 'waiting', why = NULL WHERE content = ANY($1::text[])`,
        [unopened],
      );
      await query(
        'INSERT INTO archive_stretches (content, first) SELECT content, 1 FROM unnest($1::text[]) AS content',
        [unopened],
      );
      let pages = 0;
      for (const { content: each } of found) {
        const again = await query<{ page: number }>(
          'DELETE FROM archive_pages WHERE content = $1 AND state = ANY($2::text[]) RETURNING page',
          [each, states],
        );
        // Somebody else has put them back meanwhile.
        if (again.length === 0) continue;
        await query(
          `INSERT INTO archive_stretches (content, first, last) SELECT $1, page, page FROM unnest($2::int[]) AS page`,
          [each, again.map(({ page }) => page)],
        );
        await query(`UPDATE archive_documents SET state = 'reading' WHERE content = $1`, [each]);
        pages += again.length;
      }
      return { documents: unopened.length, pages };
    });
  }
}

/** Whether a worker is of this machine, and its process has ended. */
function hasEnded(worker: string): boolean {
  const [, host, id] = /^(.*)-(\d+)-[^-]*$/.exec(worker) ?? [];
  return host === hostname() && !isAlive(Number(id));
}

/** Has models read a document from its beginning again; the states that they have of it are deleted later. */
async function forgetReadings(query: Database['query'], content: string): Promise<void> {
  await query(
    `INSERT INTO archive_orphans (record) SELECT record FROM archive_readings WHERE content = $1 AND record IS NOT NULL
     ON CONFLICT DO NOTHING`,
    [content],
  );
  await query(
    `UPDATE archive_readings SET state = 'waiting', why = NULL, page = 0, tokens = 0, record = NULL, attempts = 0,
       worker = NULL, until = NULL WHERE content = $1`,
    [content],
  );
}

function ifOther(text: string, than: string): string | undefined {
  return text === than ? undefined : text;
}

/** Text that PostgreSQL takes: without characters of zero and halves of characters. */
export function clean(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd').replaceAll('\0', '');
}

function json(value: unknown): string {
  return JSON.stringify(value, (_, each) => (typeof each === 'string' ? clean(each) : each));
}
