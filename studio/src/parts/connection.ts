/** Whether the server can be reached. After a failed request, the connection is tried again until it works. */
import { signal } from '@preact/signals';
import { announce } from './announcement.js';

export const connected = signal(true);
/** Whether an attempt is in progress. */
export const trying = signal(false);

/** The pause between two attempts, in milliseconds. */
const PAUSE = 2000;
let timer: ReturnType<typeof setTimeout> | undefined;

export function connectionLost(): void {
  if (!connected.value) return;
  connected.value = false;
  announce('No connection to the server');
  timer = setTimeout(tryAgain, PAUSE);
}

/** Checks whether the server can be reached again, and repeats the check if not. */
export async function tryAgain(): Promise<void> {
  if (connected.value || trying.value) return;
  clearTimeout(timer);
  trying.value = true;
  const answers = await fetch('/healthz').then(
    ({ ok }) => ok,
    () => false,
  );
  trying.value = false;
  connected.value = answers;
  if (answers) announce('The server is there again');
  else timer = setTimeout(tryAgain, PAUSE);
}
