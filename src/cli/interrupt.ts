/** How commands that take long handle Ctrl-C. */

/**
 * The signals that ask a process to end: Ctrl-C, `kill`, and a closed terminal. Node.js resets what `nohup` ignores, so SIGHUP would end a process
 * that does not handle it.
 */
export const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Ends the process at once, as SIGINT does by default, after its `exit` listeners. `process.exit` waits until native calls in other threads return, and
 * a GPU that waits for a process which has died never does.
 */
function endNow(): void {
  process.emit('exit', 130);
  process.removeAllListeners('SIGINT');
  process.kill(process.pid, 'SIGINT');
}

/** Ends the process after two seconds, if something that never ends still keeps it: an exchange of GPUs with a process that has failed. */
export function endSoon(): void {
  setTimeout(() => process.kill(process.pid, 'SIGTERM'), 2000).unref();
  process.removeAllListeners('SIGTERM');
}

/** Runs work that writes its result at the end. Ctrl-C ends the process through `process.exit`, which removes temporary files. */
export async function leavingNothing(work: () => Promise<void>): Promise<void> {
  const leave = (): void => process.exit(130);
  for (const signal of ENDING_SIGNALS) process.on(signal, leave);
  try {
    await work();
  } finally {
    for (const signal of ENDING_SIGNALS) process.off(signal, leave);
  }
}

/** Runs work that saves what it has and ends when its signal is aborted, which the first Ctrl-C does. A second Ctrl-C ends the process. */
export async function savingAtCtrlC<T>(
  work: (signal: AbortSignal) => Promise<T>,
  onAbort: () => void,
): Promise<T> {
  const { signal, stop } = listen(onAbort);
  try {
    return await work(signal);
  } finally {
    stop();
  }
}

/** A signal that the first Ctrl-C aborts, until the process ends. A second Ctrl-C ends the process. */
export function abortedByPerson(): AbortSignal {
  return listen(() => undefined).signal;
}

function listen(onAbort: () => void): { signal: AbortSignal; stop: () => void } {
  const interrupt = new AbortController();
  let interruptedAt = 0;
  const onSignal = (): void => {
    // Stopping a process group may deliver the signal twice at once; that is not a second Ctrl-C.
    if (interrupt.signal.aborted && performance.now() - interruptedAt > 1000) endNow();
    if (interrupt.signal.aborted) return;
    interruptedAt = performance.now();
    onAbort();
    interrupt.abort();
  };
  for (const signal of ENDING_SIGNALS) process.on(signal, onSignal);
  const stop = (): void => {
    for (const signal of ENDING_SIGNALS) process.off(signal, onSignal);
  };
  return { signal: interrupt.signal, stop };
}
