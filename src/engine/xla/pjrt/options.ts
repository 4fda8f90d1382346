/** The options of compilations and clients, serialized for plugins. */
import protobuf from 'protobufjs';
import { DeviceError } from '../../../errors.js';
import { NAMED_VALUE, STRUCTS, Struct } from './abi.js';
import type { PjrtApi } from './api.js';

/** How a module is compiled. */
export interface CompileOptions {
  /** The number of devices that the program's sharding annotations (Shardy) partition it over. */
  readonly partitions?: number;
  /** Makes runs give the same bits each time, which is slower. */
  readonly deterministic?: boolean;
  /** XLA's debug options by name (`xla_gpu_…`). */
  readonly flags?: Readonly<Record<string, boolean | number | string>>;
}

/** Field numbers of `CompileOptionsProto` and its messages (xla/pjrt/proto/compile_options.proto). */
const FIELD = {
  executableBuildOptions: 3,
  envOptionOverrides: 7,
  numReplicas: 4,
  numPartitions: 5,
  useSpmdPartitioning: 6,
  deviceAssignment: 9,
  useShardyPartitioner: 19,
} as const;

/** A serialized `CompileOptionsProto`. Throws `DeviceError` for partitions that are no number of devices. */
export function compileOptions({
  partitions = 1,
  deterministic = false,
  flags = {},
}: CompileOptions = {}): Uint8Array {
  if (!Number.isInteger(partitions) || partitions < 1) {
    throw new DeviceError(`partitions is ${partitions}: expected a whole number, 1 or more`);
  }
  const writer = protobuf.Writer.create();
  writer.uint32(lengthDelimited(FIELD.executableBuildOptions)).fork();
  writer.uint32(varint(FIELD.numReplicas)).int64(1);
  writer.uint32(varint(FIELD.numPartitions)).int64(partitions);
  if (partitions > 1) {
    writer.uint32(varint(FIELD.useSpmdPartitioning)).bool(true);
    assignment(writer.uint32(lengthDelimited(FIELD.deviceAssignment)), partitions);
    // XLA whose HloShardingV3 is on by default warns of each such program and switches it off: it exports Shardy's annotations by the debug options
    // given here, which are none, and imports them by its defaults. `xla_enable_hlo_sharding_v3` false as a flag makes both agree, but an XLA
    // that does not know a flag refuses to compile.
    writer.uint32(varint(FIELD.useShardyPartitioner)).bool(true);
  }
  writer.ldelim();
  const overrides = { ...(deterministic ? { xla_gpu_deterministic_ops: true } : {}), ...flags };
  for (const [name, value] of Object.entries(overrides).sort()) {
    writer.uint32(lengthDelimited(FIELD.envOptionOverrides)).fork();
    writer.uint32(lengthDelimited(1)).string(name);
    override(writer.uint32(lengthDelimited(2)), value);
    writer.ldelim();
  }
  return writer.finish();
}

/** `DeviceAssignmentProto`: one replica, of which partition i runs on device i. */
function assignment(writer: protobuf.Writer, partitions: number): void {
  writer.fork().uint32(varint(1)).int32(1).uint32(varint(2)).int32(partitions);
  for (let device = 0; device < partitions; device++) {
    writer
      .uint32(lengthDelimited(3))
      .fork()
      .uint32(lengthDelimited(1))
      .fork()
      .int64(device)
      .ldelim()
      .ldelim();
  }
  writer.ldelim();
}

/** `OptionOverrideProto`. */
function override(writer: protobuf.Writer, value: boolean | number | string): void {
  writer.fork();
  if (typeof value === 'string') writer.uint32(lengthDelimited(1)).string(value);
  else if (typeof value === 'boolean') writer.uint32(varint(2)).bool(value);
  else if (Number.isInteger(value)) writer.uint32(varint(3)).int64(value);
  else writer.uint32((4 << 3) | 1).double(value);
  writer.ldelim();
}

function varint(field: number): number {
  return field << 3;
}

function lengthDelimited(field: number): number {
  return (field << 3) | 2;
}

/** Options of a client, by the names that XLA's CUDA plugin has. */
export interface ClientOptions {
  /** The fraction of a GPU's memory that the client may allocate. */
  readonly memoryFraction?: number;
  /** Whether it is allocated at once (faster) or on demand. */
  readonly preallocate?: boolean;
  /** The processes whose devices are those of one client, and how they reach each other. */
  readonly group?: {
    readonly process: number;
    readonly processes: number;
    /** Address of a Valkey or Redis. */
    readonly place: string;
    /** Stands before the keys of this client there. */
    readonly prefix: string;
  };
}

/** An array of `PJRT_NamedValue`, and everything that it points to. */
export interface NamedValues {
  readonly bytes: Uint8Array;
  readonly count: number;
  /** Must be referenced for as long as the array is used. */
  readonly kept: readonly object[];
}

/** The options of a client as `PJRT_NamedValue` structs, with what they point to. */
export function clientOptions(
  api: PjrtApi,
  { memoryFraction, preallocate, group }: ClientOptions,
): NamedValues {
  const kept: object[] = [];
  const values: Uint8Array[] = [];
  const add = (name: string, type: number, write: (view: DataView, at: number) => void) => {
    const text = Buffer.from(name);
    const value = new Struct(STRUCTS.namedValue, {
      name: api.address(text),
      nameSize: text.length,
      type,
      valueSize: 1,
    });
    write(value.view, STRUCTS.namedValue.offsets.value);
    kept.push(text, value);
    values.push(value.bytes.subarray(0, STRUCTS.namedValue.size));
  };
  if (memoryFraction !== undefined) {
    add('memory_fraction', NAMED_VALUE.float, (view, at) => view.setFloat32(at, memoryFraction, true));
  }
  if (preallocate !== undefined) {
    add('preallocate', NAMED_VALUE.bool, (view, at) => view.setUint8(at, preallocate ? 1 : 0));
  }
  const numbers = group ? { node_id: group.process, num_nodes: group.processes } : {};
  for (const [name, number] of Object.entries(numbers)) {
    add(name, NAMED_VALUE.int64, (view, at) => view.setBigInt64(at, BigInt(number), true));
  }
  const bytes = Buffer.concat(values);
  return { bytes, count: values.length, kept };
}
