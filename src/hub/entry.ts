/** What a hub says of one thing at a repository's root. It comes from outside, and is checked. */
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

/** An item of the list of `repo` that `host` has sent. Throws `HubError` for something else. */
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

/** The error for an answer that is no list of files; `what` names what came instead. */
export function unexpectedAnswer(host: string, repo: string, what: string): HubError {
  return new HubError(
    `${host} answered with ${what}, expected the list of the files of ${repo}. A network's login page or a wrong HF_ENDPOINT does that: look at it in a browser.`,
  );
}
