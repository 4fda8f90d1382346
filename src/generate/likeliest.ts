/** The largest of many numbers, in order. */

/**
 * The places of the `count` largest scores, largest first (of equal ones the lower place), without those that are more than `within`
 * below the largest. A heap holds the best so far, so that most scores cost one comparison.
 */
export function likeliest(
  scores: Float32Array,
  count: number,
  within: number = Number.POSITIVE_INFINITY,
): Uint32Array {
  const limit = Math.min(count, scores.length);
  if (limit === 0) return new Uint32Array();
  let top = Number.NEGATIVE_INFINITY;
  for (const score of scores) if (score > top) top = score;
  const heap = new Uint32Array(limit);
  let size = 0;
  // What is above this is among the best so far: the worst of them once there are enough.
  let least = top - within;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id]!;
    if (size === limit ? !(score > least) : !(score >= least)) continue;
    if (size < limit) {
      heap[size] = id;
      rise(heap, scores, size++);
    } else {
      heap[0] = id;
      sink(heap, scores, size);
    }
    if (size === limit) least = Math.max(least, scores[heap[0]!]!);
  }
  return heap.subarray(0, size).sort((a, b) => scores[b]! - scores[a]! || a - b);
}

/** Whether the score at `a` comes after that at `b`. */
function isWorse(scores: Float32Array, a: number, b: number): boolean {
  const [x, y] = [scores[a]!, scores[b]!];
  return x < y || (x === y && a > b);
}

function rise(heap: Uint32Array, scores: Float32Array, from: number): void {
  let i = from;
  while (i > 0) {
    const parent = (i - 1) >> 1;
    if (!isWorse(scores, heap[i]!, heap[parent]!)) return;
    swap(heap, i, parent);
    i = parent;
  }
}

function sink(heap: Uint32Array, scores: Float32Array, size: number): void {
  for (let i = 0; ; ) {
    let worst = i;
    for (const child of [2 * i + 1, 2 * i + 2]) {
      if (child < size && isWorse(scores, heap[child]!, heap[worst]!)) worst = child;
    }
    if (worst === i) return;
    swap(heap, i, worst);
    i = worst;
  }
}

function swap(heap: Uint32Array, i: number, j: number): void {
  const held = heap[i]!;
  heap[i] = heap[j]!;
  heap[j] = held;
}
