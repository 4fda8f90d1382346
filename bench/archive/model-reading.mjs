/**
 * How many pages a second a model reads into states. Usage: node bench/archive/model-reading.mjs pages.jsonl
 *   [--device cpu] [--batch 1] [--shape nano | small | base | granite-350m | constant-350m] [--bits 16] [--tokenizer folder] [--pages 24]
 *   [--most 1000000] [--until 0.8] [--memory]
 *
 * The pages are those that `heddle archive export` has written. They are put into an archive in a folder (PGlite) as documents of so many
 * pages, and read by a model of random weights of the shape, with all that `heddle archive work --model` does: pages are fetched, become
 * tokens, are read, and each document's state is written to the disk. With --memory the tables are kept here, without PGlite. At most
 * `--most` pages are read. What is told is the rate from the first fifth of the pages (until then programs are compiled) until the share
 * `--until`, since behind it there are fewer documents than rows.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
    memory: { type: 'boolean', default: false },
  },
});
const began = performance.now();
const say = (text) =>
  console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}`);
const pages = readFileSync(positionals[0], 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line))
  .filter(({ page }) => page !== null)
  .slice(0, Number(values.most));

const root = mkdtempSync(join(tmpdir(), 'heddle-model-reading-'));
const name = await writeShape(root, values.shape, Number(values.bits), values.tokenizer);
const each = Number(values.pages);
const documents = new Map();
for (let first = 0; first < pages.length; first += each)
  documents.set(
    `document-${first}`,
    pages.slice(first, first + each).map(({ text }) => text),
  );
const archive = values.memory
  ? inMemory(documents, join(root, 'archive'))
  : await inPglite(documents, join(root, 'archive'));
say(`${pages.length} pages in ${documents.size} documents`);
const model = await loadModel(root, { device: values.device, onCompile: () => say('compiles') });
say(`${name} on ${values.device} is loaded`);

let read = 0;
let tokens = 0;
let kept = 0;
let from;
const rate = (unit, count, seconds) => `${(count / seconds).toFixed(count / seconds < 10 ? 2 : 0)} ${unit}/s`;
let told = began;
const end = new AbortController();
await readWithModel(archive, model, {
  name: 'measured',
  batch: Number(values.batch),
  signal: end.signal,
  onRead(morePages, moreTokens) {
    read += morePages;
    tokens += moreTokens;
    if (end.signal.aborted) return;
    const now = performance.now();
    if (!from && read >= 0.2 * pages.length) from = { now, read, tokens, kept };
    if (now - told > 2000) {
      told = now;
      say(`${read} pages, ${tokens} tokens, ${kept} documents kept`);
    }
    if (read < Number(values.until) * pages.length) return;
    const seconds = (now - from.now) / 1000;
    const [morePagesRead, moreTokensRead] = [read - from.read, tokens - from.tokens];
    say(
      `${name} on ${values.device}, ${values.batch} at once, ${each} pages a document: ${rate('pages', morePagesRead, seconds)}, ${rate('tokens', moreTokensRead, seconds)} (${(moreTokensRead / morePagesRead).toFixed(0)} tokens a page; ${morePagesRead} pages in ${seconds.toFixed(1)} s, ${kept - from.kept} states written)`,
    );
    if (values.device === 'cuda') {
      // Stopping would read each document on to the end of its page, with programs that are not compiled yet.
      rmSync(root, { recursive: true, force: true });
      process.exit(0);
    }
    end.abort();
  },
  onDocument: () => kept++,
});
await model.dispose();
await archive.close();
rmSync(root, { recursive: true, force: true });

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
