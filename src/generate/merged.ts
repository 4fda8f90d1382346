/** Several streams as one. */

/**
 * What several generators give, as it comes. Throws what one of them throws, and the signal's reason, if there is one, soon after it is aborted; all
 * are returned then, as they are when nobody takes any more.
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
    // A stream that is at work ends when it gives its next value.
    await Promise.all(streams.map((stream) => stream.return(undefined)));
  }
}
