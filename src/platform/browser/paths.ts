/** Paths with slashes, from the root of the origin's file system. */

/** One absolute path with `.` and `..` resolved. */
export function join(...parts: string[]): string {
  return `/${namesOf(parts.join('/')).join('/')}`;
}

/** The path of the folder that a path is in; `/` for the root. */
export function dirname(path: string): string {
  return `/${namesOf(path).slice(0, -1).join('/')}`;
}

/** The last part of a path; empty for the root. */
export function basename(path: string): string {
  return namesOf(path).at(-1) ?? '';
}

/** The names on the way to a path. */
export function namesOf(path: string): string[] {
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return names;
}
