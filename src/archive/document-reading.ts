/**
 * A document that a model reads: its pages become tokens a little ahead of the reading, and its state is kept at its end, and on the way
 * too where that takes long, so that whoever goes on begins there.
 */
import type { State } from '../engine/index.js';
import { ArchiveError, SnapshotError, StorageError, UnknownStateError } from '../errors.js';
import { type LanguageModel, newStateId, Snapshot, type WriteState } from '../generate/index.js';
import { ARCHIVE_OWNER, type Archive } from './archive.js';
import { bytesOf } from './vectors.js';

/** How documents are read, and what is told meanwhile. */
export interface DocumentReadingOptions {
  /** The model's name in records. */
  readonly name: string;
  /** Keeps a vector for each passage too. */
  readonly vectors?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** How often the state of a long document is kept on the way, in milliseconds; by default every two minutes. */
  readonly keepEvery?: number;
  /** Pages and tokens that were read. */
  readonly onRead?: (pages: number, tokens: number) => void;
  /** Told where documents are read otherwise than was asked for. */
  readonly notice?: (text: string) => void;
  /** A document was read, or could not be, and why. */
  readonly onDocument?: (name: string, tokens: number, why: string | undefined) => void;
}

/** These, and what a reading is done with. */
export interface DocumentReadingTools extends DocumentReadingOptions {
  /** The tokens of a text, as the model's tokenizer makes them. */
  readonly encode: (text: string) => Promise<ArrayLike<number> & Iterable<number>>;
  /** Reads tokens of one document. Returns the logits behind the last one if they are needed. */
  readonly read: (row: ReturnType<DocumentReading['next']>) => Promise<Float32Array | undefined>;
  /** What writes states' files: this thread by default. */
  readonly write: WriteState | undefined;
}

/** A document that this process has taken, and what was kept of it before. */
export interface Claimed {
  readonly content: string;
  readonly name: string;
  /** Pages that its kept state has read, and the state's id. */
  readonly page: number;
  readonly record: string | null;
  readonly attempts: number;
}

const KEPT_EVERY = 120_000;
/** Pages that are fetched at once. */
const PAGES_AT_ONCE = 5;
/** How long writing a state may take before it counts as left behind, in seconds. */
const SAVING = 3600;

/** One document while a model reads it: its tokens, the state behind those that were read, and when that state is saved. */
export class DocumentReading {
  /** Tokens that were fetched and not read yet, those of each run that is at work, and those that the state has read. */
  private waiting: number[] = [];
  private reading: (readonly number[])[] = [];
  private readonly tokens: number[] = [];
  private logits: Float32Array | undefined;
  /** Whether there may be pages behind those that were fetched. */
  private more = true;
  /** Whether its first pages were fetched, as many as are fetched ahead. */
  isReady = false;
  /** Pages that are being fetched, until they are there. */
  filling: Promise<void> | undefined;
  private keptAt = performance.now();
  private keptPage: number;
  /** What was told since the state was kept. */
  private told = { pages: 0, tokens: 0 };
  /** Pages that were fetched, and behind how many tokens each ends; of those that are read the last one alone. */
  private ends: { readonly page: number; readonly at: number }[];

  private constructor(
    private readonly archive: Archive,
    private readonly model: LanguageModel,
    private readonly key: string,
    private readonly claimed: Claimed,
    private readonly options: DocumentReadingTools,
    private readonly state: State,
    page: number,
    private record: string | null,
  ) {
    this.keptPage = page;
    this.ends = [{ page, at: 0 }];
  }

  /** Goes on from the state that was kept, where there is one. Throws `StorageError` where the store of states cannot be reached. */
  static async begin(
    archive: Archive,
    model: LanguageModel,
    key: string,
    claimed: Claimed,
    options: DocumentReadingTools,
  ): Promise<DocumentReading> {
    if (claimed.record !== null) {
      const kept = await archive.library
        .load(ARCHIVE_OWNER, claimed.record, model)
        .then(({ snapshot }) => snapshot)
        .catch((error: unknown) => {
          // Where it is gone or damaged, the document is read from its beginning. A store that does not answer for now may have it still.
          if (error instanceof SnapshotError || error instanceof UnknownStateError) return undefined;
          throw error;
        });
      if (kept) {
        const state = kept.state.fork();
        const { page, record } = claimed;
        const reading = new DocumentReading(archive, model, key, claimed, options, state, page, record);
        for (const id of kept.tokens) reading.tokens.push(id);
        reading.ends = [{ page, at: reading.tokens.length }];
        reading.logits = kept.logits;
        kept.dispose();
        return reading;
      }
    }
    return new DocumentReading(archive, model, key, claimed, options, model.newState(), 0, claimed.record);
  }

