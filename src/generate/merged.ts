/** Merges streams. */

/**
 * Yields the values of several generators as they arrive. Throws what one of them throws, and the signal's reason soon after an abort. All
 * generators are closed then, as well as when the consumer stops.
 */
export async function* merged<T>(
  streams: readonly AsyncGenerator<T>[],
  signal?: AbortSignal,
): AsyncGenerator<T> {
  const next = async (i: number) => ({ i, result: await streams[i]!.next() });
  const pending = new Map(streams.map((_, i) => [i, next(i)]));
  try {
    while (pending.size > 0) {
      const { i, result } = await Promise.race(pending.values());
      signal?.throwIfAborted();
      if (result.done) {
        pending.delete(i);
        continue;
      }
      pending.set(i, next(i));
      yield result.value;
    }
  } finally {
    for (const failed of pending.values()) failed.catch(() => {});
    // A generator that is computing a value is closed after it.
    await Promise.all(streams.map((stream) => stream.return(undefined)));
  }
}
