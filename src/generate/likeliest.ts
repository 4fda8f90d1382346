/** Top-k selection. */

/** The number of histogram bins. */
const RANGES = 1024;

/** Up to this count, a single pass with a sorted list is fastest. */
const FEW = 32;

/**
 * The indices of the `count` largest scores in descending order (lower index first among equals), without scores that are more than
 * `within` below the largest, and without -Infinity. A histogram of the scores gives a threshold; only the scores above it are sorted.
 */
export function likeliest(
  scores: Float32Array,
  count: number,
  within: number = Number.POSITIVE_INFINITY,
): Uint32Array {
  if (count <= FEW) return fewLikeliest(scores, count, within);
  let top = Number.NEGATIVE_INFINITY;
  let lowest = Number.POSITIVE_INFINITY;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id]!;
    if (score > top) top = score;
    if (score < lowest && score !== Number.NEGATIVE_INFINITY) lowest = score;
  }
  const width = Math.min(within, top - lowest);
  if (!(width >= 0)) return new Uint32Array();
  const scale = width === 0 ? 0 : (RANGES - 1) / width;
  const counts = new Uint32Array(RANGES);
  for (let id = 0; id < scores.length; id++) {
    const below = top - scores[id]!;
    if (below <= width) counts[(below * scale) | 0]!++;
  }
  let last = 0;
  let size = counts[0]!;
  while (last + 1 < RANGES && size < count) size += counts[++last]!;
  const found = new Uint32Array(size);
  let at = 0;
  for (let id = 0; id < scores.length; id++) {
    const below = top - scores[id]!;
    if (below <= width && ((below * scale) | 0) <= last) found[at++] = id;
  }
  return found.sort((a, b) => scores[b]! - scores[a]! || a - b).subarray(0, count);
}

function fewLikeliest(scores: Float32Array, count: number, within: number): Uint32Array {
  const found = new Uint32Array(count);
  let size = 0;
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; count > 0 && id < scores.length; id++) {
    const score = scores[id]!;
    if (!(score > least)) continue;
    let at = size < count ? size++ : size - 1;
    // After equal scores, which have lower indices.
    for (; at > 0 && scores[found[at - 1]!]! < score; at--) found[at] = found[at - 1]!;
    found[at] = id;
    if (size === count) least = scores[found[size - 1]!]!;
  }
  while (size > 0 && scores[found[0]!]! - scores[found[size - 1]!]! > within) size--;
  return found.subarray(0, size);
}

/** The same for a short list of indices. */
export function likeliestOf(
  among: readonly number[],
  scores: Float32Array,
  count: number,
  within: number = Number.POSITIVE_INFINITY,
): Uint32Array {
  const sorted = Uint32Array.from(among).sort((a, b) => scores[b]! - scores[a]! || a - b);
  const least = Math.max(scores[sorted[0]!]! - within, -Number.MAX_VALUE);
  let size = 0;
  while (size < Math.min(count, sorted.length) && scores[sorted[size]!]! >= least) size++;
  return sorted.subarray(0, size);
}
