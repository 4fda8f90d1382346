/**
 * Has a model read documents into states. Each is read once, page after page, and its state is kept in the store of states; a long one is kept
 * on the way too, so that whoever goes on begins there. Documents are read side by side, a chunk of each in one run, as far as the device
 * gains by it.
 */
import type { State } from '../engine/index.js';
import { type LanguageModel, newStateId } from '../generate/index.js';
import { Snapshot } from '../generate/snapshot.js';
import { ARCHIVE_OWNER, type Archive, ATTEMPTS, HEARTBEAT, LEASE } from './archive.js';
import { bytesOf } from './vectors.js';

export interface ModelReadingOptions {
  /** The model's name in records. */
  readonly name: string;
  /** Documents that are read side by side. */
  readonly batch?: number;
  /** Keeps a vector for each passage too. */
  readonly vectors?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onRead?: (pages: number, tokens: number) => void;
  readonly onDocument?: (name: string, tokens: number, why: string | undefined) => void;
}

/** How often the state of a long document is kept on the way, in milliseconds. */
const KEPT_EVERY = 120_000;
const PAGES_AT_ONCE = 20;

/** The name of a model's states in an archive. */
export function modelKey({ fingerprint }: Pick<LanguageModel, 'fingerprint'>): string {
  return `${fingerprint.hash}${fingerprint.quantization === 'none' ? '' : `-${fingerprint.quantization}`}`;
}

interface Claimed {
  readonly content: string;
  readonly name: string;
  /** Pages that its kept state has read, and the state's id. */
  readonly page: number;
  readonly record: string | null;
  readonly attempts: number;
}

/** Documents that the model has not read whole, as many pages as they have left. */
export async function pagesToRead(archive: Archive, key: string): Promise<number> {
  const [row] = await archive.database.query<{ left: number }>(
    `SELECT coalesce(sum(d.pages - coalesce(r.page, 0)), 0)::int AS left FROM archive_documents d
     LEFT JOIN archive_readings r ON r.content = d.content AND r.model = $1
     WHERE d.state = 'read' AND coalesce(r.state, 'waiting') IN ('waiting', 'reading')`,
    [key],
  );
  return row!.left;
}

/** Reads all documents that the model has not read, until none is left or the signal is aborted. */
export async function readWithModel(
  archive: Archive,
  model: LanguageModel,
  options: ModelReadingOptions,
): Promise<void> {
  const key = modelKey(model);
  const { batch = 1, signal } = options;
  const open: DocumentReading[] = [];
  const beat = setInterval(() => {
    archive.renew().catch(() => {});
  }, HEARTBEAT * 1000);
  try {
    while (!signal?.aborted) {
      while (open.length < batch) {
        const claimed = await claim(archive, key);
        if (!claimed) break;
        open.push(await DocumentReading.begin(archive, model, key, claimed, options));
      }
      if (open.length === 0) return;
      // Those that have a whole chunk go together; what is left of a document goes alone.
      for (const each of open) await each.fill();
      const whole = open.filter((each) => each.hasChunk);
      if (whole.length > 0) await readTogether(model, whole);
      for (const each of open.filter((one) => !whole.includes(one))) await each.readRest();
      for (const each of [...open]) {
        await each.keepNowAndThen();
        if (!each.ended) continue;
        open.splice(open.indexOf(each), 1);
        await each.finish();
      }
    }
  } finally {
    clearInterval(beat);
    // What was read until now is gone on with.
    for (const each of open) await each.keep().catch(() => {});
    for (const each of open) each.dispose();
    await archive.release().catch(() => {});
  }
}

async function claim(archive: Archive, key: string): Promise<Claimed | undefined> {
  const { database, worker } = archive;
  await database.query(
    `INSERT INTO archive_readings (content, model, state) SELECT content, $1, 'waiting' FROM archive_documents d
     WHERE state = 'read' AND NOT EXISTS (SELECT 1 FROM archive_readings r WHERE r.content = d.content AND r.model = $1)
     ON CONFLICT DO NOTHING`,
    [key],
  );
  await database.query(
    `UPDATE archive_readings SET state = 'failed', why = $3 WHERE model = $1 AND state <> 'read' AND attempts > $2
       AND (worker IS NULL OR until < now())`,
    [key, ATTEMPTS, `${ATTEMPTS} workers ended while they read it`],
  );
  const [claimed] = await database.query<Claimed>(
    `UPDATE archive_readings r SET worker = $2, until = now() + make_interval(secs => $3), attempts = r.attempts + 1, state = 'reading'
     FROM archive_documents d WHERE d.content = r.content AND r.model = $1 AND r.content = (
       SELECT content FROM archive_readings WHERE model = $1 AND state IN ('waiting', 'reading') AND (worker IS NULL OR until < now())
       ORDER BY content LIMIT 1 FOR UPDATE SKIP LOCKED)
     RETURNING r.content, d.name, r.page, r.record, r.attempts`,
    [key, worker, LEASE],
  );
  return claimed;
}

async function readTogether(model: LanguageModel, readings: readonly DocumentReading[]): Promise<void> {
  const rows = readings.map((each) => each.nextChunk());
  const logits = await model.readTogether(rows);
  for (const [i, each] of readings.entries()) each.took(rows[i]!.ids, logits[i]!);
}

/** One document that is being read. */
class DocumentReading {
  private readonly waiting: number[] = [];
  private readonly tokens: number[] = [];
  private logits: Float32Array | undefined;
  private more = true;
  private keptAt = performance.now();
  private keptPage: number;

