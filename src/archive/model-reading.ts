/**
 * Has a model read documents into states. Each is read once, page after page, and its state is kept in the store of states. Documents are
 * read side by side, a piece of each in one run, as far as the device gains by it; meanwhile the next pages become tokens, and the states
 * of what was read are written.
 */
import type { LanguageModel } from '../generate/index.js';
import type { Archive } from './archive.js';
import { type Claimed, DocumentReading, type DocumentReadingOptions } from './document-reading.js';
import { ATTEMPTS, HEARTBEAT, LEASE } from './queue.js';

/** How a model reads the documents of an archive. */
export interface ModelReadingOptions extends DocumentReadingOptions {
  /** Documents that are read side by side. */
  readonly batch?: number;
}

/** The name of a model's states and vectors in an archive. */
export function modelKey({
  fingerprint,
  tokenizer,
}: Pick<LanguageModel, 'fingerprint'> & {
  tokenizer: Pick<LanguageModel['tokenizer'], 'beginning'>;
}): string {
  const { hash, quantization } = fingerprint;
  // Vectors used to be those of texts without the tokens that begin one, which other models are not told apart by.
  return [
    hash,
    ...(quantization === 'none' ? [] : [quantization]),
    ...(tokenizer.beginning.length > 0 ? ['begun'] : []),
  ].join('-');
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
  const sizes = sizesFor(model, batch);
  // Documents that have come to pieces of different lengths wait for others who have come as far.
  const most = batch * sizes.length;
  const open: DocumentReading[] = [];
  const finishing = new Set<Promise<void>>();
  /** Contents of all that was taken and is not done. */
  const held = new Set<string>();
  const failures: unknown[] = [];
  const beat = setInterval(() => {
    archive.queue.renewReadings(key, [...held]).catch(() => {});
  }, HEARTBEAT * 1000);
  const take = async (): Promise<boolean> => {
    const claimed = await claim(archive, key);
    if (!claimed) return false;
    held.add(claimed.content);
    open.push(await DocumentReading.begin(archive, model, key, claimed, options));
    return true;
  };
  let running: Promise<void> = Promise.resolve();
  try {
    let isMore = true;
    for (;;) {
      // The next pages are fetched and made tokens of while the device reads.
      while (isMore && open.length < most && !signal?.aborted) isMore = await take();
      for (const each of open) await each.fill(sizes[0]!);
      await running;
      if (failures.length > 0) throw failures[0];
      if (signal?.aborted) return;
      for (const each of open.filter(({ ended }) => ended)) {
        open.splice(open.indexOf(each), 1);
        const finished = each
          .finish()
          .catch((error: unknown) => {
            failures.push(error);
          })
          .finally(() => {
            finishing.delete(finished);
            held.delete(each.content);
          });
        finishing.add(finished);
      }
      while (finishing.size >= (model.pieces ? FINISHING : 1)) await Promise.race(finishing);
      for (const each of open) await each.keepNowAndThen();
      const [first, ...others] = nextRun(open, sizes, batch);
      if (!first) {
        await Promise.all(finishing);
        if (failures.length > 0) throw failures[0];
        // What is open has come to the end of what was fetched: the next turn fetches more of it, or finishes it.
        if (open.length > 0) continue;
        // One whose worker has said nothing for long may be free by now.
        if (!(await take())) return;
        continue;
      }
      running = readTogether(model, [first, ...others], first.sizeOf(sizes));
      // Whoever waits for it hears of it.
      running.catch(() => {});
    }
  } finally {
    await running.catch(() => {});
    await Promise.all(finishing);
    // What was read until now is gone on with. Keeping a state reads on to the end of a page: where a device or a store fails at one of them,
    // it is not asked for the others.
    let fails = false;
    for (const each of open) {
      if (!fails)
        fails = await each.keep().then(
          () => false,
          () => true,
        );
    }
    for (const each of open) each.dispose();
    clearInterval(beat);
    await archive.queue.release().catch(() => {});
  }
}

/** Tokens of all rows of a run, where more at once are no faster. */
const TOKENS_AT_ONCE = 32_768;
/** Tokens of all rows of a piece, which keep a large device busy. */
const LEAST_AT_ONCE = 8192;
/** Documents whose states are being written, while others are read. A device that computes on this thread leaves it no time for both. */
const FINISHING = 4;

/**
 * The lengths that texts are read in, the longest first. Rows of a run are of one length: where the device has programs for some lengths
 * alone, a text is read in long pieces and then in ever shorter ones; else in chunks, and what is left as it is.
 */
function sizesFor({ chunk, pieces }: LanguageModel, batch: number): readonly number[] {
  if (!pieces) return [chunk];
  const first = pieces.findIndex((size) => size * batch <= LEAST_AT_ONCE);
  const own = pieces.slice(first);
  // Several pieces are asked for at once, so that the device does not wait between them; as many as make a longer piece are that one.
  const most = Math.min(TOKENS_AT_ONCE / batch, first > 0 ? pieces[first - 1]! - 1 : chunk);
  const times = Math.floor(most / own[0]!);
  return times > 1 ? [own[0]! * times, ...own] : own;
}

/** Those who read next: as many as a batch has that have come to pieces of one length, or else the most of them. */
function nextRun(
  open: readonly DocumentReading[],
  sizes: readonly number[],
  batch: number,
): readonly DocumentReading[] {
  const groups = new Map<number, DocumentReading[]>();
  for (const each of open) {
    const size = each.sizeOf(sizes);
    if (size === 0) continue;
    const group = groups.get(size) ?? [];
    if (group.length < batch) group.push(each);
    groups.set(size, group);
  }
  const bySize = [...groups].sort(([a], [b]) => b - a).map(([, group]) => group);
  return (
    bySize.find(({ length }) => length === batch) ??
    bySize.reduce<DocumentReading[]>((most, group) => (group.length > most.length ? group : most), [])
  );
}

async function claim(archive: Archive, key: string): Promise<Claimed | undefined> {
  const {
    database,
    queue: { worker },
  } = archive;
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
       SELECT w.content FROM archive_readings w JOIN archive_documents whole ON whole.content = w.content AND whole.state = 'read'
       WHERE w.model = $1 AND w.state IN ('waiting', 'reading') AND (w.worker IS NULL OR w.until < now())
       ORDER BY w.content LIMIT 1 FOR UPDATE OF w SKIP LOCKED)
     RETURNING r.content, d.name, r.page, r.record, r.attempts`,
    [key, worker, LEASE],
  );
  return claimed;
}

/** Has each of these read its next `size` tokens. */
async function readTogether(
  model: LanguageModel,
  readings: readonly DocumentReading[],
  size: number,
): Promise<void> {
  const rows = readings.map((each) => each.next(size));
  const logits = await model.readTogether(rows);
  for (const [i, each] of readings.entries()) each.took(rows[i]!.ids, logits[i]!);
  // Whoever is told may throw: all states have moved on by then.
  for (const each of readings) each.tell(size);
}
