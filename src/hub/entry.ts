/** Validates one entry of the list that a hub sends for a repository. */
import { z } from 'zod';
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';
import type { Entry } from './selection.js';
import type { RemoteFile } from './sums.js';

const ListedFile = z.looseObject({
  size: z.int().nonnegative(),
  oid: z.string().regex(/^[0-9a-f]{40}$/),
  lfs: z.looseObject({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: z.int().nonnegative() }).optional(),
});
const Listed = z.looseObject({ type: z.string(), path: z.string().min(1) });

/** Parses an item of `repo`'s file list. Throws `HubError` when it is malformed. */
export function readEntry(host: string, repo: string, item: unknown): Entry {
  const listed = Listed.safeParse(item);
  if (!listed.success) throw unexpectedAnswer(host, repo, 'entries without a path');
  const { type, path } = listed.data;
  if (type !== 'file') return { path };
  const file = ListedFile.safeParse(item);
  if (!file.success) throw unexpectedAnswer(host, repo, `${quote(path)} without a size and a checksum`);
  const { size, oid, lfs } = file.data;
  const remote: RemoteFile =
    lfs === undefined
      ? { name: path, size, sum: { kind: 'git', hex: oid } }
      : { name: path, size: lfs.size, sum: { kind: 'sha256', hex: lfs.oid } };
  return { path, file: remote };
}

/** The error for a response that is not a list of files; `what` describes the response. */
export function unexpectedAnswer(host: string, repo: string, what: string): HubError {
  return new HubError(
    `${host} answered with ${what}, expected the list of the files of ${repo}. A network's login page or a wrong HF_ENDPOINT does that: look at it in a browser.`,
  );
}
