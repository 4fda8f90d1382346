/**
 * A folder of saved states, named by a hash of the model and the tokens, so that prefixes of a text are found by name. Several processes may
 * share it: files are written atomically, and a missing or damaged file is a cache miss. Errors never fail a request: they are recorded,
 * and the text is read again.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { HeddleError, SnapshotError, StorageError } from '../errors.js';
import type { LanguageModel } from './language-model.js';
import { loadSnapshot, type Snapshot } from './snapshot.js';

/** The number of tokens, and a hash of the model and of them. */
const NAME = /^(\d+)-([0-9a-f]{64})\.state$/;
const TEMPORARY = /\.heddle-tmp$/;
/** Milliseconds after which an unfinished file is considered abandoned. */
const ABANDONED_AFTER = 60 * 60 * 1000;

/** A cache of states on disk; the least recently used ones are removed beyond the limit. */
export class PrefixFolder {
  /** The last error, if there was one. */
  problem: HeddleError | undefined;

  /** `limit` is in bytes. */
  constructor(
    private readonly path: string,
    private readonly limit: number,
  ) {}

  /** The state of the longest stored prefix of these tokens that is longer than `longerThan`. */
  async find(
    model: LanguageModel,
    ids: readonly number[],
    longerThan: number,
  ): Promise<Snapshot | undefined> {
    const names = new Set(await this.names());
    const lengths = [...names]
      .map((name) => Number(NAME.exec(name)?.[1]))
      .filter((length) => length > longerThan && length <= ids.length);
    const wanted = beginnings(model, ids, lengths).filter((name) => names.has(name));
    for (const name of wanted.reverse()) {
      const path = join(this.path, name);
      try {
        const snapshot = await loadSnapshot(path, model);
        if (!snapshot.begins(ids)) continue;
        const now = new Date();
        await utimes(path, now, now).catch(() => {});
        return snapshot;
      } catch (error) {
        // Another process may have removed it.
        if (!(await stat(path).catch(() => undefined))) continue;
        this.note(error);
        // It is written again when the text has been read again.
        if (error instanceof SnapshotError) await rm(path, { force: true }).catch(() => {});
      }
    }
    return undefined;
  }

  /** Writes a state, unless it is stored already, and removes the least recently used ones beyond the limit. */
  async put(snapshot: Snapshot): Promise<void> {
    if (snapshot.bytes > this.limit) return;
    const { model, tokens } = snapshot;
    const path = join(this.path, beginnings(model, tokens, [tokens.length])[0]!);
    try {
      // States contain the texts, so only this user may read them.
      await mkdir(this.path, { recursive: true, mode: 0o700 });
      const now = new Date();
      const known = await utimes(path, now, now).then(
        () => true,
        () => false,
      );
      if (known) return;
      await snapshot.save(path);
      await this.shrink();
    } catch (error) {
      this.note(error);
    }
  }

  private async shrink(): Promise<void> {
    const files: { path: string; bytes: number; used: number }[] = [];
    for (const name of await this.names()) {
      const path = join(this.path, name);
      const found = await stat(path).catch(() => undefined);
      if (!found) continue;
      const abandoned = TEMPORARY.test(name) && Date.now() - found.mtimeMs > ABANDONED_AFTER;
      if (abandoned) await rm(path, { force: true });
      else if (NAME.test(name)) files.push({ path, bytes: found.size, used: found.mtimeMs });
    }
    let total = files.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { path, bytes } of files.sort((a, b) => a.used - b.used)) {
      if (total <= this.limit) return;
      await rm(path, { force: true });
      total -= bytes;
    }
  }

  private async names(): Promise<string[]> {
    return readdir(this.path).catch(() => []);
  }

  private note(error: unknown): void {
    this.problem =
      error instanceof HeddleError
        ? error
        : new StorageError(`the cache folder ${this.path} cannot be used: ${String(error)}`, {
            cause: error,
          });
  }
}

/** The file names of the prefixes of these lengths, the shortest first. */
function beginnings(model: LanguageModel, ids: readonly number[], lengths: readonly number[]): string[] {
  const { hash, quantization } = model.fingerprint;
  const running = createHash('sha256').update(JSON.stringify([hash, quantization]));
  let at = 0;
  return [...new Set(lengths)]
    .sort((a, b) => a - b)
    .map((length) => {
      running.update(Int32Array.from(ids.slice(at, length)));
      at = length;
      return `${length}-${running.copy().digest('hex')}.state`;
    });
}
