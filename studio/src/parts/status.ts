/** Errors, shown in a bar. */
import { signal } from '@preact/signals';
import { ApiError } from '../api.js';

export const problem = signal<string | undefined>(undefined);
/** Whether the server requires an API key. */
export const locked = signal(false);

/** Reports an unhandled error. An unreachable server is handled by connection.ts. */
export function report(error: unknown): void {
  if (error instanceof DOMException && error.name === 'AbortError') return;
  if (error instanceof ApiError && error.status === 0) return;
  if (error instanceof ApiError && error.status === 401) locked.value = true;
  else problem.value = error instanceof Error ? error.message : String(error);
}

/** Wraps an event handler so that its errors are reported. */
export function reporting(work: () => Promise<unknown>): () => void {
  return () => {
    work().catch(report);
  };
}
