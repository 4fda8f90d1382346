/** A loaded plugin: its functions by name, its versions, and its errors as `DeviceError`. */
import { DeviceError } from '../../../errors.js';
import type { MemoryUse } from '../../program.js';
import {
  API_HEADER,
  API_VERSION,
  type ApiFunction,
  ERROR_CODES,
  type ErrorCode,
  type Fields,
  FUNCTIONS,
  NAMED_VALUE,
  STRUCTS,
  Struct,
} from './abi.js';
import { pluginError } from './errors.js';
import { type Koffi, loadLibrary } from './koffi.js';

/** The oldest supported version: 0.57 moved some functions. */
const OLDEST_MINOR = 57;
/** The newest version that these declarations were checked against. Later minor versions append functions and fields. */
const NEWEST_MINOR = 95;

type AnyStruct = Struct<Fields>;
/** `koffi.view` crashes where two views of the same memory exist, so memory is copied. */
type Memcpy = (to: Uint8Array, from: bigint, bytes: number) => void;
type NativeFunction = {
  (args: Uint8Array): bigint | null;
  async(args: Uint8Array, done: (error: unknown, result: bigint | null) => void): void;
};

/** A loaded plugin: calls its functions, and throws the errors that they return. */
export class PjrtApi {
  private readonly functions = new Map<number, NativeFunction>();
  /** Sizes of structs that are larger in this plugin than in our declarations. */
  private readonly sizes = new Map<string, number>();
  /** Buffers that C refers to by address while a call runs, referenced here so that they are not garbage-collected. */
  private readonly held = new Set<object>();
  /** Waits that are queued for a free thread. */
  private readonly waiting: (() => void)[] = [];
  private threads = 0;

  private constructor(
    private readonly koffi: Koffi,
    private readonly memcpy: Memcpy,
    readonly path: string,
    private readonly table: bigint,
    /** Such as `0.94`. */
    readonly version: string,
  ) {}

  /**
   * Loads a plugin. Throws `DeviceError` if it cannot be loaded, is not a PJRT plugin, or has an unsupported version.
   */
  static load(koffi: Koffi, path: string): PjrtApi {
    let table: bigint | null;
    try {
      table = loadLibrary(koffi, path).func('void *GetPjrtApi()')() as bigint | null;
    } catch (error) {
      throw new DeviceError(
        `${path} cannot be loaded as a PJRT plugin: ${error instanceof Error ? error.message : error}`,
        { cause: error },
      );
    }
    if (!table) throw new DeviceError(`${path} is no PJRT plugin that works here: GetPjrtApi gives nothing`);
    const memcpy = koffi.load(null).func('void *memcpy(void *to, void *from, size_t bytes)') as Memcpy;
    const header = Buffer.alloc(API_HEADER);
    memcpy(header, table, API_HEADER);
    const size = Number(header.readBigUInt64LE(0));
    const major = header.readInt32LE(API_VERSION);
    const minor = header.readInt32LE(API_VERSION + 4);
    const last = Math.max(...Object.values(FUNCTIONS).map(({ slot }) => slot));
    if (major !== 0 || minor < OLDEST_MINOR || size < API_HEADER + 8 * (last + 1)) {
      throw new DeviceError(
        `${path} speaks version ${major}.${minor} of the PJRT C API, and Heddle versions 0.${OLDEST_MINOR} to 0.${NEWEST_MINOR} and later ones of 0.x: install a plugin of one of those (heddle setup cuda does), or another version of Heddle`,
      );
    }
    return new PjrtApi(koffi, memcpy, path, table, `${major}.${minor}`);
  }

  /**
   * Calls a function with its argument struct, which then holds the results. Throws `DeviceError` with the plugin's message, which says what
   * it failed at (`doing`).
   */
  call<F extends Fields>(
    fn: ApiFunction<F>,
    args: Struct<F>,
    doing: string,
    { others = [], memory, kept }: CallOptions = {},
  ): Struct<F> {
    const structs: readonly AnyStruct[] = [args as unknown as AnyStruct, ...others];
    const native = this.native(fn);
    const use = this.hold(structs, kept);
    try {
      let failure = this.take(native(args.bytes));
      while (failure && this.adopt(failure.message, structs)) failure = this.take(native(args.bytes));
      if (failure) throw this.describe(failure, doing, memory);
      return args;
    } finally {
      this.held.delete(use);
    }
  }

