/** An archive: files and documents, what is to be done with them, and what was. */
import { ArchiveError, UnknownDocumentError } from '../errors.js';
import { openStore, StateLibrary, type Store } from '../generate/index.js';
import type { Database, Notice } from './database/database.js';
import { isUrl, openDatabase } from './database/open.js';
import { writeOrigins } from './database/origins.js';
import { type About, prepare } from './database/schema.js';
import type { DocumentEntry, FileEntry, PageRecord, Totals } from './entries.js';
import { PAGE_STATES } from './formats/page.js';
import { followMove } from './moved.js';
import { statesOf } from './places.js';
import { clean, PageQueue } from './queue.js';

/** Who owns the states of documents in the store of states. */
export const ARCHIVE_OWNER = 'archive';

/** Which archive is opened, and how. */
export interface ArchiveOptions {
  /** A folder, or postgres://user@host/name. */
  readonly place: string;
  /** Where states are: a folder, redis://..., s3://...; by default beside the database. */
  readonly states?: string | undefined;
  /** Of the text search, when the archive is made. */
  readonly language?: string | undefined;
  /** Whether it is made where there is none. */
  readonly create?: boolean;
  readonly notice?: Notice;
  readonly signal?: AbortSignal | undefined;
}

/** An archive of documents: their text, their pages, and what models have read of them, in one database and one store of states. */
export class Archive {
  /** What waits to be read. */
  readonly queue: PageQueue;

  private constructor(
    readonly place: string,
    readonly database: Database,
    readonly about: About,
    private readonly store: Store,
    readonly library: StateLibrary,
    /** Where the states are. */
    readonly statesPlace: string,
  ) {
    this.queue = new PageQueue(database, about.language);
  }

