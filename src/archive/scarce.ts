/** Errors of the system that say nothing about a file: the machine has no more of what opening one takes. */
const CODES = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN']);

/** Whether an error is the machine's for now, and not the file's. */
export function isScarce(error: unknown): boolean {
  return CODES.has((error as NodeJS.ErrnoException).code ?? '');
}