  get content(): string {
    return this.claimed.content;
  }

  /** Whether all of the document was read. */
  get ended(): boolean {
    return this.isFetched && this.waiting.length === 0 && this.reading.length === 0;
  }

  /** How many tokens were fetched that no run has taken. */
  get left(): number {
    return this.waiting.length;
  }

  /** Whether there are no pages behind those that were fetched. */
  get isFetched(): boolean {
    return !this.more;
  }

  /** Whether some of it was read since its state was kept, and that is long ago. */
  get isToBeKept(): boolean {
    const { keepEvery = KEPT_EVERY } = this.options;
    return this.told.tokens > 0 && performance.now() - this.keptAt >= keepEvery && !this.ended;
  }

  /** Fetches pages until so many tokens wait, or the document's end has come. Where enough are there, nothing is under way: see `filling`. */
  fill(count: number): Promise<void> | undefined {
    if (!this.more || this.waiting.length >= count) return undefined;
    this.filling ??= this.fetch(count).finally(() => {
      this.filling = undefined;
      this.isReady = true;
    });
    return this.filling;
  }

  private async fetch(count: number): Promise<void> {
    const { encode } = this.options;
    while (this.more && this.waiting.length < count) {
      const { page: last } = this.ends.at(-1)!;
      const pages = await this.archive.pages(this.claimed.content, last + 1, last + PAGES_AT_ONCE);
      this.more = pages.length > 0;
      for (const { page, text } of pages) {
        if (text !== '') {
          const marked = `[page ${page}]\n${text}\n\n`;
          const isFirst = this.fetched === 0;
          const ids = await encode(isFirst ? `${this.claimed.name}\n\n${marked}` : marked);
          for (const id of isFirst ? this.model.tokenizer.fromStart([...ids]) : ids) this.waiting.push(id);
        }
        this.ends.push({ page, at: this.fetched });
      }
    }
  }

  /** Takes the next tokens, for a run that `took` tells the end of, in the order of the runs. */
  next(count: number): {
    ids: readonly number[];
    position: number;
    state: State;
    expected: number;
    needsLogits: boolean;
  } {
    const position = this.tokens.length + this.atWork;
    const ids = this.waiting.splice(0, count);
    this.reading.push(ids);
    // A state is kept at the end of a page alone.
    const end = position + ids.length;
    const needsLogits = this.ends.some(({ at }) => at === end);
    return { ids, position, state: this.state, expected: this.fetched, needsLogits };
  }

  /** Notes that the tokens of the oldest run were read, with the logits behind the last one if they were needed. */
  took(logits: Float32Array | undefined): void {
    for (const id of this.reading.shift()!) this.tokens.push(id);
    this.logits = logits;
  }

  /** Tells of tokens that were read, and of the pages that end with them. */
  tell(tokens: number): void {
    const pages = this.pagesRead();
    this.told.pages += pages;
    this.told.tokens += tokens;
    this.options.onRead?.(pages, tokens);
  }

  /** Begins anew from the state that was kept, since a run has failed that may have changed this one: what it read since is read again. */
  async again(): Promise<DocumentReading> {
    const { archive, model, key, claimed, options, record, told } = this;
    this.dispose();
    options.onRead?.(-told.pages, -told.tokens);
    return DocumentReading.begin(archive, model, key, { ...claimed, page: this.keptPage, record }, options);
  }

  /** Leaves behind those that are read by now. Returns how many. */
  private pagesRead(): number {
    const before = this.ends.length;
    while (this.ends.length > 1 && this.ends[1]!.at <= this.tokens.length) this.ends.shift();
    return before - this.ends.length;
  }

  /**
   * Keeps the state where the page ends that is being read. What was fetched behind it waits still. Not for a document of which a run is at
   * work, or has failed and may have changed the state.
   */
  async keep(): Promise<void> {
    // What a failed run was to read is still to be read, since it has left the state as it was.
    this.waiting = [...this.reading.flat(), ...this.waiting];
    this.reading = [];
    this.pagesRead();
    const begun = this.tokens.length > this.ends[0]!.at;
    if (!begun && this.page === this.keptPage) return;
    const end = begun ? this.ends[1]! : this.ends[0]!;
    while (this.tokens.length < end.at) {
      const count = Math.min(this.model.chunk, end.at - this.tokens.length);
      const row = this.next(count);
      this.took((await this.options.read(row))?.slice());
      this.tell(count);
    }
    await this.save('reading');
    this.keptAt = performance.now();
    this.keptPage = this.page;
    this.told = { pages: 0, tokens: 0 };
  }

