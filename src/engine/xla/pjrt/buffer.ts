/** An array on a device. */
import { DeviceError } from '../../../errors.js';
import type { TensorData } from '../../../graph/dtype.js';
import type { PjrtBuffer } from '../pjrt.js';
import { FUNCTIONS, STRUCTS, Struct } from './abi.js';
import type { Client } from './client.js';
import type { Device } from './device.js';
import { dropped, Resource } from './resource.js';

/** `PJRT_Buffer_MemoryLayout_Tiled` up to its last field. */
const TILED_BYTES = 56;

/** `PJRT_Buffer`. */
export class DeviceBuffer implements PjrtBuffer {
  readonly resource: Resource;
  private size: number | undefined;
  private dims: readonly number[] | undefined;

  constructor(
    private readonly client: Client,
    handle: bigint,
    private readonly device: Device | undefined,
  ) {
    const { api } = client;
    this.resource = new Resource(client.resources, handle, () =>
      api.destroy(FUNCTIONS.bufferDestroy, { buffer: handle }),
    );
    dropped.register(this, this.resource, this);
  }

  get bytes(): number {
    this.size ??= this.client.api
      .call(
        FUNCTIONS.bufferBytes,
        new Struct(FUNCTIONS.bufferBytes, { buffer: this.handle() }),
        'looking at an array',
      )
      .get('bytes');
    return this.size;
  }

  async download(into: TensorData): Promise<void> {
    const { api } = this.client;
    const buffer = this.handle();
    const dims = this.shape();
    const elements = dims.reduce((all, dim) => all * dim, 1);
    if (into.length !== elements) {
      throw new DeviceError(
        `an array of [${dims}] has ${elements} elements, and was to be copied into ${into.length}`,
      );
    }
    // The program chooses the layout of an array on the device; the copy on the host is row-major.
    const minorToMajor = BigInt64Array.from(dims, (_, axis) => BigInt(dims.length - 1 - axis));
    const layout = new Struct(STRUCTS.memoryLayout, {
      tiledSize: TILED_BYTES,
      minorToMajor: api.address(minorToMajor),
      rank: dims.length,
    });
    const args = new Struct(FUNCTIONS.bufferToHost, {
      buffer,
      hostLayout: api.address(layout.bytes),
      data: api.address(into),
      byteCount: into.byteLength,
    });
    const memory = this.memory;
    api.call(FUNCTIONS.bufferToHost, args, 'copying an array to the host', {
      others: [layout],
      memory,
      kept: { into, minorToMajor },
    });
    await this.client.during(() =>
      api.await(args.get('event'), 'copying an array to the host', { memory, kept: into }),
    );
  }

  async ready(): Promise<void> {
    const { api } = this.client;
    const args = new Struct(FUNCTIONS.bufferReadyEvent, { buffer: this.handle() });
    api.call(FUNCTIONS.bufferReadyEvent, args, 'running a program');
    await this.client.during(() =>
      api.await(args.get('event'), 'running a program', { memory: this.memory }),
    );
  }

  dispose(): void {
    dropped.unregister(this);
    this.resource.free();
  }

  /** Throws `DeviceError` once the buffer is disposed. */
  handle(): bigint {
    this.client.check();
    if (!this.resource.alive) throw new DeviceError('an array of the cuda device was disposed');
    return this.resource.handle;
  }

  private shape(): readonly number[] {
    if (!this.dims) {
      const { api } = this.client;
      const args = new Struct(FUNCTIONS.bufferDimensions, { buffer: this.handle() });
      api.call(FUNCTIONS.bufferDimensions, args, 'looking at an array');
      this.dims = api.array(args.get('dims'), args.get('rank')).map(Number);
    }
    return this.dims;
  }

  private readonly memory = () => this.device?.memory();
}

/** An argument's handle. Throws `DeviceError` if it is disposed or belongs to another kind of device. */
export function handleOf(buffer: PjrtBuffer): bigint {
  if (!(buffer instanceof DeviceBuffer)) {
    throw new DeviceError('an argument of a program is no array of the cuda device');
  }
  return buffer.handle();
}
