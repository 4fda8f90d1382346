/**
 * The file of a state, in safetensors format: the state's values under the names of `Model.state`, and what its owner adds. The metadata
 * identifies the model, and has a SHA-256 over everything else, so that any flipped bit is detected.
 */
import { heddleCommand, sha256 } from '#platform';
import {
  type SafetensorsFile,
  type TensorData,
  type TensorToWrite,
  type TypedTensor,
  writeSafetensors,
} from '../checkpoint/index.js';
import { type HostTensor, type State, stateDims } from '../engine/index.js';
import { SnapshotError } from '../errors.js';
import { DTYPES, type DType, fromSafetensors } from '../graph/index.js';
import type { Fingerprint, Model } from '../models/index.js';

const FORMAT = 'heddle-state';
const VERSION = 1;

/** Values of a state are copied from the device in groups of so many bytes: one after the other, each would wait for the device's turn. */
const GROUP_BYTES = 64e6;

/** What to do about a file that does not hold what it should. */
export const SAVE_AGAIN = 'save the state again';

/** The model that a state belongs to. */
export interface StateOwner {
  readonly model: Model;
  readonly fingerprint: Fingerprint;
}

/** A tensor of a state's file. The data of a `group` are read from the state at once, and may be parts of one array. */
export interface StateTensor extends TensorToWrite {
  readonly group?: number;
}

/** Writes a state's file: see `writeStateFile`. */
export type WriteState = (
  path: string,
  tensors: readonly StateTensor[],
  metadata: Readonly<Record<string, string>>,
) => Promise<void>;

/** The metadata of a state of `owner`, with further facts. */
export function metadataOf(
  { model, fingerprint }: StateOwner,
  facts: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  return {
    format: FORMAT,
    version: String(VERSION),
    model: model.modelType,
    fingerprint: fingerprint.hash,
    quantization: fingerprint.quantization,
    ...facts,
  };
}

/** Writes tensors and metadata as one file, atomically, with their checksum. Each tensor's data are asked for once. */
export const writeStateFile: WriteState = async (path, tensors, metadata) => {
  const checksum = new Checksum(metadata);
  await writeSafetensors(path, tensors, metadata, {
    key: 'checksum',
    placeholder: '0'.repeat(64),
    add: (tensor, data) => checksum.add(tensor, data),
    digest: () => checksum.digest(),
  });
};

/**
 * The values of a state after `position` tokens as tensors to write. They are read from the state when they are asked for in the order of
 * their names, some at a time, so that few of them are in memory.
 */
export function stateTensors(owner: StateOwner, state: State, position: number): StateTensor[] {
  const layout = layoutOf(owner, position).sort((a, b) => (a.name < b.name ? -1 : 1));
  const groups: string[][] = [];
  let bytes = GROUP_BYTES;
  const groupOf = layout.map(({ name, dtype, dims }) => {
    if (bytes >= GROUP_BYTES) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(name);
    bytes += dims.reduce((a, b) => a * b, DTYPES[dtype].bytes);
    return groups.length - 1;
  });
  const reading = new Map<number, Promise<Map<string, HostTensor>>>();
  return layout.map(({ name, dtype, dims }, i) => {
    const group = groupOf[i]!;
    const data = async () => {
      const read = reading.get(group) ?? state.read(groups[group]);
      reading.set(group, read);
      const values = await read;
      const { data } = values.get(name)!;
      values.delete(name);
      if (values.size === 0) reading.delete(group);
      return data;
    };
    return { name, dtype: DTYPES[dtype].safetensors, shape: dims, data, group };
  });
}

