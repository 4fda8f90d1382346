/** A client of a plugin: it compiles programs and owns everything that was made with it. */
import { statSync } from 'node:fs';
import { DeviceError } from '../../../errors.js';
import { DTYPES, type TensorData } from '../../../graph/dtype.js';
import type { MemoryUse } from '../../program.js';
import type { PjrtBuffer, PjrtClient, PjrtDevice, PjrtExecutable, XlaType } from '../pjrt.js';
import { FUNCTIONS, STRUCTS, Struct } from './abi.js';
import type { PjrtApi } from './api.js';
import { DeviceBuffer } from './buffer.js';
import { Device } from './device.js';
import { Executable } from './executable.js';
import type { KeyValueCallbacks } from './key-value/callbacks.js';
import { type CompileOptions, compileOptions } from './options.js';
import type { Resource } from './resource.js';

/** `PJRT_Buffer_Type`. */
const TYPE: Record<XlaType, number> = {
  bool: 1,
  int8: 2,
  int32: 4,
  int64: 5,
  uint8: 6,
  float16: 10,
  float32: 11,
  bfloat16: 13,
};

/** `PJRT_HostBufferSemantics_kImmutableOnlyDuringCall`. */
const COPY_DURING_CALL = 0;
const MLIR = Buffer.from('mlir');

/** `PJRT_Client`. */
export class Client implements Omit<PjrtClient, 'dispose'> {
  readonly platform: string;
  readonly version: string;
  readonly identity: string;
  readonly devices: readonly Device[];
  readonly resources = new Set<Resource>();
  /** The number of calls in threads that use the client. */
  private running = 0;
  private disposed = false;

  constructor(
    readonly api: PjrtApi,
    private readonly handle: bigint,
    /** The callbacks through which it reaches other processes. */
    private readonly store?: KeyValueCallbacks,
  ) {
    this.devices = this.findDevices();
    const name = api.call(
      FUNCTIONS.clientPlatformName,
      new Struct(FUNCTIONS.clientPlatformName, { client: handle }),
      'asking for its name',
    );
    this.platform = api.text(name.get('name'), name.get('nameSize'));
    const version = api.call(
      FUNCTIONS.clientPlatformVersion,
      new Struct(FUNCTIONS.clientPlatformVersion, { client: handle }),
      'asking for its version',
    );
    const said = api.text(version.get('version'), version.get('versionSize')).replace(/\s+/g, ' ').trim();
    this.version = `${said}, PJRT ${api.version}`;
    this.identity = JSON.stringify([
      this.platform,
      this.version,
      api.attributes(),
      this.devices.map(({ kind }) => kind),
      fileIdentity(api.path),
      process.env.XLA_FLAGS,
    ]);
  }

  async compile(text: string, options?: CompileOptions): Promise<PjrtExecutable> {
    const code = Buffer.from(text);
    const program = new Struct(STRUCTS.program, {
      code: this.api.address(code),
      codeSize: code.length,
      format: this.api.address(MLIR),
      formatSize: MLIR.length,
    });
    const compiled = compileOptions(options);
    const args = new Struct(FUNCTIONS.clientCompile, {
      client: this.handle,
      program: this.api.address(program.bytes),
      options: this.api.address(compiled),
      optionsSize: compiled.length,
    });
    return this.during(async () => {
      await this.api.callAsync(FUNCTIONS.clientCompile, args, 'compiling', {
        others: [program],
        memory: this.firstMemory,
        kept: { code, compiled },
      });
      return new Executable(this, args.get('executable'));
    });
  }

  async deserialize(bytes: Uint8Array): Promise<PjrtExecutable> {
    const args = new Struct(FUNCTIONS.executableDeserialize, {
      client: this.handle,
      bytes: this.api.address(bytes),
      byteCount: bytes.length,
    });
    return this.during(async () => {
      await this.api.callAsync(FUNCTIONS.executableDeserialize, args, 'loading a compiled program', {
        memory: this.firstMemory,
        kept: bytes,
      });
      return new Executable(this, args.get('loaded'));
    });
  }

  upload(
    data: TensorData,
    dtype: XlaType,
    dims: readonly number[],
    device: PjrtDevice = this.devices[0]!,
  ): PjrtBuffer {
    this.check();
    const to = this.devices[device.index];
    if (to !== device) throw new DeviceError('an array was to go to a device of another client');
    const elements = dims.reduce((all, dim) => all * dim, 1);
    if (!(data instanceof DTYPES[dtype].array) || data.length !== elements) {
      throw new DeviceError(
        `an array of ${dtype} [${dims}] needs ${elements} elements in a ${DTYPES[dtype].array.name}, not ${data.length} in a ${data.constructor.name}`,
      );
    }
    const doing = `copying ${dtype} [${dims}] to it`;
    to.expectRoom(doing, data.byteLength, data.byteLength);
    const sizes = BigInt64Array.from(dims, BigInt);
    const args = new Struct(FUNCTIONS.clientBufferFromHost, {
      client: this.handle,
      data: this.api.address(data),
      type: TYPE[dtype],
      dims: this.api.address(sizes),
      rank: dims.length,
      semantics: COPY_DURING_CALL,
      device: to.handle,
    });
    this.api.call(FUNCTIONS.clientBufferFromHost, args, doing, {
      memory: () => to.memory(),
      kept: { data, sizes },
    });
    this.api.destroy(FUNCTIONS.eventDestroy, { event: args.get('doneWithHostBuffer') });
    return new DeviceBuffer(this, args.get('buffer'), to);
  }

  dispose(): void {
    this.disposed = true;
    if (this.running > 0) return;
    for (const resource of this.resources) resource.free();
    this.api.destroy(FUNCTIONS.clientDestroy, { client: this.handle });
    void this.store?.close();
  }

  /** Keeps the client alive until work in a thread is done and the client owns its results. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.running++;
    try {
      return await work();
    } finally {
      this.running--;
      if (this.disposed) this.dispose();
    }
  }

  /** Throws `DeviceError` once the client is disposed. */
  check(): void {
    if (this.disposed) throw new DeviceError('the cuda device was disposed');
  }

  readonly firstMemory = (): MemoryUse | undefined => this.devices[0]?.memory();

  private findDevices(): Device[] {
    const args = this.api.call(
      FUNCTIONS.clientAddressableDevices,
      new Struct(FUNCTIONS.clientAddressableDevices, { client: this.handle }),
      'looking for devices',
    );
    const handles = this.api.array(args.get('devices'), args.get('count'));
    if (handles.length === 0) throw new DeviceError(`the plugin ${this.api.path} has no device here`);
    return handles.map((handle, index) => new Device(this.api, handle, index));
  }
}

/** Identifies the plugin's file, which may be replaced by another of the same version. */
function fileIdentity(path: string): string {
  const { size, mtimeMs } = statSync(path);
  return `${size}-${mtimeMs}`;
}
