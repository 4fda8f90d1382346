/**
 * The PJRT C API of `xla/pjrt/c/pjrt_c_api.h` (openxla/xla): the slot of each function in `PJRT_Api`, and the fields of its argument
 * struct. Every struct begins with its own size and a pointer to extensions; those two are not listed here.
 */

/** `i32` and enumerations take 4 bytes, `bool` one, everything else 8; each lies at a multiple of its own size. */
const BYTES = { pointer: 8, size: 8, i64: 8, i32: 4, f32: 4, bool: 1 } as const;

/** The C types that the structs' fields have. */
export type FieldType = keyof typeof BYTES;
/** The fields of a struct, in their order. */
export type Fields = Readonly<Record<string, FieldType>>;

/** The JavaScript type of a field: pointers are addresses. */
export type FieldValue<T extends FieldType> = T extends 'pointer'
  ? bigint
  : T extends 'bool'
    ? boolean
    : number;

/** A struct of the C API. */
export interface Layout<F extends Fields = Fields> {
  /** Its name in the header, which the plugin's errors about sizes use. */
  readonly name: string;
  readonly fields: F;
  readonly offsets: Readonly<Record<keyof F, number>>;
  /** Bytes up to the end of the last field, without padding. */
  readonly size: number;
}

/** A function of the C API. */
export interface ApiFunction<F extends Fields = Fields> extends Layout<F> {
  /** Its index among the functions of `PJRT_Api`. */
  readonly slot: number;
}

/** A struct with these fields behind its size and its extensions. */
export function layout<const F extends Fields>(name: string, fields: F): Layout<F> {
  const offsets = {} as Record<keyof F, number>;
  let size = 16;
  for (const [field, type] of Object.entries(fields) as [keyof F, FieldType][]) {
    const bytes = BYTES[type];
    size = Math.ceil(size / bytes) * bytes;
    offsets[field] = size;
    size += bytes;
  }
  return { name, fields, offsets, size };
}

function at<const F extends Fields>(slot: number, name: string, fields: F): ApiFunction<F> {
  return { slot, ...layout(`PJRT_${name}_Args`, fields) };
}

/** Bytes of `PJRT_Api` before its functions: size, extensions, and the version with a size and extensions of its own. */
export const API_HEADER = 40;
/** The offset of the version's two numbers: major, then minor. */
export const API_VERSION = 32;