/** The metadata and tensors of a state file of `owner`. Throws `SnapshotError` if it is damaged or of another owner. */
export async function readStateFile(
  path: string,
  file: SafetensorsFile,
  owner: StateOwner,
): Promise<{ metadata: Readonly<Record<string, string>>; values: Map<string, HostTensor> }> {
  const { checksum, ...metadata } = file.metadata;
  if (metadata.format !== FORMAT) {
    throw new SnapshotError(
      `${path} is no saved state: '${heddleCommand()} read' and a session's snapshot write such files`,
    );
  }
  if (metadata.version !== String(VERSION)) {
    throw new SnapshotError(
      `${path} is a state in the format ${metadata.version}, and this version of Heddle reads ${VERSION}: use the version that saved it, or read the text again`,
    );
  }
  // Concurrently: while one tensor is read from disk, those before it are hashed.
  const stored = new Map([...file.tensors.keys()].map((name) => [name, file.read(name)] as const));
  const settled = Promise.allSettled(stored.values());
  const digest = await checksumOf(
    [...file.tensors].map(([name, { dtype, shape }]) => ({
      name,
      dtype,
      shape,
      data: async () => (await stored.get(name)!).data,
    })),
    metadata,
  ).finally(() => settled);
  if (digest !== checksum) {
    throw new SnapshotError(
      `${path} is damaged: its bytes are not those that were saved. Use a copy of it, or read the text again.`,
    );
  }
  const values = new Map<string, HostTensor>();
  for (const [name, read] of stored) values.set(name, hostTensor(path, { name, ...(await read) }));
  checkModel(path, metadata, owner);
  return { metadata, values };
}

function checkModel(path: string, metadata: Readonly<Record<string, string>>, owner: StateOwner): void {
  const { hash, quantization } = owner.fingerprint;
  if (metadata.model !== owner.model.modelType) {
    throw new SnapshotError(
      `${path} is the state of a ${metadata.model} model, and this one is a ${owner.model.modelType}: use the model that read the text`,
    );
  }
  if (metadata.quantization !== quantization) {
    throw new SnapshotError(
      `${path} was saved with weights of the quantization '${metadata.quantization}', and this model has '${quantization}': load it as it was then, or read the text again`,
    );
  }
  if (metadata.fingerprint !== hash) {
    throw new SnapshotError(
      `${path} is the state of another ${metadata.model} model, with another config or other weights: use the model that read the text`,
    );
  }
}

/** Names and shapes of a model's state for one sequence after `position` tokens. */
export function layoutOf(
  { model }: StateOwner,
  position: number,
): { name: string; dtype: DType; dims: number[] }[] {
  return model.state.map((spec) => {
    return { name: spec.name, dtype: spec.dtype, dims: stateDims(spec, position) };
  });
}

/** Throws `SnapshotError` unless the tensors of a file have the names, dtypes and shapes of `layout`. */
export function checkLayout(
  path: string,
  values: ReadonlyMap<string, HostTensor>,
  layout: ReturnType<typeof layoutOf>,
): void {
  for (const { name, dtype, dims } of layout) {
    const given = values.get(name);
    if (given?.dtype === dtype && given.dims.join() === dims.join()) continue;
    const found = given ? `has '${name}' as ${given.dtype}[${given.dims}]` : `has no '${name}'`;
    throw new SnapshotError(`${path} ${found}, and the model needs ${dtype}[${dims}]: ${SAVE_AGAIN}`);
  }
}

function hostTensor(path: string, { name, dtype, shape, data }: TypedTensor & { name: string }): HostTensor {
  const found = fromSafetensors(dtype);
  if (found === undefined) {
    throw new SnapshotError(`${path}: the tensor ${name} is ${dtype}, which no state is: ${SAVE_AGAIN}`);
  }
  return { dtype: found, dims: shape, data: data as HostTensor['data'] };
}

/** A SHA-256 over metadata and tensors, in hexadecimal digits. The order of neither matters. */
export async function checksumOf(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): Promise<string> {
  const checksum = new Checksum(metadata);
  for (const tensor of [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const { data } = tensor;
    checksum.add(tensor, typeof data === 'function' ? await data() : data);
  }
  return checksum.digest();
}

/** A SHA-256 over metadata, and then over tensors in the order of their names. */
class Checksum {
  private readonly hash = sha256();

  constructor(metadata: Readonly<Record<string, string>>) {
    this.say(Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  add({ name, dtype, shape }: TensorToWrite, data: TensorData): void {
    this.say([name, dtype, shape]);
    this.hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }

  digest(): string {
    return this.hash.digest('hex');
  }

  private say(facts: unknown): void {
    this.hash.update(`${JSON.stringify(facts)}\n`);
  }
}