  /** The same in a thread, so that long calls do not block JavaScript. */
  async callAsync<F extends Fields>(
    fn: ApiFunction<F>,
    args: Struct<F>,
    doing: string,
    { others = [], memory, kept }: CallOptions = {},
  ): Promise<Struct<F>> {
    const structs: readonly AnyStruct[] = [args as unknown as AnyStruct, ...others];
    const native = this.native(fn);
    const use = this.hold(structs, kept);
    try {
      let failure = this.take(await inThread(native, args.bytes));
      while (failure && this.adopt(failure.message, structs)) {
        failure = this.take(await inThread(native, args.bytes));
      }
      if (failure) throw this.describe(failure, doing, memory);
      return args;
    } finally {
      this.held.delete(use);
    }
  }

  /**
   * Waits for an event and destroys it. At most two threads wait at a time, first come first served: a device works in order too, and other
   * work needs Node's thread pool.
   */
  async await(event: bigint, doing: string, { memory, kept }: CallOptions = {}): Promise<void> {
    const use = this.hold([], kept);
    try {
      const isReady = new Struct(FUNCTIONS.eventIsReady, { event });
      const ready = this.call(FUNCTIONS.eventIsReady, isReady, doing).get('isReady');
      const args = new Struct(FUNCTIONS.eventAwait, { event });
      if (ready) {
        this.call(FUNCTIONS.eventAwait, args, doing, { memory });
        return;
      }
      if (this.threads >= 2) await new Promise<void>((resolve) => this.waiting.push(resolve));
      else this.threads++;
      try {
        await this.callAsync(FUNCTIONS.eventAwait, args, doing, { memory });
      } finally {
        const next = this.waiting.shift();
        if (next) next();
        else this.threads--;
      }
    } finally {
      this.held.delete(use);
      this.destroy(FUNCTIONS.eventDestroy, { event });
    }
  }

  /** Frees an object of the plugin. Errors are ignored, since nothing can be done about them. */
  destroy<F extends Fields>(fn: ApiFunction<F>, values: ConstructorParameters<typeof Struct<F>>[1]): void {
    this.take(this.native(fn)(new Struct(fn, values).bytes));
  }

  /** Calls a deleter function that the plugin returned. */
  free(deleter: bigint, value: bigint): void {
    this.koffi.call(deleter, this.prototype('void', 'PjrtDeleter'), value);
  }

  /** A C string of this length, which need not end with a zero. */
  text(address: bigint, length: number): string {
    return Buffer.from(this.copy(address, length).buffer).toString('utf8');
  }

  /** A copy of C's memory. */
  copy(address: bigint, bytes: number): Uint8Array<ArrayBuffer> {
    const copy = new Uint8Array(bytes);
    if (bytes > 0) this.memcpy(copy, address, bytes);
    return copy;
  }

  /** An array of pointers or 8-byte integers. */
  array(address: bigint, length: number): bigint[] {
    const bytes = this.copy(address, 8 * length);
    return Array.from(new BigUint64Array(bytes.buffer, 0, length));
  }

  /** The address of an array's first element. The array must be referenced as long as C uses it. */
  address(array: ArrayBufferView): bigint {
    return array.byteLength === 0 ? this.koffi.address(NOTHING) : this.koffi.address(array);
  }

  /** The plugin's attributes, such as `xla_version`, `stablehlo_current_version` and `cuda_version`. */
  attributes(): Record<string, string> {
    const args = this.call(
      FUNCTIONS.pluginAttributes,
      new Struct(FUNCTIONS.pluginAttributes),
      'asking for its versions',
    );
    const found: Record<string, string> = {};
    let address = args.get('attributes');
    for (let left = args.get('count'); left > 0; left--) {
      const value = new Struct(STRUCTS.namedValue);
      const size = Number(this.array(address, 1)[0]);
      value.bytes.set(this.copy(address, Math.min(size, value.bytes.length)));
      const name = this.text(value.get('name'), value.get('nameSize'));
      const read = this.value(value);
      if (read !== undefined) found[name] = read;
      // Structs in an array are aligned to 8 bytes.
      address += BigInt(Math.ceil(size / 8) * 8);
    }
    return found;
  }

