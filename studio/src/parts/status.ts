/** What is said to the person besides what they look at: to a screen reader, or in a bar when something went wrong. */
import { signal } from '@preact/signals';
import { ApiError } from '../api.js';

export const announcement = signal('');
export const problem = signal<string | undefined>(undefined);
/** The server wants a key. */
export const locked = signal(false);

export function announce(text: string): void {
  announcement.value = text;
}

/** Tells of an error that nobody handles. */
export function report(error: unknown): void {
  if (error instanceof DOMException && error.name === 'AbortError') return;
  if (error instanceof ApiError && error.status === 401) locked.value = true;
  else problem.value = error instanceof Error ? error.message : String(error);
}

/** For handlers of events: what goes wrong in them is reported. */
export function reporting(work: () => Promise<unknown>): () => void {
  return () => {
    work().catch(report);
  };
}
