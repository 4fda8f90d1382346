/**
 * ONNX Runtime's telemetry. From 1.29 on, its packages for Linux and macOS write an identifier of the machine into the user's cache and send
 * what they run (the process, the model's metadata, durations) to its maker, unless this variable is set when the library is initialized.
 */
import { isMainThread } from 'node:worker_threads';

const VARIABLE = 'ORT_DISABLE_TELEMETRY';

/**
 * Disables the telemetry, unless the person's environment decides about it. To be called before ONNX Runtime is loaded, and before a thread is
 * started that loads it: the variables of a worker thread are a copy, which native code does not see.
 */
export function disableTelemetry(): void {
  if (isMainThread) process.env[VARIABLE] ??= '1';
}
