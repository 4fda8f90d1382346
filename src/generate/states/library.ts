/**
 * Saved states by id. A state is a file, as `Snapshot.save` writes it, and a record about it; both are in a store. The file is written before
 * its record and deleted after it, so a state with a record is complete.
 */
import { SnapshotError, StorageError, UnknownStateError } from '../../errors.js';
import type { LanguageModel } from '../language-model.js';
import { loadSnapshot, type Snapshot } from '../snapshot.js';
import type { WriteState } from '../state-file.js';
import { newStateId, StateRecord } from './record.js';
import type { Store } from './store.js';

/** The fields of a new record, without those that saving determines. */
export type NewState = Pick<StateRecord, 'model' | 'name' | 'parent' | 'base' | 'messages'>;

/** The saved states of all owners in one store. Each owner sees only its own. */
export class StateLibrary {
  constructor(private readonly store: Store) {}

  /** The states of an owner, the newest first. */
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

  /** Copies a state to a new id. Throws `UnknownStateError`. */
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

  /** Deletes a state if it exists, and the remains of one that was not saved completely. */
  async discard(owner: string, id: string): Promise<void> {
    await this.store.delete(recordKey(owner, id));
    await this.store.delete(fileKey(owner, id));
  }

  /** Saves a snapshot durably; `write` is `Snapshot.save`'s. */
  async save(
    owner: string,
    snapshot: Snapshot,
    state: NewState,
    id = newStateId(),
    write?: WriteState,
  ): Promise<StateRecord> {
    const bytes = await this.store.putFile(fileKey(owner, id), (path) => snapshot.save(path, write));
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
    const read = (path: string): Promise<Snapshot> => loadSnapshot(path, model);
    const snapshot = await this.store.getFile(fileKey(owner, id), read).catch((error: unknown) => {
      if (!(error instanceof SnapshotError)) throw error;
      throw new SnapshotError(`the state ${id} cannot be taken up: ${error.message}`, { cause: error });
    });
    if (!snapshot) throw unknown(id);
    return { record, snapshot };
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

function now(): number {
  return Math.floor(Date.now() / 1000);
}
