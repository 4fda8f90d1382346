/** Translates errors of a plugin. */
import { DeviceError } from '../../../errors.js';
import type { MemoryUse } from '../../program.js';
import type { ErrorCode } from './abi.js';

/** A program or an array does not fit the device's memory. */
export class OutOfDeviceMemory extends DeviceError {
  constructor(
    message: string,
    /** The bytes that could not be allocated, if the plugin's message has them. */
    readonly needed: number | undefined,
    readonly memory: MemoryUse | undefined,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** Messages of XLA's allocators and of the driver. */
const OUT_OF_MEMORY = /out of memory|failed to allocate|ran out of|OUT_OF_MEMORY/i;
const BYTES = [
  /\((\d+)(B)\)/,
  /allocat\w*(?: \w+){0,3} (\d+) ?(bytes)/i,
  /\((\d+) (bytes)\)/,
  /allocat\w*(?: \w+){0,3} ([\d.]+)([KMGT]iB|B)\b/i,
];
const UNITS: Readonly<Record<string, number>> = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
/** Characters after which a message is cut: XLA appends long lists of buffers. */
const LONGEST = 2000;

/** The error for a plugin's message while something was done. `memory` is called only if memory ran out. */
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
  const [, size, unit] = BYTES.map((pattern) => pattern.exec(message)).find((found) => found !== null) ?? [];
  const needed = size === undefined ? undefined : Number(size) * (UNITS[unit!] ?? 1);
  return outOfMemory(doing, needed, memory?.(), { words: words.split('\n')[0]!, cause });
}

/**
 * The error for what does not fit a device's memory while something was done: how many bytes it needed, as far as that is known. `largest` is the
 * largest piece of the free memory, if there is enough of it, but not in one piece.
 */
export function outOfMemory(
  doing: string,
  needed: number | undefined,
  memory: MemoryUse | undefined,
  { words, largest, ...options }: ErrorOptions & { readonly words?: string; readonly largest?: number } = {},
): OutOfDeviceMemory {
  const wanted = needed === undefined ? 'more' : `${gigabytes(needed)} more`;
  const there = memory ? `, and of its ${gigabytes(memory.limit)} are ${gigabytes(memory.inUse)} in use` : '';
  const advice = 'a smaller batch, a shorter sequence or a smaller model';
  const next =
    largest === undefined
      ? `Use ${advice}.`
      : `The free memory is in pieces, of which the largest has ${gigabytes(largest)}: start the process again, which puts it together, or use ${advice}.`;
  const said = words === undefined ? '' : ` XLA says: ${words}`;
  return new OutOfDeviceMemory(
    `the cuda device is out of memory while ${doing}: it needed ${wanted}${there}. ${next}${said}`,
    needed,
    memory,
    options,
  );
}

function gigabytes(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toPrecision(3)} MB` : `${(bytes / 1e9).toPrecision(3)} GB`;
}
