/**
 * Frees arrays at once. The garbage collector frees them late, and states that runs have replaced would accumulate until then.
 */
import { MessageChannel } from 'node:worker_threads';

const { port1, port2 } = new MessageChannel();
// Transferring a buffer to a closed port frees it at once.
port2.close();

/** Frees the buffer of an array that fills it. Nothing may use the array afterwards. */
export function release({ buffer, byteLength }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) port1.postMessage(null, [buffer]);
}
