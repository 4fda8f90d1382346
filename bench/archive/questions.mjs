/**
 * How often search finds the page that answers a question. Usage: node bench/archive/questions.mjs [--copies 1] [--vectors 768] file.pdf...
 *
 * The questions are made of the documents themselves: headings of their outlines (by qpdf, which tells the page of each), and terms that a
 * sentence defines (by pdftotext, page by page). Neither is what the archive reads with. Both programs must be installed. The answer's
 * page is the heading's or, since sections go on, the one after it; for a term any page that defines it. What is found is compared
 * with pdftotext's page too: a citation is right where the first words of the passage stand on the page that it names.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { Archive, scan, search, work } from '../../dist/archive/index.js';
import { bytesOf, withMeaning } from '../../dist/archive/vectors.js';

const QUESTIONS = 200;
/** Of these as many ask for terms, if there are so many; the others for headings. */
const TERMS = 50;
/** What such a sentence is about depends on the one before it. */
const VAGUE =
  /^(first|second|third|last|latter|former|next|following|other|only|same|above|resulting|remaining|simplest|result)\b/;
const run = (command, ...args) =>
  execFileSync(command, args, { encoding: 'utf8', maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'ignore'] });

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { copies: { type: 'string', default: '1' }, vectors: { type: 'string', default: '0' } },
});
const files = positionals.map((file) => resolve(file));
const pagesOf = new Map(files.map((file) => [file, run('pdftotext', file, '-').split('\f')]));

/** The same numbers on every run. */
let seed = 12345;
const random = () => {
  seed = (seed * 1103515245 + 12345) % 2 ** 31;
  return seed / 2 ** 31;
};
const some = (list, count) =>
  list
    .map((each) => [random(), each])
    .sort((a, b) => a[0] - b[0])
    .slice(0, count)
    .map(([, each]) => each);

function headings(file) {
  let text;
  try {
    text = run('qpdf', '--json', '--json-key=outlines', file);
  } catch (error) {
    text = error.stdout;
  }
  const found = [];
  const walk = (nodes) => {
    for (const { title, destpageposfrom1: page, kids } of nodes) {
      const words = title.replace(/^[\d.\s]+/, '').match(/\p{L}{4,}/gu) ?? [];
      if (page && words.length >= 2)
        found.push({
          question: `What is said about ${title.replace(/^[\d.\s]+/, '')}?`,
          key: title.replace(/^[\d.\s]+/, ''),
          file,
          pages: [page, page + 1],
        });
      walk(kids);
    }
  };
  walk(JSON.parse(text).outlines);
  return found;
}

function terms(file) {
  const where = new Map();
  const counts = new Map();
  for (const [i, page] of pagesOf.get(file).entries()) {
    const flat = page.replace(/\s+/g, ' ');
    for (const [, term] of flat.matchAll(
      /(?:^|[.:] )(?:An?|The) ((?:[a-z-]{4,} ){1,2}[a-z-]{5,}) (?:is an?|is called) /g,
    )) {
      where.set(term, [...(where.get(term) ?? []), i + 1]);
    }
  }
  for (const term of where.keys())
    counts.set(term, pagesOf.get(file).filter((page) => page.replace(/\s+/g, ' ').includes(term)).length);
  return [...where]
    .filter(([term]) => !VAGUE.test(term) && counts.get(term) <= 25)
    .map(([term, pages]) => ({
      question: `What is a ${term}?`,
      key: term,
      file,
      pages: pages.flatMap((page) => [page, page + 1]),
    }));
}

const all = files.flatMap(headings);
// A heading that stands in several places is a question with several answers.
const unique = all
  .filter(({ key }, i) => all.findIndex((other) => other.key === key) === i)
  .map((each) => ({
    ...each,
    pages: all
      .filter(({ key, file }) => key === each.key && file === each.file)
      .flatMap(({ pages }) => pages),
  }));
const defined = some(files.flatMap(terms), TERMS);
const questions = [...some(unique, QUESTIONS - defined.length), ...defined];

