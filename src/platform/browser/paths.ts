/** Paths with slashes, from the root of the origin's file system. */

/** Joins the parts to an absolute path, and resolves `.` and `..`. */
export function join(...parts: string[]): string {
  return `/${namesOf(parts.join('/')).join('/')}`;
}

/** The parent folder; `/` for the root. */
export function dirname(path: string): string {
  return `/${namesOf(path).slice(0, -1).join('/')}`;
}

/** The last part of a path; empty for the root. */
export function basename(path: string): string {
  return namesOf(path).at(-1) ?? '';
}

/** The names along a path, with `.` and `..` resolved. */
export function namesOf(path: string): string[] {
  const names: string[] = [];
  for (const name of path.split('/')) {
    if (name === '..') names.pop();
    else if (name !== '' && name !== '.') names.push(name);
  }
  return names;
}
