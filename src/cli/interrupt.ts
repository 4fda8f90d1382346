/** What Ctrl-C means to commands that write a folder at the end, and have nothing to save before. */

/** Does `work`. Interrupted meanwhile, the process exits in an orderly way, so that nothing half-written stays. */
export async function leavingNothing(work: () => Promise<void>): Promise<void> {
  const leave = (): void => process.exit(130);
  process.on('SIGINT', leave).on('SIGTERM', leave);
  try {
    await work();
  } finally {
    process.off('SIGINT', leave).off('SIGTERM', leave);
  }
}