  /** Throws `ArchiveError`. */
  static async open({
    place,
    states,
    language,
    create = false,
    notice = () => {},
    signal,
  }: ArchiveOptions): Promise<Archive> {
    const database = await openDatabase(place, { create, notice, signal });
    try {
      const about = await prepare(database, language);
      const statesPlace = states ?? statesOf(place);
      const store = openStore(statesPlace);
      const archive = new Archive(place, database, about, store, new StateLibrary(store), statesPlace);
      // What had the folder before may have been killed; those that borrowed it go on.
      if (!database.shared) {
        await followMove(archive);
        await archive.noteOrigins();
        await archive.queue.releaseEnded();
      }
      return archive;
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.queue.release().catch(() => {});
    await this.store.close();
    await this.database.close();
  }

  // Files.

  async addRoot(path: string): Promise<void> {
    const added = await this.database.query(
      'INSERT INTO archive_roots VALUES ($1) ON CONFLICT DO NOTHING RETURNING path',
      [path],
    );
    if (added.length > 0) await this.noteOrigins();
  }

  async roots(): Promise<string[]> {
    const rows = await this.database.query<{ path: string }>('SELECT path FROM archive_roots ORDER BY path');
    return rows.map(({ path }) => path);
  }

  /** Notes beside a database in a folder what the archive can be made from again. */
  private async noteOrigins(): Promise<void> {
    if (isUrl(this.place)) return;
    // In a transaction, since they come one after the other: the last one to write has seen all.
    await this.database.transaction(
      async (query) => {
        const rows = await query<{ path: string }>('SELECT path FROM archive_roots ORDER BY path');
        await writeOrigins(this.place, {
          language: this.about.language,
          added: rows.map(({ path }) => path),
        });
      },
      { small: true },
    );
  }

  /** What is known of files at and below a path. */
  async filesBelow(
    root: string,
  ): Promise<(FileEntry & { content: string | null; problem: string | null })[]> {
    return this.database.query(
      `SELECT path, size, modified, changed, content, problem FROM archive_files
       WHERE path = $1 OR left(path, length($2)) = $2`,
      [root, root.endsWith('/') ? root : `${root}/`],
    );
  }

  /** Files at and below a path that were removed for good. */
  async removedBelow(root: string): Promise<Set<string>> {
    const rows = await this.database.query<{ path: string }>(
      'SELECT path FROM archive_removed WHERE path = $1 OR left(path, length($2)) = $2',
      [root, root.endsWith('/') ? root : `${root}/`],
    );
    return new Set(rows.map(({ path }) => path));
  }

  /** Undoes the removal of a file, which is to be added again. */
  async takeBack(path: string): Promise<void> {
    await this.database.query('DELETE FROM archive_removed WHERE path = $1', [path]);
  }

  /**
   * Notes a file with its content. A content that is new is to be read; one that no file has any more is forgotten. Returns whether it is
   * to be read because of this file.
   */
  async putFile(file: FileEntry, content: string, name: string): Promise<boolean> {
    return this.database.transaction(async (query) => {
      const [before] = await query<{ content: string | null }>(
        'SELECT content FROM archive_files WHERE path = $1 FOR UPDATE',
        [file.path],
      );
      await query(
        `INSERT INTO archive_files VALUES ($1, $2, $3, $4, $5, NULL)
         ON CONFLICT (path) DO UPDATE SET size = $2, modified = $3, changed = $4, content = $5, problem = NULL`,
        [file.path, file.size, file.modified, file.changed, content],
      );
      const added = await query(
        'INSERT INTO archive_documents (content, name) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING content',
        [content, name],
      );
      // What had no known format by the names of its other files may have one by this name.
      const again =
        before?.content === content
          ? []
          : await query(
              `UPDATE archive_documents SET state = 'waiting', why = NULL
               WHERE content = $1 AND state = 'failed' AND format IS NULL RETURNING content`,
              [content],
            );
      const isToRead = added.length + again.length > 0;
      if (isToRead) await query('INSERT INTO archive_stretches (content, first) VALUES ($1, 1)', [content]);
      if (before?.content && before.content !== content) await forgetUnused(query, [before.content]);
      return isToRead;
    });
  }

  /** Notes a file that could not be read at all. */
  async putProblem(path: string, problem: string): Promise<void> {
    await this.database.transaction(async (query) => {
      const [before] = await query<{ content: string | null }>(
        'SELECT content FROM archive_files WHERE path = $1 FOR UPDATE',
        [path],
      );
      await query(
        `INSERT INTO archive_files VALUES ($1, NULL, NULL, NULL, NULL, $2)
         ON CONFLICT (path) DO UPDATE SET size = NULL, modified = NULL, changed = NULL, content = NULL, problem = $2`,
        [path, problem],
      );
      if (before?.content) await forgetUnused(query, [before.content]);
    });
  }

  /**
   * Forgets files, and documents that no file is left of, with all that was made of them. With `forGood`, the files are not added again with
   * their folder. Returns how many documents.
   */
  async removeFiles(paths: readonly string[], { forGood = false } = {}): Promise<number> {
    const count = await this.database.transaction(async (query) => {
      if (forGood) {
        await query('INSERT INTO archive_removed SELECT unnest($1::text[]) ON CONFLICT DO NOTHING', [paths]);
        await query('DELETE FROM archive_roots WHERE path = ANY($1::text[])', [paths]);
      }
      const gone = await query<{ content: string | null }>(
        'DELETE FROM archive_files WHERE path = ANY($1::text[]) RETURNING content',
        [paths],
      );
      return forgetUnused(
        query,
        gone.flatMap(({ content }) => content ?? []),
      );
    });
    if (forGood) await this.noteOrigins();
    await this.deleteOrphans();
    return count;
  }

  /** Deletes states whose document is gone, and those that nobody has finished writing. */
  async deleteOrphans(): Promise<void> {
    const rows = await this.database.query<{ record: string }>(
      'SELECT record FROM archive_orphans WHERE until IS NULL OR until < now()',
    );
    for (const { record } of rows) {
      await this.library.discard(ARCHIVE_OWNER, record);
      await this.database.query('DELETE FROM archive_orphans WHERE record = $1', [record]);
    }
  }

  /** Notes that a file came as an upload with this content, and is the archive's own. */
  async putUpload(path: string, content: string): Promise<void> {
    await this.database.query(
      `INSERT INTO archive_uploads SELECT path, content FROM archive_files WHERE path = $1 AND content = $2
       ON CONFLICT (path) DO UPDATE SET content = $2`,
      [path, content],
    );
  }

  /** Files that had this content when they were last looked at, and whether they came with it as uploads. */
  async filesOf(content: string): Promise<(FileEntry & { isUpload: boolean })[]> {
    return this.database.query(
      `SELECT path, size, modified, changed,
         EXISTS (SELECT 1 FROM archive_uploads u WHERE u.path = f.path AND u.content = f.content) AS "isUpload"
       FROM archive_files f WHERE content = $1 ORDER BY path`,
      [content],
    );
  }

  // What there is.

  async totals(): Promise<Totals> {
    const [row] = await this.database.query<{
      files: number;
      passages: number;
      left: number;
      documents: Record<string, number> | null;
      pages: Record<string, number> | null;
    }>(
      `SELECT (SELECT count(*)::int FROM archive_files) AS files,
        (SELECT count(*)::int FROM archive_passages) AS passages,
        (SELECT coalesce(sum(coalesce(last, first) - first + 1), 0)::int FROM archive_stretches) AS left,
        (SELECT jsonb_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM archive_documents GROUP BY state) d) AS documents,
        (SELECT jsonb_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM archive_pages GROUP BY state) p) AS pages`,
    );
    const { files, passages, left, documents, pages } = row!;
    return {
      files,
      passages,
      left,
      documents: { waiting: 0, reading: 0, read: 0, failed: 0, ...documents },
      pages: { ...(Object.fromEntries(PAGE_STATES.map((state) => [state, 0])) as Totals['pages']), ...pages },
    };
  }

  /** Documents in the order of their names; `limit` of them behind the first `skip`. */
  async documents({ limit = 1_000_000, skip = 0 } = {}): Promise<DocumentEntry[]> {
    return this.entries('TRUE', [], limit, skip);
  }

  /**
   * The document that is meant by the beginning of its content's hash (at least 6 digits), a path, or the end of one. Throws
   * `UnknownDocumentError` where there is none, and `ArchiveError` where there are several. Accents may be letters of their own (NFD), as in names that
   * macOS makes, or not.
   */
  async document(meant: string): Promise<DocumentEntry> {
    const typed = clean(meant);
    const forms = [...new Set([typed, typed.normalize('NFC'), typed.normalize('NFD')])];
    const found = await this.entries(
      `d.content IN (
         SELECT content FROM archive_files WHERE path = ANY($2::text[])
           OR EXISTS (SELECT 1 FROM unnest($2::text[]) AS form WHERE right(path, length(form) + 1) = '/' || form)
         UNION SELECT content FROM archive_documents
           WHERE (length($1) >= 6 AND left(content, length($1)) = $1) OR name = ANY($2::text[]))`,
      [typed, forms],
      20,
      0,
    );
    if (found.length === 1) return found[0]!;
    if (found.length === 0) {
      throw new UnknownDocumentError(
        `there is no document ${meant} in the archive: 'archive status --documents' and GET /v1/archive/documents list them`,
      );
    }
    throw new ArchiveError(
      `${meant} may be one of ${found.length} documents: ${found.map(({ content, paths }) => `${paths[0] ?? ''} (${content.slice(0, 12)})`).join(', ')}. Give more of the path, or the digits.`,
    );
  }

  private entries(
    where: string,
    values: readonly unknown[],
    limit: number,
    skip: number,
  ): Promise<DocumentEntry[]> {
    return this.database.query<DocumentEntry>(
      `SELECT d.content, d.name, d.format, d.pages, d.state, d.why,
         coalesce((SELECT jsonb_agg(f.path ORDER BY f.path) FROM archive_files f WHERE f.content = d.content), '[]') AS paths,
         coalesce((SELECT jsonb_object_agg(state, n) FROM
           (SELECT state, count(*) AS n FROM archive_pages p WHERE p.content = d.content GROUP BY state) c), '{}') AS counts,
         coalesce((SELECT jsonb_agg(jsonb_build_object('model', r.model, 'state', r.state, 'why', r.why, 'tokens', r.tokens,
           'page', r.page, 'record', r.record) ORDER BY r.model) FROM archive_readings r WHERE r.content = d.content), '[]') AS readings
       FROM archive_documents d WHERE ${where} ORDER BY d.name, d.content LIMIT ${limit} OFFSET ${skip}`,
      values,
    );
  }

  /** Files that could not be read, documents that could not be opened, and pages that are not read, each with the reason. */
  async problems(): Promise<{ path: string; page: number | null; state: string; why: string | null }[]> {
    return this.database.query(
      `SELECT path, NULL::int AS page, 'failed' AS state, problem AS why FROM archive_files WHERE problem IS NOT NULL
       UNION ALL SELECT coalesce((SELECT min(path) FROM archive_files f WHERE f.content = d.content), d.name), NULL, state, why
         FROM archive_documents d WHERE state = 'failed'
       UNION ALL SELECT coalesce((SELECT min(path) FROM archive_files f WHERE f.content = p.content), p.content), page, state, why
         FROM archive_pages p WHERE state IN ('scanned', 'failed')
       ORDER BY 1, 2`,
    );
  }

  /** The pages of a document with their text. */
  async pages(content: string, first = 1, last = 2 ** 31 - 1): Promise<PageRecord[]> {
    return this.database.query(
      `SELECT p.page, p.state, p.why, p.width, p.height,
         coalesce((SELECT string_agg(q.text, E'\\n' ORDER BY q.part) FROM archive_passages q
           WHERE q.content = p.content AND q.page = p.page), '') AS text
       FROM archive_pages p WHERE p.content = $1 AND p.page BETWEEN $2 AND $3 ORDER BY p.page`,
      [content, first, last],
    );
  }

  /** Headings of a document with their pages. */
  async outline(content: string): Promise<{ page: number; heading: string }[]> {
    return this.database.query(
      `SELECT min(page) AS page, heading FROM (
         SELECT page, split_part(heading, E'\\n', 1) AS heading FROM archive_passages WHERE content = $1 AND heading <> ''
       ) h GROUP BY heading ORDER BY 1, 2`,
      [content],
    );
  }

  /** Has the database put what was added into its index, and learn how often words occur: search weighs them by it. */
  async learn(): Promise<void> {
    // New entries wait in a list that every search reads whole; PGlite has nobody who empties it.
    await this.database.query(`SELECT gin_clean_pending_list('archive_passages_words')`);
    await this.database.query('ANALYZE archive_passages');
  }
}

/** Forgets those of these documents that no file has any more. */
async function forgetUnused(query: Database['query'], contents: readonly string[]): Promise<number> {
  if (contents.length === 0) return 0;
  const unused = `content = ANY($1::text[]) AND NOT EXISTS (SELECT 1 FROM archive_files f WHERE f.content = d.content)`;
  // Whoever writes a stretch of it has locked it, and ends first.
  const locked = await query<{ content: string }>(
    `SELECT content FROM archive_documents d WHERE ${unused} FOR UPDATE`,
    [contents],
  );
  const going = locked.map(({ content }) => content);
  await query(
    `INSERT INTO archive_orphans (record) SELECT record FROM archive_readings WHERE content = ANY($1::text[]) AND record IS NOT NULL
     ON CONFLICT DO NOTHING`,
    [going],
  );
  await query('DELETE FROM archive_documents WHERE content = ANY($1::text[])', [going]);
  return going.length;
}
