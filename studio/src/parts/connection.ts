/** Whether the server can be reached. Once a request has found that it cannot, it is tried again until it can. */
import { signal } from '@preact/signals';
import { announce } from './announcement.js';

export const connected = signal(true);
/** Whether it is being tried at the moment. */
export const trying = signal(false);

/** Between two tries, in milliseconds. */
const PAUSE = 2000;
let timer: ReturnType<typeof setTimeout> | undefined;

export function connectionLost(): void {
  if (!connected.value) return;
  connected.value = false;
  announce('No connection to the server');
  timer = setTimeout(tryAgain, PAUSE);
}

/** Asks whether the server is there again, and if not, goes on asking from time to time. */
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
