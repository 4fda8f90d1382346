/** The tokens that selective attention keeps: the last `window` tokens, and the older ones with the highest scores. */

/**
 * For each token the first position that does not see it, or the number of tokens, [tokens]. A token is dropped when it has left the window and
 * `selected` other tokens outside the window outscore it (earlier first among equals). It never returns.
 */
export function seenUntil(
  tokens: number,
  { window, selected }: { window: number; selected: number },
  scores?: Float32Array,
): Float32Array {
  const until = new Float32Array(tokens).fill(tokens);
  let held: number[] = [];
  for (let place = window; place < tokens; place++) {
    held.push(place - window);
    if (held.length <= selected) continue;
    // Among equal scores the last one is dropped.
    const worst = held.reduce((a, b) => (scores && scores[b]! > scores[a]! ? a : b));
    until[worst] = place;
    held = held.filter((token) => token !== worst);
  }
  return until;
}