/** The functions that Heddle calls. Slots never change within a major version. */
export const FUNCTIONS = {
  errorDestroy: at(0, 'Error_Destroy', { error: 'pointer' }),
  errorMessage: at(1, 'Error_Message', { error: 'pointer', message: 'pointer', messageSize: 'size' }),
  errorCode: at(2, 'Error_GetCode', { error: 'pointer', code: 'i32' }),
  pluginInitialize: at(3, 'Plugin_Initialize', {}),
  pluginAttributes: at(4, 'Plugin_Attributes', { attributes: 'pointer', count: 'size' }),
  eventDestroy: at(5, 'Event_Destroy', { event: 'pointer' }),
  eventIsReady: at(6, 'Event_IsReady', { event: 'pointer', isReady: 'bool' }),
  eventAwait: at(8, 'Event_Await', { event: 'pointer' }),
  clientCreate: at(10, 'Client_Create', {
    options: 'pointer',
    optionCount: 'size',
    getCallback: 'pointer',
    getArgument: 'pointer',
    putCallback: 'pointer',
    putArgument: 'pointer',
    client: 'pointer',
    tryGetCallback: 'pointer',
    tryGetArgument: 'pointer',
  }),
  clientDestroy: at(11, 'Client_Destroy', { client: 'pointer' }),
  clientPlatformName: at(12, 'Client_PlatformName', { client: 'pointer', name: 'pointer', nameSize: 'size' }),
  clientPlatformVersion: at(14, 'Client_PlatformVersion', {
    client: 'pointer',
    version: 'pointer',
    versionSize: 'size',
  }),
  clientAddressableDevices: at(16, 'Client_AddressableDevices', {
    client: 'pointer',
    devices: 'pointer',
    count: 'size',
  }),
  clientCompile: at(20, 'Client_Compile', {
    client: 'pointer',
    program: 'pointer',
    options: 'pointer',
    optionsSize: 'size',
    executable: 'pointer',
  }),
  clientBufferFromHost: at(22, 'Client_BufferFromHostBuffer', {
    client: 'pointer',
    data: 'pointer',
    type: 'i32',
    dims: 'pointer',
    rank: 'size',
    strides: 'pointer',
    strideCount: 'size',
    semantics: 'i32',
    device: 'pointer',
    memory: 'pointer',
    deviceLayout: 'pointer',
    doneWithHostBuffer: 'pointer',
    buffer: 'pointer',
  }),
  deviceDescriptionId: at(23, 'DeviceDescription_Id', { description: 'pointer', id: 'i32' }),
  deviceDescriptionKind: at(26, 'DeviceDescription_Kind', {
    description: 'pointer',
    kind: 'pointer',
    kindSize: 'size',
  }),
  deviceDescription: at(29, 'Device_GetDescription', { device: 'pointer', description: 'pointer' }),
  deviceMemoryStats: at(34, 'Device_MemoryStats', {
    device: 'pointer',
    inUse: 'i64',
    peak: 'i64',
    peakIsSet: 'bool',
    allocations: 'i64',
    allocationsIsSet: 'bool',
    largestAllocation: 'i64',
    largestAllocationIsSet: 'bool',
    limit: 'i64',
    limitIsSet: 'bool',
    reserved: 'i64',
    reservedIsSet: 'bool',
    peakReserved: 'i64',
    peakReservedIsSet: 'bool',
    reservableLimit: 'i64',
    reservableLimitIsSet: 'bool',
    largestFreeBlock: 'i64',
    largestFreeBlockIsSet: 'bool',
    pool: 'i64',
    poolIsSet: 'bool',
    peakPool: 'i64',
    peakPoolIsSet: 'bool',
  }),
  executableDestroy: at(40, 'Executable_Destroy', { executable: 'pointer' }),
  executableOutputCount: at(44, 'Executable_NumOutputs', { executable: 'pointer', count: 'size' }),
  executableSerialize: at(49, 'Executable_Serialize', {
    executable: 'pointer',
    bytes: 'pointer',
    byteCount: 'size',
    serialized: 'pointer',
    deleter: 'pointer',
  }),
  loadedDestroy: at(50, 'LoadedExecutable_Destroy', { executable: 'pointer' }),
  loadedGetExecutable: at(51, 'LoadedExecutable_GetExecutable', { loaded: 'pointer', executable: 'pointer' }),
  loadedExecute: at(55, 'LoadedExecutable_Execute', {
    executable: 'pointer',
    options: 'pointer',
    argumentLists: 'pointer',
    deviceCount: 'size',
    argumentCount: 'size',
    outputLists: 'pointer',
    completeEvents: 'pointer',
    executeDevice: 'pointer',
  }),
  executableDeserialize: at(56, 'Executable_DeserializeAndLoad', {
    client: 'pointer',
    bytes: 'pointer',
    byteCount: 'size',
    loaded: 'pointer',
    options: 'pointer',
    optionsSize: 'size',
  }),
  bufferDestroy: at(58, 'Buffer_Destroy', { buffer: 'pointer' }),
  bufferDimensions: at(60, 'Buffer_Dimensions', { buffer: 'pointer', dims: 'pointer', rank: 'size' }),
  bufferBytes: at(64, 'Buffer_OnDeviceSizeInBytes', { buffer: 'pointer', bytes: 'size' }),
  bufferToHost: at(70, 'Buffer_ToHostBuffer', {
    buffer: 'pointer',
    hostLayout: 'pointer',
    data: 'pointer',
    byteCount: 'size',
    event: 'pointer',
  }),
  executableMemory: at(96, 'Executable_GetCompiledMemoryStats', {
    executable: 'pointer',
    code: 'i64',
    arguments: 'i64',
    outputs: 'i64',
    aliased: 'i64',
    temporaries: 'i64',
    hostCode: 'i64',
    hostArguments: 'i64',
    hostOutputs: 'i64',
    hostAliased: 'i64',
    hostTemporaries: 'i64',
  }),
  bufferReadyEvent: at(72, 'Buffer_ReadyEvent', { buffer: 'pointer', event: 'pointer' }),
} as const;

