/**
 * Saved states by their ids. A state is a file, as `Snapshot.save` writes it, and a record of what it is; both lie in a
 * store. The file is written before its record and deleted after it: what has a record is whole.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inBytes } from '../../checkpoint/index.js';
import { SnapshotError, StorageError, UnknownStateError } from '../../errors.js';
import type { LanguageModel } from '../language-model.js';
import { loadSnapshot, type Snapshot } from '../snapshot.js';
import { newStateId, StateRecord } from './record.js';
import type { Store } from './store.js';

/** Bytes that are sent to a store at once: what Node.js reads of a file. */
const MOST_BYTES = 2 ** 31 - 1;

/** What a new state is, apart from what follows from saving it. */
export type NewState = Pick<StateRecord, 'model' | 'name' | 'parent' | 'base' | 'messages'>;

/** The saved states of all owners in one store: each owner sees its own alone. */
export class StateLibrary {
  constructor(private readonly store: Store) {}

  /** Those of an owner, the newest first. */
  async list(owner: string): Promise<StateRecord[]> {
    const keys = await this.store.list(recordKey(owner, ''));
    const found = await Promise.all(keys.map((key) => this.read(key)));
    return found
      .flatMap((record) => record ?? [])
      .sort((a, b) => b.created - a.created || (a.id < b.id ? -1 : 1));
  }

  /** Throws `UnknownStateError`. */
  async record(owner: string, id: string): Promise<StateRecord> {
    const record = await this.read(recordKey(owner, id));
    if (!record) throw unknown(id);
    return record;
  }

  /** A state of the same content under another id. Throws `UnknownStateError`. */
  async fork(owner: string, id: string, name: string | null): Promise<StateRecord> {
    const record = await this.record(owner, id);
    const fork = { ...record, id: newStateId(), created: now(), name, parent: id };
    if (!(await this.store.copy(fileKey(owner, id), fileKey(owner, fork.id)))) throw unknown(id);
    return this.write(owner, fork);
  }

  /** Throws `UnknownStateError`. */
  async rename(owner: string, id: string, name: string | null): Promise<StateRecord> {
    return this.write(owner, { ...(await this.record(owner, id)), name });
  }

  /** Throws `UnknownStateError`. */
  async delete(owner: string, id: string): Promise<void> {
    if (!(await this.store.delete(recordKey(owner, id)))) throw unknown(id);
    await this.store.delete(fileKey(owner, id));
  }

  /** Deletes a state, whether it is there or not, and whatever is left of one that was not saved whole. */
  async discard(owner: string, id: string): Promise<void> {
    await this.store.delete(recordKey(owner, id));
    await this.store.delete(fileKey(owner, id));
  }

  /** Keeps a snapshot; once this resolves, it is there for good. */
  async save(owner: string, snapshot: Snapshot, state: NewState, id = newStateId()): Promise<StateRecord> {
    const bytes = await this.saveFile(fileKey(owner, id), snapshot);
    const tokens = snapshot.length;
    return this.write(owner, {
      id,
      object: 'state',
      created: now(),
      tokens,
      bytes,
      ...state,
    });
  }

  /** Throws `UnknownStateError`; `SnapshotError` for one that is damaged or of another model. */
  async load(
    owner: string,
    id: string,
    model: LanguageModel,
  ): Promise<{ record: StateRecord; snapshot: Snapshot }> {
    const record = await this.record(owner, id);
    const snapshot = await this.loadFile(fileKey(owner, id), model).catch((error: unknown) => {
      if (!(error instanceof SnapshotError)) throw error;
      throw new SnapshotError(`the state ${id} cannot be taken up: ${error.message}`, { cause: error });
    });
    if (!snapshot) throw unknown(id);
    return { record, snapshot };
  }

  /** Returns the bytes that it takes. */
  private async saveFile(key: string, snapshot: Snapshot): Promise<number> {
    const file = await this.store.placeFor?.(key);
    if (file !== undefined) {
      await snapshot.save(file);
      return (await stat(file)).size;
    }
    const bytes = await inFile(async (path) => {
      await snapshot.save(path);
      const { size } = await stat(path);
      if (size > MOST_BYTES)
        throw new StorageError(
          `the state takes ${inBytes(size)}, and a store in S3, Valkey or Redis takes ${inBytes(MOST_BYTES)} at most: keep the states in a folder, or read less`,
        );
      return readFile(path);
    });
    await this.store.put(key, bytes);
    return bytes.byteLength;
  }

  /** Undefined where there is nothing under that key. */
  private async loadFile(key: string, model: LanguageModel): Promise<Snapshot | undefined> {
    const file = this.store.fileOf?.(key);
    if (file !== undefined) return existsSync(file) ? loadSnapshot(file, model) : undefined;
    const bytes = await this.store.get(key);
    if (!bytes) return undefined;
    return inFile(async (path) => {
      await writeFile(path, bytes);
      return loadSnapshot(path, model);
    });
  }

  close(): Promise<void> {
    return this.store.close();
  }

  private async read(key: string): Promise<StateRecord | undefined> {
    const bytes = await this.store.get(key);
    if (!bytes) return undefined;
    try {
      return StateRecord.parse(JSON.parse(new TextDecoder().decode(bytes)));
    } catch (error) {
      throw new StorageError(`${key} in the store of the states is no record of one: delete it`, {
        cause: error,
      });
    }
  }

  private async write(owner: string, record: StateRecord): Promise<StateRecord> {
    await this.store.put(recordKey(owner, record.id), new TextEncoder().encode(JSON.stringify(record)));
    return record;
  }
}

function unknown(id: string): UnknownStateError {
  return new UnknownStateError(`there is no state ${id}: GET /v1/states lists those that there are`);
}

function recordKey(owner: string, id: string): string {
  return `records/${owner}/${id === '' ? '' : `${id}.json`}`;
}

function fileKey(owner: string, id: string): string {
  return `files/${owner}/${id}.state`;
}

/** Does `work` with the path of a file that is gone afterwards. */
async function inFile<T>(work: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'heddle-state-'));
  try {
    return await work(join(folder, 'state'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function now(): number {
  return Math.floor(Date.now() / 1000);
}
