/** Paths with slashes, from the root of the origin's file system. */

export function join(...parts: string[]): string {
  return `/${namesOf(parts.join('/')).join('/')}`;
}

export function dirname(path: string): string {
  return `/${namesOf(path).slice(0, -1).join('/')}`;
}

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
