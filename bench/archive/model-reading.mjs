/**
 * How many pages a second a model reads into states. Usage: node bench/archive/model-reading.mjs pages.jsonl
 *   [--device cpu] [--batch 1] [--shape nano | small | base | granite-350m | constant-350m] [--bits 16] [--cache float16] [--tokenizer folder]
 *   [--pages 24] [--most 1000000] [--copies 1] [--warm] [--until 0.8] [--memory]
 *
 * The pages are those that `heddle archive export` has written, at most `--most` of them, so many times. They are put into an archive in a
 * folder (PGlite) as documents of so many pages, and read by a model of random weights of the shape, with all that `heddle archive work
 * --model` does: pages are fetched, become tokens, are read, and each document's state is written to the disk. With --memory the tables are
 * kept here, without PGlite. With --warm as many documents as a batch has are read before, so that the programs are compiled.
 *
 * What is told is the rate of all pages, until the last state is written, and the rate from the first fifth of the pages until the share
 * `--until`, since behind it there are fewer documents than rows; then how long this thread was busy, the longest time for which the event
 * loop stood still, and the most memory.
 *
 * With `--device played` the model's runs take as long as on an H200 and compute nothing (played-model.mjs): what is measured is all that
 * happens beside them.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { Archive, readWithModel } from '../../dist/archive/index.js';
import { loadModel, openStore, StateLibrary } from '../../dist/generate/index.js';
import { writeShape } from './shapes.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: 'string', default: 'cpu' },
    batch: { type: 'string', default: '1' },
    shape: { type: 'string', default: 'granite-350m' },
    bits: { type: 'string', default: '16' },
    tokenizer: { type: 'string', default: 'assets/sotu-hybrid' },
    pages: { type: 'string', default: '24' },
    until: { type: 'string', default: '0.8' },
    most: { type: 'string', default: '1000000' },
    copies: { type: 'string', default: '1' },
    warm: { type: 'boolean', default: false },
    cache: { type: 'string' },
    memory: { type: 'boolean', default: false },
  },
});
const began = performance.now();
const say = (text) =>
  console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}`);
const own = readFileSync(positionals[0], 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line))
  .filter(({ page }) => page !== null)
  .slice(0, Number(values.most));
const pages = Array.from({ length: Number(values.copies) }, () => own).flat();

const root = mkdtempSync(join(tmpdir(), 'heddle-model-reading-'));
const isPlayed = values.device === 'played';
const name = isPlayed
  ? values.shape
  : await writeShape(root, values.shape, Number(values.bits), values.tokenizer);
const each = Number(values.pages);
const documents = new Map();
for (let first = 0; first < pages.length; first += each)
  documents.set(
    `document-${first}`,
    pages.slice(first, first + each).map(({ text }) => text),
  );
say(`${pages.length} pages in ${documents.size} documents`);
let compiled = 0;
const { device, cache } = values;
const model = isPlayed
  ? await (await import('./played-model.mjs')).playedModel(values.shape, values.tokenizer, cache)
  : await loadModel(root, { device, ...(cache && { cache }), onCompile: () => compiled++ });
say(`${name} on ${device} is loaded`);
try {
  if (values.warm) await warm(join(root, 'warm'));
  await readAll(join(root, 'archive'));
} finally {
  await model.dispose();
  rmSync(root, { recursive: true, force: true });
}

async function warm(place) {
  const began = performance.now();
  const batch = Number(values.batch);
  const archive = inMemory(new Map([...documents].slice(0, batch)), place);
  await readWithModel(archive, model, { name: 'measured', batch });
  rmSync(place, { recursive: true, force: true });
  say(`warm: ${compiled} programs compiled in ${((performance.now() - began) / 1000).toFixed(1)} s`);
}

async function readAll(place) {
  const archive = await (values.memory ? inMemory : inPglite)(documents, place);
  const began = performance.now();
  const since = (from) => (performance.now() - from) / 1000;
  const rate = (unit, count, seconds) =>
    `${(count / seconds).toFixed(count / seconds < 10 ? 2 : 0)} ${unit}/s`;
  const rates = (pages, tokens, seconds) =>
    `${rate('pages', pages, seconds)}, ${rate('tokens', tokens, seconds)} (${(tokens / pages).toFixed(0)} tokens a page; ${pages} pages in ${seconds.toFixed(1)} s)`;
  const before = compiled;
  let [read, tokens, kept, told] = [0, 0, 0, began];
  let from;
  let steady;
  const delays = monitorEventLoopDelay({ resolution: 5 });
  delays.enable();
  const idle = performance.eventLoopUtilization();
  let most = 0;
  const looking = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss());
  }, 50);
  await readWithModel(archive, model, {
    name: 'measured',
    batch: Number(values.batch),
    notice: say,
    onRead(morePages, moreTokens) {
      read += morePages;
      tokens += moreTokens;
      if (!from && read >= 0.2 * pages.length) from = { at: performance.now(), read, tokens };
      if (since(told) > 2) {
        told = performance.now();
        say(
          `${read} pages, ${tokens} tokens, ${kept} documents kept, ${compiled - before} programs compiled`,
        );
      }
      if (!steady && read >= Number(values.until) * pages.length)
        steady = rates(read - from.read, tokens - from.tokens, since(from.at));
    },
    onDocument: () => kept++,
  });
  say(
    `${name} on ${device}, ${values.batch} at once, ${each} pages a document: ${rates(read, tokens, since(began))}, ${kept} states of ${(bytesIn(place) / kept / 1e6).toFixed(1)} MB, ${compiled - before} programs compiled`,
  );
  clearInterval(looking);
  delays.disable();
  say(`of that, from a fifth of the pages to ${values.until}: ${steady}`);
  const busy = performance.eventLoopUtilization(idle).utilization;
  say(
    `this thread was busy ${(100 * busy).toFixed(0)} % of the time, stood still for ${(delays.max / 1e6).toFixed(0)} ms at most, and the process had ${(most / 1e6).toFixed(0)} MB at most`,
  );
  await archive.close();
  rmSync(place, { recursive: true, force: true });
}

function bytesIn(place) {
  return readdirSync(place, { recursive: true })
    .filter((name) => name.endsWith('.state'))
    .reduce((sum, name) => sum + statSync(join(place, name)).size, 0);
}

/** An archive of documents whose pages are read already. */
async function inPglite(texts, place) {
  const archive = await Archive.open({ place, create: true });
  for (const [content, own] of texts) {
    await archive.database.query(
      `INSERT INTO archive_documents (content, name, pages, state) VALUES ($1, $1, $2, 'read')`,
      [content, own.length],
    );
    await archive.database.query(
      `INSERT INTO archive_pages (content, page, state) SELECT $1, page, 'read' FROM generate_series(1, $2) AS page`,
      [content, own.length],
    );
    await archive.database.query(
      `INSERT INTO archive_passages (content, page, part, text, heading, boxes, words)
       SELECT $1, page, 0, text, '', '[]', '' FROM jsonb_to_recordset($2::jsonb) AS (page int, text text)`,
      [content, JSON.stringify(own.map((text, i) => ({ page: i + 1, text })))],
    );
  }
  return archive;
}

/** What of an archive a model needs that reads, and states on the disk. */
function inMemory(texts, place) {
  const waiting = [...texts.keys()];
  const query = async (sql) => {
    if (sql.startsWith('UPDATE archive_readings r')) {
      const content = waiting.shift();
      return content === undefined ? [] : [{ content, name: content, page: 0, record: null, attempts: 1 }];
    }
    return sql.startsWith('UPDATE archive_readings') ? [{}] : [];
  };
  return {
    queue: { worker: 'measured', renewReadings: async () => {}, release: async () => {} },
    library: new StateLibrary(openStore(place)),
    database: { query, transaction: (work) => work(query) },
    pages: async (content, first, last) =>
      texts
        .get(content)
        .slice(first - 1, last)
        .map((text, i) => ({ page: first + i, text })),
    deleteOrphans: async () => {},
    close: async () => {},
  };
}
