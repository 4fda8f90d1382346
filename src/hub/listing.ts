/**
 * The files of a repository. The hub library requests the pages of the list; each entry is validated.
 */
import { listFiles } from '@huggingface/hub';
import { quote } from '../checkpoint/index.js';
import type { Connection } from './connection.js';
import { readEntry, unexpectedAnswer } from './entry.js';
import type { Hub } from './hub.js';
import type { Entry } from './selection.js';

/** Limits beyond which a response cannot be the list of a model's files. */
const MOST_PAGES = 1000;
const LARGEST_PAGE = 2 ** 25;

/** The repository to list, at a branch, a tag or a commit. */
export interface ListedRepository {
  readonly hub: Hub;
  readonly repo: string;
  readonly revision: string;
}

/** Lists a repository's root. Throws `HubError` when the hub refuses, or its response is malformed. */
export async function listRepository(
  connection: Connection,
  { hub, repo, revision }: ListedRepository,
): Promise<Entry[]> {
  let pages = 0;
  const fetchPage: typeof fetch = async (input) => {
    if (++pages > MOST_PAGES) throw unexpectedAnswer(connection.host, repo, `more than ${MOST_PAGES} pages`);
    const url = input instanceof Request ? input.url : String(input);
    const { text, headers } = await connection.persist(() => connection.text(url, LARGEST_PAGE));
    if (!isJsonArray(text))
      throw unexpectedAnswer(connection.host, repo, quote(headers.get('content-type') ?? text));
    return new Response(text, { headers });
  };
  const entries: Entry[] = [];
  for await (const item of listFiles({
    repo: { type: 'model', name: repo },
    // The library does not escape it.
    revision: encodeURIComponent(revision),
    hubUrl: hub.endpoint,
    fetch: fetchPage,
  })) {
    entries.push(readEntry(connection.host, repo, item));
  }
  return entries;
}

function isJsonArray(text: string): boolean {
  try {
    return Array.isArray(JSON.parse(text));
  } catch {
    return false;
  }
}
