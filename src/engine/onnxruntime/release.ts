/**
 * Frees arrays at once. The garbage collector frees them late, and until then those that runs replaced pile up beside what is held.
 */
import { MessageChannel } from 'node:worker_threads';

const { port1, port2 } = new MessageChannel();
// Transferring a buffer to a closed port frees it at once.
port2.close();

/** Frees an array that fills its buffer, which nobody may use any more. */
export function release({ buffer, byteLength }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) port1.postMessage(null, [buffer]);
}
