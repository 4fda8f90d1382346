/**
 * Has a model read documents into states. Each is read once, page after page, and its state is kept in the store of states. Documents are
 * read side by side, some tokens of each in one run, as far as the device gains by it; meanwhile the next pages become tokens, and the
 * states of what was read are written.
 */
import { OutOfDeviceMemory } from '../engine/index.js';
import { type LanguageModel, WritingThreads } from '../generate/index.js';
import { TokenThread } from '../text/index.js';
import type { Archive } from './archive.js';
import {
  type Claimed,
  DocumentReading,
  type DocumentReadingOptions,
  type DocumentReadingTools,
} from './document-reading.js';
import { ATTEMPTS, HEARTBEAT, LEASE } from './queue.js';
import { planningFor, type Run } from './run-planning.js';

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
  const { signal, notice = () => {} } = options;
  let { batch = 1 } = options;
  // Tokens are made, and states written, in threads where a device of its own waits for this one.
  const thread = model.pieceOf && new TokenThread(model.tokenizer);
  const writing = model.pieceOf && new WritingThreads();
  const tools: DocumentReadingTools = {
    ...options,
    encode: async (text) => (thread ?? model.tokenizer).encode(text),
    write: writing?.write,
    read: async (row) => {
      try {
        return (await model.readTogether([row], batch))[0];
      } catch (error) {
        runFailed(error);
        throw error;
      }
    },
  };
  const open: DocumentReading[] = [];
  const finishing = new Set<Promise<void>>();
  /** Contents of all that was taken and is not done. */
  const held = new Set<string>();
  /** What the work ends with, and what runs had no memory for, which need not end it. */
  const failures: unknown[] = [];
  const outOfMemory = new Set<unknown>();
  const beat = setInterval(() => {
    archive.queue.renewReadings(key, [...held]).catch(() => {});
  }, HEARTBEAT * 1000);
  const take = async (): Promise<boolean> => {
    const claimed = await claim(archive, key);
    if (!claimed) return false;
    held.add(claimed.content);
    open.push(await DocumentReading.begin(archive, model, key, claimed, tools));
    return true;
  };
  const working = new Set<Promise<void>>();
  const failed = (error: unknown): void => {
    if (!outOfMemory.has(error)) failures.push(error);
  };
  const hasFailed = (): boolean => failures.length + outOfMemory.size > 0;
  /** Whether a run has failed that may have changed the states that it was given. */
  let isSpoiled = false;
  const runFailed = (error: unknown): void => {
    isSpoiled ||= model.pieceOf !== undefined;
    if (error instanceof OutOfDeviceMemory) outOfMemory.add(error);
    failed(error);
  };
  const start = (run: Run): void => {
    const started = readTogether(model, run, batch, [...working])
      .catch(runFailed)
      .finally(() => working.delete(started));
    working.add(started);
  };
  /** Returns whether documents are read again, fewer at once: that a run fails for want of memory on the device need not end the work. */
  const goesOnWithFewer = async (): Promise<boolean> => {
    if (!model.pieceOf || batch === 1) return false;
    await Promise.all(working);
    if (failures.length > 0) return false;
    outOfMemory.clear();
    batch = Math.ceil(batch / 4);
    notice(
      `the device has no memory for so many documents at once: ${batch} ${batch === 1 ? 'is' : 'are'} read from now on`,
    );
    for (const [i, each] of open.entries()) open[i] = await each.again();
    isSpoiled = false;
    return true;
  };
  try {
    let isMore = true;
    let hasBegun = false;
    for (;;) {
      let planning = planningFor(model, batch);
      while (isMore && open.length < planning.open && !signal?.aborted) isMore = await take();
      if (!hasBegun && open.length > 0 && open.length < batch) {
        // Programs are made for as many documents as there are.
        batch = open.length;
        planning = planningFor(model, batch);
      }
      hasBegun = true;
      // The next pages are fetched and made tokens of while the device reads.
      for (const each of open) {
        if (open.filter(({ filling }) => filling).length >= planning.filling) break;
        each.fill(planning.fetched)?.catch(failed);
      }
      if (planning.ahead === 1) await Promise.all(open.map(({ filling }) => filling?.catch(() => undefined)));
      while (working.size >= planning.ahead) await Promise.race(working);
      // Those alone whose runs are waited for here: others may come due while runs of theirs are at work.
      const toBeKept = open.filter(({ isToBeKept }) => isToBeKept);
      if (signal?.aborted || toBeKept.length > 0) await Promise.all(working);
      if (hasFailed()) {
        if (await goesOnWithFewer()) continue;
        throw failures[0] ?? [...outOfMemory][0];
      }
      if (signal?.aborted) return;
      // Others wait among those that are open: where states are written more slowly than texts are read, no more texts are begun.
      for (const each of open.filter(({ ended }) => ended).slice(0, planning.finishing - finishing.size)) {
        open.splice(open.indexOf(each), 1);
        const finished = each
          .finish()
          .catch(failed)
          .finally(() => {
            finishing.delete(finished);
            held.delete(each.content);
          });
        finishing.add(finished);
      }
      if (planning.ahead === 1) await Promise.all(finishing);
      for (const each of toBeKept) if (open.includes(each) && !hasFailed()) await each.keep().catch(failed);
      if (hasFailed()) continue;
      const run = planning.next(open, working.size > 0);
      if (run) {
        start(run);
        continue;
      }
      const expected = [
        ...working,
        ...finishing,
        ...open.flatMap(({ filling }) => filling?.catch(() => undefined) ?? []),
      ];
      if (expected.length > 0) {
        await Promise.race(expected);
        continue;
      }
      // What is open has come to the end of what was fetched: the next turn fetches more of it, or finishes it.
      if (open.length > 0) continue;
      // One whose worker has said nothing for long may be free by now.
      if (!(await take())) return;
    }
  } finally {
    await Promise.all([...working, ...finishing]);
    // What was read until now is gone on with. Keeping a state reads on to the end of a page: where a device or a store fails at one of them,
    // it is not asked for the others.
    let fails = isSpoiled;
    for (const each of open) {
      if (!fails)
        fails = await each.keep().then(
          () => false,
          () => true,
        );
    }
    for (const each of open) each.dispose();
    clearInterval(beat);
    await thread?.close();
    await writing?.close();
    await archive.queue.release().catch(() => {});
  }
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

/** Reads what a run takes of its documents, which come to have read it after the runs `before`. */
async function readTogether(
  model: LanguageModel,
  run: Run,
  batch: number,
  before: readonly Promise<void>[],
): Promise<void> {
  const rows = run.map(({ reading, count }) => reading.next(count));
  const logits = await model.readTogether(rows, batch);
  // Runs take different times to copy their logits, so a later one may answer first.
  await Promise.all(before);
  for (const [i, { reading }] of run.entries()) reading.took(logits[i]);
  // Whoever is told may throw: all states have moved on by then.
  for (const { reading, count } of run) reading.tell(count);
}
