/** A plugin's failures in words. */
import { DeviceError } from '../../../errors.js';
import type { MemoryUse } from '../../program.js';
import type { ErrorCode } from './abi.js';

/** A program or an array does not fit the device's memory. */
export class OutOfDeviceMemory extends DeviceError {
  constructor(
    message: string,
    /** Bytes that could not be had, if the plugin said so. */
    readonly needed: number | undefined,
    readonly memory: MemoryUse | undefined,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The words that allocators of XLA use, and the driver where nothing else caught it. */
const OUT_OF_MEMORY = /out of memory|failed to allocate|ran out of|OUT_OF_MEMORY/i;
const BYTES = [/\((\d+)B\)/, /allocat\w*(?: \w+){0,3} (\d+) ?bytes/i, /\((\d+) bytes\)/];
/** XLA appends lists of buffers, of many pages. */
const LONGEST = 2000;

/** The error for what a plugin said while something was done. `memory` is asked only where memory ran out. */
export function pluginError(
  doing: string,
  code: ErrorCode,
  message: string,
  memory?: () => MemoryUse | undefined,
): DeviceError {
  const words = message.length > LONGEST ? `${message.slice(0, LONGEST)} …` : message;
  const cause = new Error(`${code}: ${message}`);
  if (!OUT_OF_MEMORY.test(message)) {
    return new DeviceError(`the cuda device failed while ${doing}: ${words} (${code})`, { cause });
  }
  const needed = BYTES.map((pattern) => pattern.exec(message)?.[1]).find((bytes) => bytes !== undefined);
  const use = memory?.();
  const wanted = needed === undefined ? 'more' : `${gigabytes(Number(needed))} more`;
  const there = use ? `, and of its ${gigabytes(use.limit)} are ${gigabytes(use.inUse)} in use` : '';
  return new OutOfDeviceMemory(
    `the cuda device is out of memory while ${doing}: it needed ${wanted}${there}. Use a smaller batch, a shorter sequence or a smaller model. XLA says: ${words.split('\n')[0]}`,
    needed === undefined ? undefined : Number(needed),
    use,
    { cause },
  );
}

function gigabytes(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toPrecision(3)} MB` : `${(bytes / 1e9).toPrecision(3)} GB`;
}