const folder = mkdtempSync(join(tmpdir(), 'heddle-questions-'));
const archive = await Archive.open({ place: join(folder, 'archive'), create: true });
try {
  /** The file that one is a copy of. */
  const original = new Map();
  for (const file of files) {
    for (let copy = 1; copy <= Number(values.copies); copy++) {
      const path = copy === 1 ? file : join(folder, `${copy}-${basename(file)}`);
      // What stands behind the end of a PDF is not read, and makes it another content.
      if (copy > 1) writeFileSync(path, Buffer.concat([readFileSync(file), Buffer.from(`\n% copy ${copy}`)]));
      original.set(path, file);
      await archive.addRoot(path);
      await scan(archive, path);
    }
  }
  await work(archive);
  await archive.learn();
  const at = { 1: 0, 5: 0 };
  let cited = 0;
  let right = 0;
  const missed = [];
  const times = [];
  const plain = (text) =>
    text
      .toLowerCase()
      .replace(/\ufb01/g, 'fi')
      .replace(/\ufb02/g, 'fl')
      .replace(/[^\p{L}\p{N}]+/gu, '');
  for (const { question, file, pages } of questions) {
    const began = performance.now();
    const { hits } = await search(archive, question, { limit: 8 });
    times.push(performance.now() - began);
    // Several passages of one page are one place.
    const places = [...new Set(hits.map(({ path, page }) => `${path} ${page}`))];
    const good = (count) =>
      hits.slice(0, count).some((hit) => original.get(hit.path) === file && pages.includes(hit.page));
    if (good(1)) at[1]++;
    if (good(5)) at[5]++;
    else
      missed.push(
        `${basename(file)}: ${question} (page ${pages.join(', ')}; found ${places.slice(0, 5).join(', ')})`,
      );
    for (const { path, page, text } of hits.slice(0, 5)) {
      cited++;
      const there = plain(pagesOf.get(original.get(path))[page - 1]);
      const words = text
        .split(/\s+/)
        .filter((word) => /\p{L}{3}/u.test(word))
        .slice(0, 40)
        .map(plain);
      if (words.filter((word) => there.includes(word)).length >= 0.9 * words.length) right++;
    }
  }
  const { pages: states, passages } = await archive.totals();
  console.log(`${Object.values(states).reduce((a, b) => a + b, 0)} pages, ${passages} passages`);
  times.sort((a, b) => a - b);
  for (const line of missed) console.log(`missed  ${line}`);
  console.log(
    `${questions.length} questions: ${((100 * at[5]) / questions.length).toFixed(1)} % have the page among the first five passages, ${((100 * at[1]) / questions.length).toFixed(1)} % as the first`,
  );
  console.log(
    `${cited} citations: ${((100 * right) / cited).toFixed(1)} % name the page that the words are on`,
  );
  console.log(
    `a search takes ${times[times.length >> 1].toFixed(0)} ms in the median, ${times[Math.floor(0.95 * times.length)].toFixed(0)} ms at most for 95 %`,
  );
  await timeCommon();
  if (Number(values.vectors) > 0) await timeVectors(Number(values.vectors));
} finally {
  await archive.close();
  rmSync(folder, { recursive: true, force: true });
}

/** Searches for the words that most passages have, one and several at a time. */
async function timeCommon() {
  const rows = await archive.database.query(
    `SELECT unnest(most_common_elems::text::text[]) AS word, unnest(most_common_elem_freqs) AS share FROM pg_stats
     WHERE tablename = 'archive_passages' AND attname = 'words' ORDER BY 2 DESC`,
  );
  const words = rows.flatMap(({ word }) => (/^[a-z]{3,}$/.test(word ?? '') ? [word] : [])).slice(0, 20);
  for (const count of [1, 2, 8]) {
    const times = [];
    for (const i of words.keys()) {
      const some = Array.from({ length: count }, (_, k) => words[(i + 3 * k) % words.length]);
      const began = performance.now();
      await search(archive, some.join(' '), { limit: 8 });
      times.push(performance.now() - began);
    }
    times.sort((a, b) => a - b);
    console.log(
      `a search for ${count} of the ${words.length} most frequent words takes ${times[times.length >> 1].toFixed(0)} ms in the median, ${times.at(-1).toFixed(0)} ms at most`,
    );
  }
}

async function timeVectors(size) {
  const vector = () => Float32Array.from({ length: size }, () => random() - 0.5);
  const ids = await archive.database.query('SELECT id::text FROM archive_passages ORDER BY id');
  for (let first = 0; first < ids.length; first += 500) {
    const some = ids.slice(first, first + 500).map(({ id }) => id);
    await archive.database.query(
      `INSERT INTO archive_vectors SELECT id, 'random', vector FROM unnest($1::bigint[], $2::bytea[]) AS v(id, vector)`,
      [some, some.map(() => bytesOf(vector()))],
    );
  }
  const model = { key: 'random', embed: async () => vector() };
  const times = [];
  for (const { question } of questions) {
    const began = performance.now();
    await withMeaning(archive, model, question, [], { limit: 24 });
    times.push(performance.now() - began);
  }
  const [first, ...others] = times;
  others.sort((a, b) => a - b);
  console.log(
    `${ids.length} vectors of ${size} numbers: the first question takes ${first.toFixed(0)} ms, which reads them; the others ${others[others.length >> 1].toFixed(0)} ms in the median, ${others[Math.floor(0.95 * others.length)].toFixed(0)} ms at most for 95 %`,
  );
}