  /** Keeps the state of the whole document, and disposes of it. Where it is stopped before all vectors are there, whoever goes on makes them. */
  async finish(): Promise<void> {
    const { archive, claimed, options } = this;
    const isEmpty = this.tokens.length === 0;
    // Behind the last text there may be empty ones.
    const empty = this.pagesRead();
    if (empty > 0) options.onRead?.(empty, 0);
    try {
      if (isEmpty) await this.note('failed', null, 'it has no text');
      else {
        if (options.vectors && !(await this.putVectors())) return await this.keep();
        await this.save('read');
      }
      options.onDocument?.(claimed.name, this.tokens.length, isEmpty ? 'it has no text' : undefined);
    } finally {
      this.dispose();
    }
    await archive.deleteOrphans();
  }

  dispose(): void {
    this.state.dispose();
  }

  /** Tokens of the pages that were fetched. */
  get fetched(): number {
    return this.tokens.length + this.atWork + this.waiting.length;
  }

  /** Tokens of the runs that are at work. */
  private get atWork(): number {
    return this.reading.reduce((sum, { length }) => sum + length, 0);
  }

  /** Pages that the state has read. */
  private get page(): number {
    return this.ends[0]!.page;
  }

  private async save(state: 'reading' | 'read'): Promise<void> {
    const { archive, claimed, model, options } = this;
    const id = newStateId();
    // If this process ends before the record is noted, somebody deletes the state.
    await archive.database.query(
      'INSERT INTO archive_orphans VALUES ($1, now() + make_interval(secs => $2)) ON CONFLICT DO NOTHING',
      [id, SAVING],
    );
    const snapshot = new Snapshot({
      model,
      state: this.state.fork(),
      tokens: Int32Array.from(this.tokens),
      pending: 0,
      logits: this.logits,
    });
    try {
      await archive.library.save(
        ARCHIVE_OWNER,
        snapshot,
        { model: options.name, name: claimed.name, parent: null, base: this.tokens.length, messages: [] },
        id,
        options.write,
      );
    } catch (error) {
      await archive.database.query('UPDATE archive_orphans SET until = NULL WHERE record = $1', [id]);
      if (!(error instanceof StorageError)) throw error;
      throw new ArchiveError(`the state of ${claimed.name} cannot be kept: ${error.message}`, {
        cause: error,
      });
    } finally {
      snapshot.dispose();
    }
    await this.note(state, id, null);
    this.record = id;
  }

  private async note(state: string, record: string | null, why: string | null): Promise<void> {
    const { archive, claimed, key } = this;
    await archive.database.transaction(async (query) => {
      const noted = await query(
        `UPDATE archive_readings SET state = $4, record = $5, why = $6, page = $7, tokens = $8,
           worker = CASE WHEN $4 = 'reading' THEN worker END, until = CASE WHEN $4 = 'reading' THEN until END,
           attempts = 1
         WHERE content = $1 AND model = $2 AND worker = $3 RETURNING content`,
        [claimed.content, key, archive.queue.worker, state, record, why, this.page, this.tokens.length],
      );
      // The document is gone, or somebody else reads it by now: then the new state stays an orphan.
      if (noted.length === 0) {
        await query('UPDATE archive_orphans SET until = NULL WHERE record = $1', [record]);
        return;
      }
      if (record !== null) await query('DELETE FROM archive_orphans WHERE record = $1', [record]);
      if (this.record !== null)
        await query('INSERT INTO archive_orphans (record) VALUES ($1) ON CONFLICT DO NOTHING', [this.record]);
    });
  }

  /** Returns whether all are there: not where it was stopped. */
  private async putVectors(): Promise<boolean> {
    const { archive, claimed, model, key } = this;
    const passages = await archive.database.query<{ id: string; text: string }>(
      `SELECT id::text, text FROM archive_passages p WHERE content = $1
         AND NOT EXISTS (SELECT 1 FROM archive_vectors v WHERE v.passage = p.id AND v.model = $2) ORDER BY id`,
      [claimed.content, key],
    );
    for (const { id, text } of passages) {
      if (this.options.signal?.aborted) return false;
      const vector = bytesOf(await model.embed(text));
      await archive.database.query(
        `INSERT INTO archive_vectors SELECT $1::bigint, $2, $3 WHERE EXISTS (SELECT 1 FROM archive_passages WHERE id = $1::bigint)
         ON CONFLICT DO NOTHING`,
        [id, key, vector],
      );
    }
    return true;
  }
}
