/**
 * What a repository holds. The hub library asks for the pages of the list; what they say comes from outside, and is checked.
 */
import { listFiles } from '@huggingface/hub';
import { z } from 'zod';
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';
import type { Connection } from './connection.js';
import type { Hub } from './hub.js';
import type { Entry } from './selection.js';
import type { RemoteFile } from './sums.js';

const ListedFile = z.looseObject({
  size: z.int().nonnegative(),
  oid: z.string().regex(/^[0-9a-f]{40}$/),
  lfs: z.looseObject({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: z.int().nonnegative() }).optional(),
});
const Listed = z.looseObject({ type: z.string(), path: z.string().min(1) });

/** A list of more pages, or a page of more bytes, is no list of a model's files. */
const MOST_PAGES = 1000;
const LARGEST_PAGE = 2 ** 25;

export interface ListedRepository {
  readonly hub: Hub;
  readonly repo: string;
  readonly revision: string;
}

/** Lists a repository's root. Throws `HubError` when the hub refuses, or answers with something else. */
export async function listRepository(
  connection: Connection,
  { hub, repo, revision }: ListedRepository,
): Promise<Entry[]> {
  let pages = 0;
  const fetchPage: typeof fetch = async (input) => {
    if (++pages > MOST_PAGES) throw unexpected(connection, repo, `more than ${MOST_PAGES} pages`);
    const url = input instanceof Request ? input.url : String(input);
    const { text, headers } = await connection.persist(() => connection.text(url, LARGEST_PAGE));
    if (!isJsonArray(text)) throw unexpected(connection, repo, quote(headers.get('content-type') ?? text));
    return new Response(text, { headers });
  };
  const entries: Entry[] = [];
  for await (const item of listFiles({
    repo: { type: 'model', name: repo },
    // The library puts it into the URL as it is.
    revision: encodeURIComponent(revision),
    hubUrl: hub.endpoint,
    fetch: fetchPage,
  })) {
    entries.push(entryOf(connection, repo, item));
  }
  return entries;
}

function entryOf(connection: Connection, repo: string, item: unknown): Entry {
  const listed = Listed.safeParse(item);
  if (!listed.success) throw unexpected(connection, repo, 'entries without a path');
  const { type, path } = listed.data;
  if (type !== 'file') return { path };
  const file = ListedFile.safeParse(item);
  if (!file.success) throw unexpected(connection, repo, `${quote(path)} without a size and a checksum`);
  const { size, oid, lfs } = file.data;
  const remote: RemoteFile =
    lfs === undefined
      ? { name: path, size, sum: { kind: 'git', hex: oid } }
      : { name: path, size: lfs.size, sum: { kind: 'sha256', hex: lfs.oid } };
  return { path, file: remote };
}

function isJsonArray(text: string): boolean {
  try {
    return Array.isArray(JSON.parse(text));
  } catch {
    return false;
  }
}

function unexpected({ host }: Connection, repo: string, what: string): HubError {
  return new HubError(
    `${host} answered with ${what}, expected the list of the files of ${repo}. A network's login page or a wrong HF_ENDPOINT does that: look at it in a browser.`,
  );
}
