/** One device of a client. */
import type { MemoryUse } from '../../program.js';
import type { PjrtDevice } from '../pjrt.js';
import { FUNCTIONS, Struct } from './abi.js';
import type { PjrtApi } from './api.js';
import { outOfMemory } from './errors.js';

/** `PJRT_Device`. */
export class Device implements PjrtDevice {
  readonly kind: string;

  constructor(
    private readonly api: PjrtApi,
    readonly handle: bigint,
    readonly index: number,
  ) {
    const found = api.call(
      FUNCTIONS.deviceDescription,
      new Struct(FUNCTIONS.deviceDescription, { device: handle }),
      'looking at a device',
    );
    const kind = api.call(
      FUNCTIONS.deviceDescriptionKind,
      new Struct(FUNCTIONS.deviceDescriptionKind, { description: found.get('description') }),
      'looking at a device',
    );
    this.kind = api.text(kind.get('kind'), kind.get('kindSize'));
  }

  memory(): MemoryUse | undefined {
    const stats = this.stats();
    if (!stats?.get('limitIsSet')) return undefined;
    const inUse = stats.get('inUse');
    return { inUse, limit: stats.get('limit'), peak: stats.get('peakIsSet') ? stats.get('peak') : inUse };
  }

  /**
   * Throws `OutOfDeviceMemory` where there is no room for so many bytes, `together` of them in one piece. XLA's allocator would wait ten seconds
   * for memory, in JavaScript's thread, which alone could free any; and who is told then goes on to the next thing that does not fit.
   */
  expectRoom(doing: string, bytes: number, together: number): void {
    const stats = this.stats();
    if (!stats?.get('limitIsSet')) return;
    const [limit, inUse] = [stats.get('limit'), stats.get('inUse')];
    const isKnown = stats.get('poolIsSet') && stats.get('largestFreeBlockIsSet');
    // What is not in the allocator's pool yet can be added to it.
    const largest = isKnown
      ? Math.max(stats.get('largestFreeBlock'), limit - stats.get('pool'))
      : limit - inUse;
    const isEnough = bytes <= limit - inUse;
    if (isEnough && together <= largest) return;
    throw outOfMemory(doing, bytes, this.memory(), isEnough ? { largest } : {});
  }

  /** Undefined where the plugin does not know. */
  private stats(): Struct<typeof FUNCTIONS.deviceMemoryStats.fields> | undefined {
    const args = new Struct(FUNCTIONS.deviceMemoryStats, { device: this.handle });
    try {
      return this.api.call(FUNCTIONS.deviceMemoryStats, args, 'asking for its memory');
    } catch {
      return undefined;
    }
  }
}
