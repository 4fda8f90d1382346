/**
 * An immutable snapshot of a session, from which any number of sessions can continue; once saved, in other processes too.
 *
 * Its file is in safetensors format: the model's state under the names of `Model.state`, `tokens` I32 [tokens] and, if no token is pending,
 * `logits` F32 [vocabulary]. The metadata identifies the model, and has a SHA-256 over everything else, so that any flipped bit is detected.
 */
import { heddleCommand, sha256 } from '#platform';
import {
  openSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  type TypedTensor,
  writeSafetensors,
} from '../checkpoint/index.js';
import { type HostTensor, type State, stateDims } from '../engine/index.js';
import { CheckpointError, SnapshotError } from '../errors.js';
import { DTYPES, type DType, fromSafetensors } from '../graph/index.js';
import type { Fingerprint, Model } from '../models/index.js';
import type { LanguageModel } from './language-model.js';

const FORMAT = 'heddle-state';
const VERSION = 1;

/** States of up to this many bytes are copied from the device once, to be hashed and saved. */
const HELD_BYTES = 256e6;

const SAVE_AGAIN = 'save the state again';

/** The contents of a snapshot. */
export interface SnapshotParts {
  readonly model: LanguageModel;
  /** The state after all tokens but the pending ones. The snapshot disposes of it. */
  readonly state: State;
  /** All tokens read and written. */
  readonly tokens: Int32Array;
  /** The number of last tokens that the state has not read yet. */
  readonly pending: number;
  /** [vocabulary], after the last token; absent if tokens are pending. */
  readonly logits: Float32Array | undefined;
}

/**
 * The exact tokens and state of a sequence at one moment. It shares memory with the session until one of them changes (copy on write).
 */
export class Snapshot {
  constructor(private readonly parts: SnapshotParts) {}

  get model(): LanguageModel {
    return this.parts.model;
  }

  get state(): State {
    return this.parts.state;
  }

  /** A copy of all tokens, read and generated. */
  get tokens(): number[] {
    return Array.from(this.parts.tokens);
  }

  /** The number of tokens. */
  get length(): number {
    return this.parts.tokens.length;
  }

  /** The number of last tokens that the state has not read yet; a session that continues reads them first. */
  get pending(): number {
    return this.parts.pending;
  }

  /** [vocabulary], after the last token; read-only. Undefined if tokens are pending. */
  get logits(): Float32Array | undefined {
    return this.parts.logits;
  }

  /** Its bytes, including shared memory. */
  get bytes(): number {
    const { state, tokens, logits } = this.parts;
    return state.bytes + tokens.byteLength + (logits?.byteLength ?? 0);
  }

  /** Bytes by the object that owns them, as in `State.holdings`. */
  get holdings(): ReadonlyMap<object, number> {
    const { state, tokens, logits } = this.parts;
    const own: [object, number][] = [tokens, ...(logits ? [logits] : [])].map((data) => [
      data,
      data.byteLength,
    ]);
    return new Map([...state.holdings, ...own]);
  }

  /** Another reference to the same state, which is disposed of separately. */
  copy(): Snapshot {
    return new Snapshot({ ...this.parts, state: this.parts.state.fork() });
  }

  /** Whether the snapshot's tokens are a prefix of these. */
  begins(ids: readonly number[]): boolean {
    const { tokens } = this.parts;
    return tokens.length <= ids.length && tokens.every((id, i) => id === ids[i]);
  }

  /** Throws `SnapshotError` unless the snapshot is of this model. */
  checkModel(model: LanguageModel): void {
    const own = this.parts.model.fingerprint;
    const other = model.fingerprint;
    if (own.hash !== other.hash || own.quantization !== other.quantization) {
      throw new SnapshotError('the state is of another model: use the one that read the text');
    }
  }

  /** Saves it as one file, atomically. Throws `StorageError` if that fails. */
  async save(path: string): Promise<void> {
    const { model, state, tokens, pending, logits } = this.parts;
    // The digest precedes the values in the file, so they are read twice: a large state is read from the device both times.
    const held = state.bytes <= HELD_BYTES ? await state.read() : undefined;
    const tensors: TensorToWrite[] = [
      ...stateTensors(model, state, tokens.length - pending, held),
      { name: 'tokens', dtype: 'I32', shape: [tokens.length], data: tokens },
      ...(logits ? [{ name: 'logits', dtype: 'F32' as const, shape: [logits.length], data: logits }] : []),
    ];
    await writeStateFile(path, model, tensors, {
      position: String(tokens.length - pending),
      tokens: sha256()
        .update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength))
        .digest('hex'),
    });
  }

  /** Frees the state, except for shared memory. */
  dispose(): void {
    this.parts.state.dispose();
  }
}

