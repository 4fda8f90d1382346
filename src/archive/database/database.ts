/** The database of an archive: PostgreSQL, or PGlite, which is PostgreSQL in this process. Both are asked with the same SQL. */
import { ArchiveError, ArchiveUnavailableError } from '../../errors.js';

/** Rows of a statement with values for `$1`, `$2`, ... */
export type Query = <Row>(sql: string, values?: readonly unknown[]) => Promise<Row[]>;

/** A connection to PostgreSQL or PGlite, with the same SQL for both. */
export interface Database {
  /** Whether other processes may use it at the same time. */
  readonly shared: boolean;
  readonly query: Query;
  /**
   * All of it, or nothing. What is done may be done again where the connection was lost meanwhile. `small`: it writes next to nothing, so that it
   * is not refused where the disk is nearly full.
   */
  transaction<T>(work: (query: Query) => Promise<T>, options?: { readonly small?: boolean }): Promise<T>;
  close(): Promise<void>;
}

/** Is told what is waited for. */
export type Notice = (line: string) => void;

/**
 * What the planner is told that another page costs: on disks without moving parts, as much as the next one. With its default of 4 it reads
 * all passages in the place of some that the index names.
 */
export const RANDOM_PAGE = 1.1;

/** What a database refuses: the values that it was given (class 22 of PostgreSQL's codes), or else to work at all for now. */
export function refusal(code: string | undefined, message: string, cause: unknown): ArchiveError {
  const Refusal = /^22...$/.test(code ?? '') ? ArchiveError : ArchiveUnavailableError;
  return new Refusal(message, { cause });
}
