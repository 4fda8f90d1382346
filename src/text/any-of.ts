/** The source of a pattern that finds any of the names; of names that begin alike the longer one is meant. */
export function anyOf(names: Iterable<string>): string {
  const longestFirst = [...names].sort((a, b) => b.length - a.length);
  return longestFirst.map((name) => name.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')).join('|');
}
