/**
 * Memory back at once. JavaScript frees an array when it gets round to it, and by then many that a run replaced may have piled
 * up beside what is held.
 */
import { MessageChannel } from 'node:worker_threads';

const { port1, port2 } = new MessageChannel();
// What is sent to nobody is freed.
port2.close();

/** Frees an array that fills its buffer, which nobody may use any more. */
export function release({ buffer, byteLength }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) port1.postMessage(null, [buffer]);
}
