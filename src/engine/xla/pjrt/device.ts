/** One device of a client. */
import type { MemoryUse } from '../../program.js';
import type { PjrtDevice } from '../pjrt.js';
import { FUNCTIONS, Struct } from './abi.js';
import type { PjrtApi } from './api.js';

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
    try {
      const stats = this.api.call(
        FUNCTIONS.deviceMemoryStats,
        new Struct(FUNCTIONS.deviceMemoryStats, { device: this.handle }),
        'asking for its memory',
      );
      if (!stats.get('limitIsSet')) return undefined;
      const inUse = stats.get('inUse');
      return { inUse, limit: stats.get('limit'), peak: stats.get('peakIsSet') ? stats.get('peak') : inUse };
    } catch {
      // Plugins need not know.
      return undefined;
    }
  }
}