/** Writes a state of `owner`, with further tensors and metadata, as one file, atomically. */
export async function writeStateFile(
  path: string,
  { model, fingerprint }: StateOwner,
  tensors: readonly TensorToWrite[],
  facts: Readonly<Record<string, string>>,
): Promise<void> {
  const metadata = {
    format: FORMAT,
    version: String(VERSION),
    model: model.modelType,
    fingerprint: fingerprint.hash,
    quantization: fingerprint.quantization,
    ...facts,
  };
  await writeSafetensors(path, tensors, { ...metadata, checksum: await checksumOf(tensors, metadata) });
}

/** The values of a state after `position` tokens as tensors to write; values that are not in `held` are read when they are written. */
export function stateTensors(
  owner: StateOwner,
  state: State,
  position: number,
  held?: ReadonlyMap<string, HostTensor>,
): TensorToWrite[] {
  return layoutOf(owner, position).map(({ name, dtype, dims }) => ({
    name,
    dtype: DTYPES[dtype].safetensors,
    shape: dims,
    data: held?.get(name)?.data ?? (async () => (await state.read([name])).get(name)!.data),
  }));
}

/**
 * Loads a saved snapshot for sessions of `model`. Throws `SnapshotError`, with the file and the reason, for one that is damaged, of another
 * model or quantization, or of a newer format.
 */
export async function loadSnapshot(path: string, model: LanguageModel): Promise<Snapshot> {
  try {
    const file = await openSafetensors(path);
    try {
      return await read(path, file, model);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    throw new SnapshotError(`no state can be read: ${error.message}`, { cause: error });
  }
}

/** The model that a state belongs to. */
export interface StateOwner {
  readonly model: Model;
  readonly fingerprint: Fingerprint;
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

async function read(path: string, file: SafetensorsFile, model: LanguageModel): Promise<Snapshot> {
  const { metadata, values } = await readStateFile(path, file, model);
  const { tokens, position } = tokensOf(path, metadata, values);
  const pending = tokens.length - position;
  const layout = layoutOf(model, position);
  checkLayout(path, values, layout);
  const logits = logitsOf(path, values, model, tokens.length > 0 && pending === 0);
  const state = model.newState(new Map(layout.map(({ name }) => [name, values.get(name)!])), position);
  return new Snapshot({ model, state, tokens, pending, logits });
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

function tokensOf(
  path: string,
  metadata: Readonly<Record<string, string>>,
  values: ReadonlyMap<string, HostTensor>,
): { tokens: Int32Array; position: number } {
  const tokens = values.get('tokens')?.data;
  const position = Number(metadata.position);
  if (!(tokens instanceof Int32Array && Number.isSafeInteger(position))) {
    throw new SnapshotError(`${path} does not say which tokens were read: ${SAVE_AGAIN}`);
  }
  if (!(position >= 0 && position <= tokens.length)) {
    throw new SnapshotError(
      `${path} has ${tokens.length} tokens, of which ${position} were read: ${SAVE_AGAIN}`,
    );
  }
  return { tokens, position };
}

function logitsOf(
  path: string,
  values: ReadonlyMap<string, HostTensor>,
  { model }: LanguageModel,
  expected: boolean,
): Float32Array | undefined {
  const data = values.get('logits')?.data;
  if (data === undefined && !expected) return undefined;
  if (expected && data instanceof Float32Array && data.length === model.vocabSize) return data;
  throw new SnapshotError(`${path} has not the logits that belong to its tokens: ${SAVE_AGAIN}`);
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
  const hash = sha256();
  const say = (facts: unknown): void => void hash.update(`${JSON.stringify(facts)}\n`);
  say(Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)));
  for (const { name, dtype, shape, data: given } of [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const data = typeof given === 'function' ? await given() : given;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    say([name, dtype, shape]);
    // Node takes at most 2^31 - 1 bytes in one call.
    for (let at = 0; at < bytes.byteLength; at += 2 ** 30) hash.update(bytes.subarray(at, at + 2 ** 30));
  }
  return hash.digest('hex');
}

/** The snapshot whose tokens are the longest prefix of these; no reference to it is added. */
export function longestBeginning(
  ids: readonly number[],
  snapshots: Iterable<Snapshot | undefined>,
): Snapshot | undefined {
  let longest: Snapshot | undefined;
  for (const snapshot of snapshots) {
    if (snapshot && snapshot.length > (longest?.length ?? 0) && snapshot.begins(ids)) longest = snapshot;
  }
  return longest;
}