  private value(named: Struct<typeof STRUCTS.namedValue.fields>): string | undefined {
    const offset = STRUCTS.namedValue.offsets.value;
    const length = named.get('valueSize');
    switch (named.get('type')) {
      case NAMED_VALUE.string:
        return this.text(named.view.getBigUint64(offset, true), length);
      case NAMED_VALUE.int64:
        return String(named.get('value'));
      case NAMED_VALUE.int64List:
        return this.array(named.view.getBigUint64(offset, true), length).join('.');
      case NAMED_VALUE.float:
        return String(named.view.getFloat32(offset, true));
      case NAMED_VALUE.bool:
        return String(named.view.getUint8(offset) !== 0);
      default:
        return undefined;
    }
  }

  private native(fn: ApiFunction<Fields> | ApiFunction): NativeFunction {
    let native = this.functions.get(fn.slot);
    if (!native) {
      const pointer = this.array(this.table + BigInt(API_HEADER + 8 * fn.slot), 1)[0]!;
      if (pointer === 0n) {
        throw new DeviceError(
          `${this.path} does not have ${fn.name.replace(/_Args$/, '')}, which Heddle needs`,
        );
      }
      native = this.koffi.decode(pointer, this.prototype('void *', 'PjrtFunction')) as NativeFunction;
      this.functions.set(fn.slot, native);
    }
    return native;
  }

  private prototype(result: string, name: string) {
    let prototype = prototypes.get(name);
    if (!prototype) {
      prototype = this.koffi.proto(`${result} Heddle${name}(void *args)`);
      prototypes.set(name, prototype);
    }
    return prototype;
  }

  /** Reads an error's code and message, and destroys it. */
  private take(error: bigint | null): Failure | undefined {
    if (!error) return undefined;
    const message = new Struct(FUNCTIONS.errorMessage, { error });
    this.native(FUNCTIONS.errorMessage)(message.bytes);
    const said = this.text(message.get('message'), message.get('messageSize'));
    const code = new Struct(FUNCTIONS.errorCode, { error });
    const second = this.native(FUNCTIONS.errorCode)(code.bytes);
    if (second)
      this.native(FUNCTIONS.errorDestroy)(new Struct(FUNCTIONS.errorDestroy, { error: second }).bytes);
    this.native(FUNCTIONS.errorDestroy)(new Struct(FUNCTIONS.errorDestroy, { error }).bytes);
    return { code: ERROR_CODES[code.get('code')] ?? 'UNKNOWN', message: said };
  }

  private describe({ code, message }: Failure, doing: string, memory?: () => MemoryUse | undefined) {
    if (!SIZE.test(message)) return pluginError(doing, code, message, memory);
    return new DeviceError(
      `${this.path} speaks version ${this.version} of the PJRT C API and Heddle 0.${NEWEST_MINOR}, and they do not fit together: ${message}`,
    );
  }

  /** Sets the sizes of structs to those of this plugin, and keeps the structs and what they point to from being garbage-collected. */
  private hold(structs: readonly AnyStruct[], kept: unknown): object {
    for (const struct of structs) {
      const size = this.sizes.get(struct.layout.name);
      if (size !== undefined) struct.size = size;
    }
    const use = { structs, kept };
    this.held.add(use);
    return use;
  }

  /** Adopts the larger struct size that an error message demands; the unknown fields are zero. Returns whether to repeat the call. */
  private adopt(message: string, structs: readonly AnyStruct[]): boolean {
    const [, name, expected] = SIZE.exec(message) ?? [];
    const struct = structs.find(({ layout }) => layout.name === name);
    const size = Number(expected);
    if (!struct || size <= struct.size || size > struct.bytes.length) return false;
    this.sizes.set(struct.layout.name, size);
    struct.size = size;
    return true;
  }
}

/** What a call needs besides its argument struct. */
export interface CallOptions {
  readonly others?: readonly AnyStruct[];
  /** The device's memory use, for the message if memory runs out. */
  readonly memory?: (() => MemoryUse | undefined) | undefined;
  /** What the structs point to, to be kept alive until the call returns. */
  readonly kept?: unknown;
}

interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
}

/** XLA's error for a struct that is too small: "Unexpected PJRT_Program size: expected 48, got 40. …". */
const SIZE = /Unexpected (\w+) size: expected (\d+), got/;
const NOTHING = new Uint8Array(new ArrayBuffer(8));
/** koffi has one list of types for a process. */
const prototypes = new Map<string, ReturnType<Koffi['proto']>>();

function inThread(native: NativeFunction, args: Uint8Array): Promise<bigint | null> {
  return new Promise((resolve, reject) => {
    native.async(args, (error, result) => (error ? reject(error) : resolve(result)));
  });
}
