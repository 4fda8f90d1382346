/**
 * Where a text is cut that must end at `most`: behind the last space that is not before `least`, or else at `most`, but never within a character
 * of two code units.
 */
export function cutOf(text: string, least: number, most: number): number {
  // Only what lies between is looked at: a text may have no space at all.
  const space = text.slice(least + 1, most + 1).lastIndexOf(' ');
  if (space !== -1) return least + 1 + space;
  return /^[\ud800-\udbff][\udc00-\udfff]/.test(text.slice(most - 1, most + 1)) ? most - 1 : most;
}
