/**
 * XLA through the PJRT C API of a plugin: programs in StableHLO are compiled, arrays are moved to the device and back, and
 * programs run on them. Every failure is a `DeviceError` with the plugin's words.
 */
import { DeviceError } from '../../errors.js';
import type { DType, TensorData } from '../../graph/dtype.js';
import type { MemoryUse } from '../program.js';
import { findDriver } from './driver.js';
import { FUNCTIONS, Struct } from './pjrt/abi.js';
import { PjrtApi } from './pjrt/api.js';
import { Client } from './pjrt/client.js';
import { openCallbacks } from './pjrt/key-value/callbacks.js';
import { type Koffi, koffiPath, loadKoffi } from './pjrt/koffi.js';
import { type ClientOptions, type CompileOptions, clientOptions } from './pjrt/options.js';
import { type FoundPlugin, prepare } from './plugin.js';

export { OutOfDeviceMemory } from './pjrt/errors.js';
export type { ClientOptions, CompileOptions } from './pjrt/options.js';

/** The types of elements that arrays on the device may have. */
export type XlaType = DType;

/** A device of a client. */
export interface PjrtDevice {
  /** Its place in `PjrtClient.devices`. */
  readonly index: number;
  /** Such as `NVIDIA H200`. */
  readonly kind: string;
  /** Nothing where the plugin does not say. */
  memory(): MemoryUse | undefined;
}

/** A plugin's connection to its devices. */
export interface PjrtClient {
  /** Such as `cuda`. */
  readonly platform: string;
  /** The plugin's versions, for people. */
  readonly version: string;
  /**
   * What programs are compiled for besides their text: plugin, versions and devices. Another identity cannot load what this one serialized.
   */
  readonly identity: string;
  /** Those that this process can use. */
  readonly devices: readonly PjrtDevice[];
  /** Compiles a StableHLO module in a thread. Throws `DeviceError` for what XLA refuses. */
  compile(text: string, options?: CompileOptions): Promise<PjrtExecutable>;
  /** Loads what `PjrtExecutable.serialize` gave. Throws `DeviceError` where it is damaged or from another plugin. */
  deserialize(bytes: Uint8Array): Promise<PjrtExecutable>;
  /** Copies an array to a device, the first one by default. The array may be changed as soon as this returns. */
  upload(data: TensorData, dtype: XlaType, dims: readonly number[], device?: PjrtDevice): PjrtBuffer;
  /** Frees the client with everything that it made, once nothing is waited for any more. */
  dispose(): void;
}

/** A compiled program on the devices that it was compiled for. */
export interface PjrtExecutable {
  /** How many arrays a run makes, on each device. */
  readonly results: number;
  /**
   * Starts a run: `args[d]` are the arguments of device d, and the results come in the same order. Returns as soon as it is enqueued: a
   * failure of the computation is the failure of its results. Arguments that the program's text donates cannot be used any more. Throws
   * `DeviceError`, and then nothing was used up.
   */
  run(args: readonly (readonly PjrtBuffer[])[]): PjrtBuffer[][];
  /** The compiled program. Throws `DeviceError` where the plugin cannot. */
  serialize(): Uint8Array;
  dispose(): void;
}

/** An array on a device. */
export interface PjrtBuffer {
  /** Copies the array to the host, without blocking JavaScript. The length must be the array's. */
  download(into: TensorData): Promise<void>;
  /** Resolves when the computation that makes it is done, and throws its failure. */
  ready(): Promise<void>;
  /** Its size in the device's memory. */
  readonly bytes: number;
  /** May be called twice, and on what was donated. */
  dispose(): void;
}

interface OpenClient {
  readonly client: Promise<Client>;
  users: number;
}

/** By the plugin's path: a client reserves the device's memory, so a process has one for each plugin. */
const clients = new Map<string, OpenClient>();

/**
 * Loads a plugin, found (`findPlugin`) or by its path alone, and makes its client, which takes seconds on a GPU. A second call gives the
 * same client, whose options are the first one's; it lives until each was disposed. Throws `DeviceError`.
 */
