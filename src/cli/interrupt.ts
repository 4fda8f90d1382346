/** What Ctrl-C means to commands that do something long. */

/** Does work that writes a folder at its end, and has nothing to save before. Interrupted meanwhile, the process exits in an orderly way, so that nothing half-written stays. */
export async function leavingNothing(work: () => Promise<void>): Promise<void> {
  const leave = (): void => process.exit(130);
  process.on('SIGINT', leave).on('SIGTERM', leave);
  try {
    await work();
  } finally {
    process.off('SIGINT', leave).off('SIGTERM', leave);
  }
}

/** Is aborted by Ctrl-C, for work that then ends by itself and keeps what it has. A second Ctrl-C ends the process. */
export function abortedByPerson(): AbortSignal {
  const interrupt = new AbortController();
  let interruptedAt = 0;
  const onSignal = (): void => {
    // Whoever stops a whole group of processes may signal this one twice at once; that is not an impatient person.
    if (interrupt.signal.aborted && performance.now() - interruptedAt > 1000) process.exit(130);
    if (interrupt.signal.aborted) return;
    interruptedAt = performance.now();
    interrupt.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return interrupt.signal;
}