/** Structs that others point to. */
export const STRUCTS = {
  program: layout('PJRT_Program', {
    code: 'pointer',
    codeSize: 'size',
    format: 'pointer',
    formatSize: 'size',
  }),
  executeOptions: layout('PJRT_ExecuteOptions', {
    sendCallbacks: 'pointer',
    receiveCallbacks: 'pointer',
    sendCount: 'size',
    receiveCount: 'size',
    launchId: 'i32',
    notDonated: 'pointer',
    notDonatedCount: 'size',
    context: 'pointer',
    callLocation: 'pointer',
    taskCount: 'size',
    taskIds: 'pointer',
    incarnationIds: 'pointer',
  }),
  /** The union is declared as one value of 8 bytes: a pointer or an integer. */
  namedValue: layout('PJRT_NamedValue', {
    name: 'pointer',
    nameSize: 'size',
    type: 'i32',
    value: 'i64',
    valueSize: 'size',
  }),
  /** Its union as the larger alternative, tiles; `type` 0 says so. */
  memoryLayout: layout('PJRT_Buffer_MemoryLayout', {
    tiledSize: 'size',
    tiledExtension: 'pointer',
    minorToMajor: 'pointer',
    rank: 'size',
    tileDims: 'pointer',
    tileDimSizes: 'pointer',
    tileCount: 'size',
    type: 'i32',
  }),
} as const;

/** `PJRT_Error_Code`: the codes of absl::Status. */
export const ERROR_CODES = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
] as const;

/** The names of `PJRT_Error_Code`. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** `PJRT_NamedValue_Type`. */
export const NAMED_VALUE = { string: 0, int64: 1, int64List: 2, float: 3, bool: 4 } as const;

/** Zero bytes behind each struct, for fields that a newer plugin has at the end. */
const SPARE = 256;

/** One struct in memory. JavaScript must hold a reference to it for as long as C has its address. */
export class Struct<F extends Fields> {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(
    readonly layout: Layout<F>,
    values: { readonly [K in keyof F]?: FieldValue<F[K]> } = {},
  ) {
    // From Node's pool: millions of them are made.
    const bytes = Buffer.allocUnsafe(layout.size + SPARE).fill(0);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.size = layout.size;
    for (const field in values) this.set(field, values[field]!);
  }

  get size(): number {
    return Number(this.view.getBigUint64(0, true));
  }

  set size(bytes: number) {
    this.view.setBigUint64(0, BigInt(bytes), true);
  }

  get<K extends keyof F>(field: K): FieldValue<F[K]> {
    return this.read(this.layout.fields[field]!, this.layout.offsets[field]) as FieldValue<F[K]>;
  }

  private read(type: FieldType, offset: number): bigint | number | boolean {
    const { view } = this;
    switch (type) {
      case 'pointer':
        return view.getBigUint64(offset, true);
      case 'size':
      case 'i64':
        return Number(view.getBigInt64(offset, true));
      case 'i32':
        return view.getInt32(offset, true);
      case 'f32':
        return view.getFloat32(offset, true);
      case 'bool':
        return view.getUint8(offset) !== 0;
    }
  }

  set<K extends keyof F>(field: K, value: FieldValue<F[K]>): void {
    const { view } = this;
    const offset = this.layout.offsets[field];
    switch (this.layout.fields[field]!) {
      case 'pointer':
        view.setBigUint64(offset, value as bigint, true);
        break;
      case 'size':
      case 'i64':
        view.setBigInt64(offset, BigInt(value as number), true);
        break;
      case 'i32':
        view.setInt32(offset, value as number, true);
        break;
      case 'f32':
        view.setFloat32(offset, value as number, true);
        break;
      case 'bool':
        view.setUint8(offset, value ? 1 : 0);
    }
  }
}