export async function openClient(
  plugin: FoundPlugin | string,
  options: ClientOptions = {},
): Promise<PjrtClient> {
  const found = typeof plugin === 'string' ? { path: plugin, from: 'its path', libraries: [] } : plugin;
  const { path } = found;
  let open = clients.get(path);
  if (!open) {
    open = { client: createClient(found, options), users: 0 };
    clients.set(path, open);
  }
  open.users++;
  const mine = open;
  const close = () => {
    if (--mine.users > 0) return false;
    if (clients.get(path) === mine) clients.delete(path);
    return true;
  };
  try {
    return new SharedClient(await mine.client, close);
  } catch (error) {
    close();
    throw error;
  }
}

async function createClient(plugin: FoundPlugin, options: ClientOptions): Promise<Client> {
  const koffi = await loadKoffi();
  if (plugin.cudaMajor !== undefined) expectDriver(koffi, plugin.cudaMajor);
  const missing = prepare(koffi, plugin);
  try {
    return await startClient(PjrtApi.load(koffi, plugin.path), options);
  } catch (error) {
    if (missing.length === 0 || !(error instanceof DeviceError)) throw error;
    throw new DeviceError(`${error.message}. Besides, ${missing.join('; ')}`, { cause: error });
  }
}

/** Throws `DeviceError` where NVIDIA's driver is missing, or too old for a plugin: XLA's own message does not say so. */
function expectDriver(koffi: Koffi, cudaMajor: number): void {
  const driver = findDriver(koffi);
  if ('why' in driver)
    throw new DeviceError(`the cuda device cannot be used: ${driver.why}. Next: ${driver.todo}.`);
  if (Number.parseInt(driver.cuda, 10) >= cudaMajor) return;
  throw new DeviceError(
    `NVIDIA's driver here is for CUDA ${driver.cuda}, and the XLA plugin needs one for CUDA ${cudaMajor}: update the driver${cudaMajor === 13 ? ' to 580 or newer' : ''}.`,
  );
}

async function startClient(api: PjrtApi, options: ClientOptions): Promise<Client> {
  api.call(FUNCTIONS.pluginInitialize, new Struct(FUNCTIONS.pluginInitialize), 'starting');
  const named = clientOptions(api, options);
  const { group } = options;
  const store = group && (await openCallbacks(group.place, group.prefix, koffiPath()));
  try {
    const args = new Struct(FUNCTIONS.clientCreate, {
      options: named.count > 0 ? api.address(named.bytes) : 0n,
      optionCount: named.count,
      ...(store && { getCallback: store.get, putCallback: store.put, tryGetCallback: store.tryGet }),
    });
    await api.callAsync(FUNCTIONS.clientCreate, args, 'starting', { kept: named });
    const handle = args.get('client');
    try {
      return new Client(api, handle, store);
    } catch (error) {
      api.destroy(FUNCTIONS.clientDestroy, { client: handle });
      throw error;
    }
  } catch (error) {
    await store?.close();
    throw error;
  }
}

/** What one caller of `openClient` gets: the client is disposed of when all have disposed of theirs. */
class SharedClient implements PjrtClient {
  private disposed = false;

  constructor(
    private readonly client: Client,
    private readonly close: () => boolean,
  ) {}

  get platform(): string {
    return this.client.platform;
  }

  get version(): string {
    return this.client.version;
  }

  get identity(): string {
    return this.client.identity;
  }

  get devices(): readonly PjrtDevice[] {
    return this.client.devices;
  }

  async compile(text: string, options?: CompileOptions): Promise<PjrtExecutable> {
    return this.open().compile(text, options);
  }

  async deserialize(bytes: Uint8Array): Promise<PjrtExecutable> {
    return this.open().deserialize(bytes);
  }

  upload(data: TensorData, dtype: XlaType, dims: readonly number[], device?: PjrtDevice): PjrtBuffer {
    return this.open().upload(data, dtype, dims, device);
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    if (this.close()) this.client.dispose();
  }

  private open(): Client {
    if (this.disposed) throw new DeviceError('the cuda device was disposed');
    return this.client;
  }
}
