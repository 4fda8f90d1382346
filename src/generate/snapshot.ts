/**
 * An immutable snapshot of a session, from which any number of sessions can continue; once saved, in other processes too. Beside the state its
 * file has `tokens` I32 [tokens] and, if no token is pending, `logits` F32 [vocabulary].
 */
import { sha256 } from '#platform';
import { openSafetensors, type SafetensorsFile } from '../checkpoint/index.js';
import type { HostTensor, State } from '../engine/index.js';
import { CheckpointError, SnapshotError } from '../errors.js';
import type { LanguageModel } from './language-model.js';
import {
  checkLayout,
  layoutOf,
  metadataOf,
  readStateFile,
  SAVE_AGAIN,
  type StateTensor,
  stateTensors,
  type WriteState,
  writeStateFile,
} from './state-file.js';

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

  /** Saves it as one file, atomically, with `write` (in this thread by default). Throws `StorageError` if that fails. */
  async save(path: string, write: WriteState = writeStateFile): Promise<void> {
    const { model, state, tokens, pending, logits } = this.parts;
    const tensors: StateTensor[] = [
      ...stateTensors(model, state, tokens.length - pending),
      { name: 'tokens', dtype: 'I32', shape: [tokens.length], data: tokens },
      ...(logits ? [{ name: 'logits', dtype: 'F32' as const, shape: [logits.length], data: logits }] : []),
    ];
    const facts = {
      position: String(tokens.length - pending),
      tokens: sha256()
        .update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength))
        .digest('hex'),
    };
    await write(path, tensors, metadataOf(model, facts));
  }

  /** Frees the state, except for shared memory. */
  dispose(): void {
    this.parts.state.dispose();
  }
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
