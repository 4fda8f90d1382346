/** Asks the server again and again while the page is shown. */

const MILLISECONDS = 2000;

/**
 * Calls `refresh` now and two seconds after each answer, while the page is visible, until the returned function is called or `refresh` returns
 * `done`. `onError` gets an error once until a request succeeds again.
 */
export function poll(
  refresh: () => Promise<'done' | undefined>,
  onError: (error: unknown) => void,
): () => void {
  let ended = false;
  let failing = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tick = async (): Promise<void> => {
    try {
      if (!document.hidden && (await refresh()) === 'done') return;
      failing = false;
    } catch (error) {
      if (!failing) onError(error);
      failing = true;
    }
    if (!ended) timer = setTimeout(tick, MILLISECONDS);
  };
  void tick();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
