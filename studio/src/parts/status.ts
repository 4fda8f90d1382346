/** What went wrong, told to the person in a bar. */
import { signal } from '@preact/signals';
import { ApiError } from '../api.js';

export const problem = signal<string | undefined>(undefined);
/** The server wants a key. */
export const locked = signal(false);

/** Tells of an error that nobody handles. A server that cannot be reached is told of by connection.ts. */
export function report(error: unknown): void {
  if (error instanceof DOMException && error.name === 'AbortError') return;
  if (error instanceof ApiError && error.status === 0) return;
  if (error instanceof ApiError && error.status === 401) locked.value = true;
  else problem.value = error instanceof Error ? error.message : String(error);
}

/** For handlers of events: what goes wrong in them is reported. */
export function reporting(work: () => Promise<unknown>): () => void {
  return () => {
    work().catch(report);
  };
}
