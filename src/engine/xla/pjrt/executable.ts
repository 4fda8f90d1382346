/** A compiled program. */
import { DeviceError } from '../../../errors.js';
import type { PjrtBuffer, PjrtExecutable } from '../pjrt.js';
import { FUNCTIONS, STRUCTS, Struct } from './abi.js';
import { DeviceBuffer, handleOf } from './buffer.js';
import type { Client } from './client.js';
import { dropped, Resource } from './resource.js';

/** `PJRT_LoadedExecutable`. */
export class Executable implements PjrtExecutable {
  readonly results: number;
  /**
   * Bytes of a device that a run takes besides its arguments, and of these its temporaries, which lie together; the others are results that
   * are in no argument's memory. Undefined where the plugin does not know.
   */
  private readonly takes: { readonly all: number; readonly temporaries: number } | undefined;
  private readonly loaded: Resource;
  private readonly executable: Resource;

  constructor(
    private readonly client: Client,
    handle: bigint,
  ) {
    const { api } = client;
    this.loaded = new Resource(client.resources, handle, () =>
      api.destroy(FUNCTIONS.loadedDestroy, { executable: handle }),
    );
    dropped.register(this, this.loaded, this);
    const args = new Struct(FUNCTIONS.loadedGetExecutable, { loaded: handle });
    const executable = api
      .call(FUNCTIONS.loadedGetExecutable, args, 'looking at a program')
      .get('executable');
    this.executable = new Resource(client.resources, executable, () =>
      api.destroy(FUNCTIONS.executableDestroy, { executable }),
    );
    dropped.register(this, this.executable, this);
    this.results = api
      .call(
        FUNCTIONS.executableOutputCount,
        new Struct(FUNCTIONS.executableOutputCount, { executable }),
        'looking at a program',
      )
      .get('count');
    this.takes = this.askWhatItTakes();
  }

  private askWhatItTakes(): Executable['takes'] {
    const args = new Struct(FUNCTIONS.executableMemory, { executable: this.executable.handle });
    try {
      this.client.api.call(FUNCTIONS.executableMemory, args, 'asking what a program takes');
    } catch {
      return undefined;
    }
    const temporaries = args.get('temporaries');
    return { all: temporaries + args.get('outputs') - args.get('aliased'), temporaries };
  }

  run(args: readonly (readonly PjrtBuffer[])[]): PjrtBuffer[][] {
    const { api } = this.client;
    this.check();
    const count = args[0]?.length ?? 0;
    if (args.length === 0 || args.some((list) => list.length !== count)) {
      throw new DeviceError('a program needs one list of arguments for each device, all of one length');
    }
    const { takes } = this;
    if (takes)
      for (const device of this.client.devices.slice(0, args.length))
        device.expectRoom('running a program', takes.all, takes.temporaries);
    const inputs = args.map((list) => BigUint64Array.from(list, (buffer) => handleOf(buffer)));
    const outputs = args.map(() => new BigUint64Array(this.results));
    const inputLists = BigUint64Array.from(inputs, (list) => api.address(list));
    const outputLists = BigUint64Array.from(outputs, (list) => api.address(list));
    const options = new Struct(STRUCTS.executeOptions);
    const call = new Struct(FUNCTIONS.loadedExecute, {
      executable: this.loaded.handle,
      options: api.address(options.bytes),
      argumentLists: api.address(inputLists),
      deviceCount: args.length,
      argumentCount: count,
      outputLists: api.address(outputLists),
    });
    api.call(FUNCTIONS.loadedExecute, call, 'running a program', {
      others: [options],
      memory: this.client.firstMemory,
      kept: { inputs, outputs, inputLists, outputLists },
    });
    return outputs.map((list, device) =>
      Array.from(list, (handle) => new DeviceBuffer(this.client, handle, this.client.devices[device])),
    );
  }

  serialize(): Uint8Array {
    const { api } = this.client;
    this.check();
    const args = new Struct(FUNCTIONS.executableSerialize, { executable: this.executable.handle });
    api.call(FUNCTIONS.executableSerialize, args, 'serializing a program');
    try {
      return api.copy(args.get('bytes'), args.get('byteCount'));
    } finally {
      api.free(args.get('deleter'), args.get('serialized'));
    }
  }

  dispose(): void {
    dropped.unregister(this);
    this.executable.free();
    this.loaded.free();
  }

  private check(): void {
    this.client.check();
    if (!this.loaded.alive) throw new DeviceError('a program of the cuda device was disposed');
  }
}