  private constructor(
    private readonly archive: Archive,
    private readonly model: LanguageModel,
    private readonly key: string,
    private readonly claimed: Claimed,
    private readonly options: ModelReadingOptions,
    private state: State,
    /** Pages whose tokens were taken so far. */
    private page: number,
    private record: string | null,
  ) {
    this.keptPage = page;
  }

  static async begin(
    archive: Archive,
    model: LanguageModel,
    key: string,
    claimed: Claimed,
    options: ModelReadingOptions,
  ): Promise<DocumentReading> {
    if (claimed.record !== null) {
      const kept = await archive.library
        .load(ARCHIVE_OWNER, claimed.record, model)
        .then(({ snapshot }) => snapshot)
        // Without it the document is read from its beginning.
        .catch(() => undefined);
      if (kept) {
        const reading = new DocumentReading(
          archive,
          model,
          key,
          claimed,
          options,
          kept.state.fork(),
          claimed.page,
          claimed.record,
        );
        reading.tokens.push(...kept.tokens);
        reading.logits = kept.logits;
        kept.dispose();
        return reading;
      }
    }
    return new DocumentReading(archive, model, key, claimed, options, model.newState(), 0, null);
  }

  get hasChunk(): boolean {
    return this.waiting.length >= this.model.chunk;
  }

  /** Whether all of the document was read. */
  get ended(): boolean {
    return !this.more && this.waiting.length === 0;
  }

  /** Takes pages until a chunk is there, or the document's end. */
  async fill(): Promise<void> {
    const { tokenizer, chunk } = this.model;
    while (this.more && this.waiting.length < chunk) {
      const pages = await this.archive.pages(this.claimed.content, this.page + 1, this.page + PAGES_AT_ONCE);
      this.more = pages.length > 0;
      for (const { page, text } of pages) {
        this.page = page;
        this.options.onRead?.(1, 0);
        if (text === '') continue;
        const marked = `[page ${page}]\n${text}\n\n`;
        const first = this.tokens.length === 0 && this.waiting.length === 0;
        const ids = first
          ? tokenizer.encodeFromStart(`${this.claimed.name}\n\n${marked}`)
          : tokenizer.encode(marked);
        for (const id of ids) this.waiting.push(id);
      }
    }
  }

  nextChunk(): { ids: number[]; position: number; state: State } {
    return {
      ids: this.waiting.slice(0, this.model.chunk),
      position: this.tokens.length,
      state: this.state,
    };
  }

  took(ids: readonly number[], logits: Float32Array): void {
    for (const id of ids) this.tokens.push(id);
    this.waiting.splice(0, ids.length);
    this.logits = logits;
    this.options.onRead?.(0, ids.length);
  }

  /** Reads what is left of the document and is less than a chunk. */
  async readRest(): Promise<void> {
    if (this.waiting.length === 0) return;
    const ids = [...this.waiting];
    const logits = await this.model.read({ ids, position: this.tokens.length, state: this.state });
    this.took(ids, logits.slice());
  }

  async keepNowAndThen(): Promise<void> {
    if (performance.now() - this.keptAt > KEPT_EVERY && !this.ended) await this.keep();
  }

  /** Keeps the state as it is, where pages end. */
  async keep(): Promise<void> {
    // What waits belongs to pages that count as read: it is read too.
    if (this.page === this.keptPage) return;
    while (this.hasChunk) await readTogether(this.model, [this]);
    await this.readRest();
    if (this.tokens.length === 0) return;
    await this.save('reading');
    this.keptAt = performance.now();
    this.keptPage = this.page;
  }

  async finish(): Promise<void> {
    const { archive, claimed, options } = this;
    try {
      if (this.tokens.length === 0) await this.note('failed', null, 'it has no text');
      else {
        if (options.vectors) await this.putVectors();
        await this.save('read');
      }
      options.onDocument?.(
        claimed.name,
        this.tokens.length,
        this.tokens.length === 0 ? 'it has no text' : undefined,
      );
    } finally {
      this.dispose();
    }
    await archive.deleteOrphans();
  }

  dispose(): void {
    this.state.dispose();
  }

  private async save(state: 'reading' | 'read'): Promise<void> {
    const { archive, claimed, model, options } = this;
    const id = newStateId();
    // If this process ends before the record is noted, somebody deletes the state.
    await archive.database.query('INSERT INTO archive_orphans VALUES ($1)', [id]);
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
      );
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
        [claimed.content, key, archive.worker, state, record, why, this.page, this.tokens.length],
      );
      // The document is gone, or somebody else reads it by now: then the new state stays an orphan.
      if (noted.length === 0) return;
      if (record !== null) await query('DELETE FROM archive_orphans WHERE record = $1', [record]);
      if (this.record !== null)
        await query('INSERT INTO archive_orphans VALUES ($1) ON CONFLICT DO NOTHING', [this.record]);
    });
  }

  private async putVectors(): Promise<void> {
    const { archive, claimed, model, key } = this;
    const passages = await archive.database.query<{ id: string; text: string }>(
      `SELECT id::text, text FROM archive_passages p WHERE content = $1
         AND NOT EXISTS (SELECT 1 FROM archive_vectors v WHERE v.passage = p.id AND v.model = $2) ORDER BY id`,
      [claimed.content, key],
    );
    for (const { id, text } of passages) {
      if (this.options.signal?.aborted) return;
      const vector = bytesOf(await model.embed(text));
      await archive.database.query(
        `INSERT INTO archive_vectors SELECT $1::bigint, $2, $3 WHERE EXISTS (SELECT 1 FROM archive_passages WHERE id = $1::bigint)
         ON CONFLICT DO NOTHING`,
        [id, key, vector],
      );
    }
  }
}
