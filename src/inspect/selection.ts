/** What attention with a fixed memory holds: the last `window` tokens, and of the older ones those of the highest scores. */

/**
 * For each token the first place from which it is seen no more, or the number of tokens, [tokens]: a token leaves when it has
 * left the window and `selected` others that did outscore it, of equal scores the earlier. It does not come back.
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
    // Of equal scores the last one goes.
    const worst = held.reduce((a, b) => (scores && scores[b]! > scores[a]! ? a : b));
    until[worst] = place;
    held = held.filter((token) => token !== worst);
  }
  return until;
}
