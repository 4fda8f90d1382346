/**
 * Validation of names that come from a user or a server.
 *
 * A name becomes part of a URL and of a path, so it is checked before it is used. A file's name contains no separator,
 * so the file cannot be written outside its folder.
 */
import { quote } from '../checkpoint/index.js';
import { HubError } from '../errors.js';

/** Throws `HubError` unless `repo` is `owner/name`, which is the hub's format. */
export function checkRepo(repo: string): void {
  const parts = repo.split('/');
  const fine = parts.every((part) => /^\w([\w.-]{0,94}\w)?$/.test(part) && !/\.\.|--|\.git$/.test(part));
  if (parts.length === 2 && fine) return;
  throw new HubError(
    `${quote(repo)} is not the name of a model. Expected owner/name, as shown on the model's page, such as ibm-granite/granite-4.0-h-350m.`,
  );
}

/** Throws `HubError` unless `revision` can be a branch, a tag or a commit. */
export function checkRevision(revision: string): void {
  if (/^\w[\w./+-]{0,254}$/.test(revision) && !revision.includes('..')) return;
  throw new HubError(
    `${quote(revision)} is not a revision. Expected a branch, a tag or a commit, such as main.`,
  );
}

/** Whether `name` is a valid name, on every operating system, of a file directly in a folder. */
export function isPlainName(name: string): boolean {
  return /^\w[\w.+ -]{0,199}$/.test(name) && !/[. ]$/.test(name);
}
