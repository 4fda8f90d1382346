/**
 * The tables of an archive.
 *
 *   archive_roots      what was added: folders and files
 *   archive_files      files below those, each with the content that it had when it was last looked at
 *   archive_uploads    files that came over HTTP, each with the content that came: these are the archive's own to delete
 *   archive_documents  contents, by their SHA-256: two files of one content are one document
 *   archive_stretches  pages that are still to be read; whoever reads some holds them until a time, and renews it
 *   archive_pages      what became of each page
 *   archive_passages   what is searched
 *   archive_readings   which model has read which document, and the state that it is in after it
 *   archive_vectors    hidden states of a model over passages
 *   archive_orphans    states whose document is gone, until they are deleted too; one that is being written is spared until a time
 *
 * The queue of work is the table of what is not done: a row is taken with SKIP LOCKED, and goes in the transaction that writes its result.
 * So nothing can be lost between a queue and the tables, or be written twice, and PGlite and PostgreSQL run the same statements.
 */
import { ArchiveError } from '../../errors.js';
import type { Database } from './database.js';

const VERSION = 1;

const TABLES = `
CREATE TABLE IF NOT EXISTS archive_about (version int NOT NULL, language text NOT NULL, id text NOT NULL);
CREATE TABLE IF NOT EXISTS archive_roots (path text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS archive_removed (path text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS archive_files (
  path text PRIMARY KEY, size float8, modified float8, changed float8, content text, problem text
);
CREATE INDEX IF NOT EXISTS archive_files_content ON archive_files (content);
CREATE TABLE IF NOT EXISTS archive_uploads (
  path text PRIMARY KEY REFERENCES archive_files ON DELETE CASCADE, content text NOT NULL
);
CREATE TABLE IF NOT EXISTS archive_documents (
  content text PRIMARY KEY, name text NOT NULL, format text, pages int, state text NOT NULL DEFAULT 'waiting', why text,
  added timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS archive_stretches (
  id bigserial PRIMARY KEY, content text NOT NULL REFERENCES archive_documents ON DELETE CASCADE,
  first int NOT NULL, last int, attempts int NOT NULL DEFAULT 0, worker text, until timestamptz
);
CREATE INDEX IF NOT EXISTS archive_stretches_content ON archive_stretches (content);
CREATE TABLE IF NOT EXISTS archive_pages (
  content text NOT NULL REFERENCES archive_documents ON DELETE CASCADE, page int NOT NULL,
  state text NOT NULL, why text, width real, height real, PRIMARY KEY (content, page)
);
CREATE TABLE IF NOT EXISTS archive_passages (
  id bigserial PRIMARY KEY, content text NOT NULL, page int NOT NULL, part int NOT NULL,
  text text NOT NULL, heading text NOT NULL, boxes jsonb NOT NULL, words tsvector NOT NULL,
  UNIQUE (content, page, part), FOREIGN KEY (content, page) REFERENCES archive_pages ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS archive_passages_words ON archive_passages USING gin (words);
CREATE TABLE IF NOT EXISTS archive_readings (
  content text NOT NULL REFERENCES archive_documents ON DELETE CASCADE, model text NOT NULL,
  state text NOT NULL, why text, page int NOT NULL DEFAULT 0, tokens int NOT NULL DEFAULT 0, record text,
  attempts int NOT NULL DEFAULT 0, worker text, until timestamptz, PRIMARY KEY (content, model)
);
CREATE TABLE IF NOT EXISTS archive_vectors (
  passage bigint NOT NULL REFERENCES archive_passages ON DELETE CASCADE, model text NOT NULL, vector bytea NOT NULL,
  PRIMARY KEY (model, passage)
);
CREATE TABLE IF NOT EXISTS archive_orphans (record text PRIMARY KEY);
ALTER TABLE archive_orphans ADD COLUMN IF NOT EXISTS until timestamptz;
ALTER TABLE archive_about ADD COLUMN IF NOT EXISTS uploads text;
`;

/** What an archive says of itself, set when it is made. */
export interface About {
  /** Of PostgreSQL's text search: which words are one, and which say nothing. */
  readonly language: string;
  /** Tells this archive from others. */
  readonly id: string;
}

/**
 * Makes the tables where there are none. Throws `ArchiveError` for a language that the database does not know, for another one than the
 * archive's, and for an archive of another version.
 */
export async function prepare(database: Database, language: string | undefined): Promise<About> {
  return database.transaction(
    async (query) => {
      // Two that begin at once make them one after the other.
      await query('SELECT pg_advisory_xact_lock(7230911)');
      for (const statement of TABLES.split(';')) if (statement.trim() !== '') await query(statement);
      const [there] = await query<About & { version: number }>(
        'SELECT version, language, id FROM archive_about',
      );
      if (there && there.version !== VERSION) {
        throw new ArchiveError(
          `the archive is in the format ${there.version}, and this version of Heddle reads ${VERSION}: use the version that made it, or add the documents to a new one`,
        );
      }
      if (there) {
        if (language === undefined || language === there.language) return there;
        throw new ArchiveError(
          `the archive's language is ${there.language}, not ${language}: it is chosen when the first documents are added, so make another archive`,
        );
      }
      const chosen = language ?? 'english';
      const known = await query<{ name: string }>(
        'SELECT cfgname AS name FROM pg_ts_config ORDER BY cfgname',
      );
      if (!known.some(({ name }) => name === chosen)) {
        throw new ArchiveError(
          `there is no search in '${chosen}': the database has ${known.map(({ name }) => name).join(', ')}`,
        );
      }
      const [about] = await query<About>(
        `INSERT INTO archive_about VALUES ($1, $2, md5(random()::text || clock_timestamp()::text)) RETURNING language, id`,
        [VERSION, chosen],
      );
      return about!;
    },
    { small: true },
  );
}
