/**
 * Names that come from outside: typed by a person, or sent by a server.
 *
 * A name becomes part of a URL and of a path, so each is checked against what such a name may look like, before it is
 * used: a file's name holds no separator, so it cannot leave the folder it is written to.
 */
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';

/** Throws `HubError` unless `repo` is `owner/name`, as the hub spells it. */
export function checkRepo(repo: string): void {
  const parts = repo.split('/');
  const fine = parts.every((part) => /^\w([\w.-]{0,94}\w)?$/.test(part) && !/\.\.|--|\.git$/.test(part));
  if (parts.length === 2 && fine) return;
  throw new HubError(
    `${quote(repo)} is no model's name. Expected owner/name, as it stands on the model's page, such as ibm-granite/granite-4.0-h-350m.`,
  );
}

/** Throws `HubError` unless `revision` can be a branch, a tag or a commit. */
export function checkRevision(revision: string): void {
  if (/^\w[\w./+-]{0,254}$/.test(revision) && !revision.includes('..')) return;
  throw new HubError(
    `${quote(revision)} is no revision. Expected a branch, a tag or a commit, such as main.`,
  );
}

/** Whether a name can be a file's, right in its folder, on every system. */
export function isPlainName(name: string): boolean {
  return /^\w[\w.+ -]{0,199}$/.test(name) && !/[. ]$/.test(name);
}
