/** The source of a pattern that matches any of the names; a longer name takes precedence over its prefix. */
export function anyOf(names: Iterable<string>): string {
  const longestFirst = [...names].sort((a, b) => b.length - a.length);
  return longestFirst.map((name) => name.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|');
}
