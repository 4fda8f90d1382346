/**
 * Archives as a whole: documents are read once and found, changed files are read again, unreadable ones are reported, and interrupted work is
 * continued. On PGlite, and on a PostgreSQL server of the tests' own if one is installed.
 */
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Ajv2020 as Ajv } from 'ajv/dist/2020.js';
import { decode } from 'fast-png';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type AnswerRequest,
  Archive,
  type ArchiveModel,
  type AskEvent,
  ask,
  LocalModel,
  readWithModel,
  scan,
  search,
  work,
} from '../src/archive/index.js';
import { docx, pdf } from '../src/archive/testing/documents.js';
import { VectorCache } from '../src/archive/vector-cache.js';
import { ArchiveUnavailableError } from '../src/errors.js';
import { loadModel } from '../src/generate/index.js';
import { hybridModel, writeModel } from '../src/models/index.js';
import { tinyConfig, tinyWeights } from '../src/models/testing/tiny.js';
import { lockFolder } from '../src/platform/node/lock.js';
import { CHATML } from '../src/text/testing/chat-templates.js';
import { tinyTokenizer } from '../src/text/testing/tiny.js';
import {
  ChatCompletionsModel,
  type PromptPassage,
  serveChatCompletions,
} from './testing/chat-completions.js';
import { build, heddle } from './testing/heddle.js';
import { hasPostgres, startPostgres } from './testing/postgres.js';
import { serve, writeTinyModel } from './testing/server.js';

interface OpenApi {
  paths: Record<
    string,
    Record<string, { responses: Record<string, { content: Record<string, { schema: object }> }> }>
  >;
  components: object;
}

/** Whether the disk is played to be full. */
const disk = vi.hoisted(() => ({ full: false, free: 1e6 }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  return {
    ...real,
    statfs: async (path: string) => (disk.full ? { bavail: 1, bsize: disk.free } : real.statfs(path)),
  };
});

const root = mkdtempSync(join(tmpdir(), 'heddle-archive-'));
const program = pathToFileURL(fileURLToPath(new URL('../dist/archive/page-process.js', import.meta.url)));

beforeAll(build);
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** A PDF of pages with these lines. */
function pages(...texts: readonly (readonly string[])[]): Buffer {
  return pdf(texts.map((lines) => ({ texts: lines.map((text, i) => ({ text, x: 60, y: 700 - 14 * i })) })));
}

const HERON = pages(
  ['The grey heron waits in shallow water.'],
  ['It eats fish, frogs and now and then a vole.'],
);

/** A model that says nothing, has this vector for each text, and a token for each four bytes. */
class Scripted implements ArchiveModel {
  readonly name = 'scripted';
  readonly instructs = true;
  readonly asked: AnswerRequest[] = [];
  constructor(
    private readonly vector: readonly number[],
    readonly context = 4000,
    readonly key = 'scripted',
  ) {}
  async count(prompts: Parameters<ArchiveModel['count']>[0]): Promise<number[]> {
    return prompts.map((prompt) => Math.ceil(Buffer.byteLength(JSON.stringify(prompt)) / 4));
  }
  async embed(): Promise<Float32Array> {
    return Float32Array.from(this.vector);
  }
  async *answer(request: AnswerRequest): AsyncGenerator<string, void> {
    this.asked.push(request);
    yield 'So it is [1].';
  }
}

async function eventsOf(events: AsyncGenerator<AskEvent>): Promise<AskEvent[]> {
  const all: AskEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** What was found for a question. */
async function hitsOf(events: AsyncGenerator<AskEvent>): Promise<string[]> {
  const [sources] = await eventsOf(events);
  return sources!.kind === 'sources' ? sources!.hits.map(({ name, page }) => `${name} ${page}`) : [];
}

const STORES = ['PGlite', ...(hasPostgres ? ['PostgreSQL'] : ['PostgreSQL (skipped: none is installed)'])];

test('Ctrl-C ends the wait for an archive in use, and a wrong path creates no archive', async () => {
  const place = join(root, 'in-use');
  const file = join(root, 'heron.txt');
  writeFileSync(file, 'herons');
  await (await Archive.open({ place, create: true })).close();
  // A process that does not lend it, such as one that is about to open it.
  const unlock = await lockFolder(place, place, 'uses it');
  try {
    for (const command of [['add', file], ['work'], ['ask', 'herons']]) {
      const waited = await heddle(['archive', ...command, '--archive', place], (stderr, child) => {
        if (stderr.includes('waiting')) child.kill('SIGINT');
      });
      expect(waited).toMatchObject({ code: 130, stdout: '' });
      expect(waited.stderr).toMatch(/^heddle: another process uses .*\n$/);
    }
  } finally {
    await unlock();
  }
  const none = join(root, 'no-archive');
  const wrong = await heddle(['archive', 'add', file, join(root, 'nope'), '--archive', none]);
  expect([wrong.code, existsSync(none)]).toEqual([1, false]);
  expect(wrong.stderr).toMatch(/^heddle: there is no file or folder .*nope: nothing was added\n$/);
});

test('the command reads, reports problems, searches and exports, and continues after it was killed', async () => {
  const folder = join(root, 'command');
  mkdirSync(folder);
  writeFileSync(join(folder, 'heron.pdf'), HERON);
  writeFileSync(join(folder, 'wrong.pdf'), 'no PDF');
  const place = join(root, 'by-command');
  const first = spawn(
    process.execPath,
    [
      fileURLToPath(new URL('../dist/cli/main.js', import.meta.url)),
      'archive',
      'add',
      folder,
      '--archive',
      place,
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((resolve) => first.on('exit', resolve));
  // Somewhere between making the database and its end.
  while (!existsSync(place)) await new Promise((resolve) => setTimeout(resolve, 20));
  await new Promise((resolve) => setTimeout(resolve, 300));
  first.kill('SIGKILL');
  await ended;
  const added = await heddle(['archive', 'add', folder, '--archive', place, '--lanes', '1']);
  expect(added.code).toBe(1);
  expect(added.stderr).toContain(`${join(folder, 'wrong.pdf')}: it is no PDF`);
  expect(added.stderr).toMatch(
    /1 document could not be read; this tries again: .*archive work --retry --archive/,
  );
  const out = join(root, 'pages.jsonl');
  expect((await heddle(['archive', 'export', '--archive', place, '--out', out])).code).toBe(0);
  const lines = readFileSync(out, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { name: string; page: number | null; state: string });
  expect(lines.map(({ name, page, state }) => `${name} ${page} ${state}`).sort()).toEqual([
    'heron.pdf 1 read',
    'heron.pdf 2 read',
    'wrong.pdf null failed',
  ]);
});

describe.each(STORES)('on %s', (store) => {
  const there = store === 'PGlite' || hasPostgres;
  let postgres: Awaited<ReturnType<typeof startPostgres>> | undefined;
  let archive: Archive;
  let place: string;
  let folder: string;

  beforeAll(async () => {
    if (!there) return;
    if (store === 'PGlite') {
      place = join(root, 'archive');
      // Making a database takes long: a copy of the one that the command has made is one, too.
      const made = join(root, 'by-command', 'database');
      if (existsSync(made)) cpSync(made, join(place, 'database'), { recursive: true });
    } else {
      postgres = await startPostgres();
      place = postgres.url;
    }
    archive = await Archive.open({ place, states: join(root, `states-${store}`), create: true });
    await archive.database.query(
      'TRUNCATE archive_roots, archive_files, archive_uploads, archive_documents, archive_stretches, archive_pages, archive_passages, archive_readings, archive_vectors, archive_orphans',
    );
  });
  afterAll(async () => {
    await archive?.close();
    await postgres?.stop();
  });
  beforeEach(() => {
    disk.full = false;
    folder = mkdtempSync(join(root, 'documents-'));
  });

  async function add(options: Parameters<typeof work>[1] = {}) {
    await archive.addRoot(folder);
    const outcome = await scan(archive, folder);
    await work(archive, { lanes: 1, ...options, reader: { program, ...options.reader } });
    return outcome;
  }
  const put = (name: string, bytes: Buffer | string): void => writeFileSync(join(folder, name), bytes);
  const found = async (words: string) =>
    (await search(archive, words)).hits.map(({ name, page }) => `${name} ${page}`);

  test.runIf(there)(
    'a content is read under the name of the copy that fits its format, also if that copy is added later',
    async () => {
      const text = '# Waders\n\nThe curlew probes the mud.';
      put('early.docx', text);
      expect((await add()).added).toBe(1);
      expect(await found('curlews')).toEqual([]);
      put('later.md', text);
      expect((await add()).added).toBe(1);
      expect(await found('curlews')).toHaveLength(1);
      const other = 'The sanderling runs along the tide.';
      put('a.pdf', other);
      put('b.txt', other);
      put('c.pdf', other);
      const { added, known } = await add();
      expect([added, known]).toEqual([1, 4]);
      expect(await found('sanderlings')).toHaveLength(1);
    },
  );

  test.runIf(there)('documents of all formats are read and found, each content once', async () => {
    put('heron.pdf', HERON);
    mkdirSync(join(folder, 'again'));
    put('again/copy.pdf', HERON);
    put('kites.md', '# Kites\n\nThe red kite has a forked tail.');
    put('line\nbreak.txt', 'A bittern booms in the reeds.');
    put('gulls.html', '<h1>Gulls</h1><p>They follow the plough.');
    put('owls.docx', await docx('<w:p><w:r><w:t>Owls fly without a sound.</w:t></w:r></w:p>'));
    put('picture.png', 'no text');
    symlinkSync(folder, join(folder, 'again', 'loop'));
    symlinkSync('self', join(folder, 'self.pdf'));
    const { added, known, leftOut, problems } = await add();
    expect([added, known]).toEqual([5, 1]);
    expect(leftOut).toEqual([join(folder, 'picture.png')]);
    expect(problems).toEqual([{ path: join(folder, 'self.pdf'), why: expect.stringMatching(/link/) }]);
    expect(await found('grey herons')).toEqual([expect.stringMatching(/(heron|copy)\.pdf 1/)]);
    expect(await found('frog')).toEqual([expect.stringMatching(/(heron|copy)\.pdf 2/)]);
    expect(await found('forked tails')).toEqual(['kites.md 1']);
    expect(await found('booming bittern')).toEqual(['line\nbreak.txt 1']);
    expect(await found('plough')).toEqual(['gulls.html 1']);
    expect(await found('silent owls')).toEqual(['owls.docx 1']);
    const { hits, missing } = await search(archive, 'heron xylophone');
    expect(missing).toEqual(['xylophone']);
    const [left, top, right, bottom] = hits[0]!.boxes[0]!;
    expect([left, top, right, bottom].map(Math.round)).toEqual([
      60,
      expect.any(Number),
      expect.any(Number),
      expect.any(Number),
    ]);
    expect(top).toBeGreaterThan(80);
    expect(bottom).toBeLessThan(110);
    expect(right).toBeLessThan(260);
    expect((await archive.totals()).left).toBe(0);
  });

  test.runIf(there)('changed files are read again, and deleted ones are not found', async () => {
    put('a.txt', 'The first form mentions an aardvark.');
    put('b.txt', 'This one stays and mentions a badger.');
    await add();
    const [document] = (await archive.documents()).filter(({ name }) => name === 'a.txt');
    await archive.database.query(
      `INSERT INTO archive_readings (content, model, state, record) VALUES ($1, 'some', 'read', 'state-${'0'.repeat(24)}')`,
      [document!.content],
    );
    put('a.txt', 'The second form mentions an axolotl.');
    expect(await add()).toMatchObject({ added: 1, known: 1 });
    expect(await found('aardvark')).toEqual([]);
    expect(await found('axolotl')).toEqual(['a.txt 1']);
    rmSync(join(folder, 'a.txt'));
    expect(await add()).toMatchObject({ added: 0, known: 1, gone: 1 });
    expect(await found('axolotl')).toEqual([]);
    expect(await found('badger')).toEqual(['b.txt 1']);
    expect(await archive.database.query('SELECT * FROM archive_orphans')).toEqual([]);
  });

  test.runIf(there)('unreadable files are reported with the reason, and the others are read', async () => {
    put('empty.pdf', '');
    put('wrong.pdf', 'this is no PDF');
    put('noise.pdf', '%PDF-1.4 and then nothing that is one');
    put('good.pdf', HERON);
    const failed: string[] = [];
    await add({ onFailed: (path, why) => failed.push(`${path.slice(folder.length + 1)}: ${why}`) });
    expect(failed.sort()).toEqual([
      'empty.pdf: it is empty',
      expect.stringMatching(/^noise.pdf: .*damaged/),
      'wrong.pdf: it is no PDF: it does not begin as one',
    ]);
    const problems = (await archive.problems()).filter(({ path }) => path.startsWith(folder));
    expect(problems.map(({ path, state }) => [path.slice(folder.length + 1), state])).toEqual([
      ['empty.pdf', 'failed'],
      ['noise.pdf', 'failed'],
      ['wrong.pdf', 'failed'],
    ]);
    expect((await archive.document(join(folder, 'good.pdf'))).counts).toEqual({ read: 2 });
  });

  test.runIf(there)('a page that crashes its process has failed; its neighbours are read', async () => {
    put(
      'many.pdf',
      pages(...Array.from({ length: 5 }, (_, i) => [`Page ${'ABCDE'[i]} has its own words here.`])),
    );
    // A process that ends when it reaches the third page.
    const ending = join(folder, 'ending.mjs');
    writeFileSync(
      ending,
      `const say = process.send.bind(process);
       process.send = (message, ...more) => { if (message.kind === 'page' && message.number === 3) process.exit(3); return say(message, ...more); };
       await import(${JSON.stringify(program.href)});`,
    );
    await add({ reader: { program: pathToFileURL(ending) } });
    const { content, counts, state } = await archive.document(join(folder, 'many.pdf'));
    expect([state, counts]).toEqual(['read', { read: 4, failed: 1 }]);
    const third = (await archive.pages(content))[2];
    expect(third).toMatchObject({ page: 3, state: 'failed', text: '' });
    expect(third!.why).toBe('the process that read it ended with 3');
    const record = `state-${'2'.repeat(24)}`;
    await archive.database.query(
      `INSERT INTO archive_readings (content, model, state, page, tokens, record, attempts) VALUES ($1, 'some', 'read', 5, 99, $2, 1)`,
      [content, record],
    );
    const again = await Promise.all([1, 2].map(() => archive.queue.retry(['failed'], content)));
    expect(again.map(({ pages }) => pages).sort()).toEqual([0, 1]);
    expect((await archive.document(content)).state).toBe('reading');
    await work(archive, { lanes: 1, reader: { program } });
    expect((await archive.document(content)).counts).toEqual({ read: 5 });
    // What a model has read lacked that page: it reads the document again.
    const reading = { model: 'some', state: 'waiting', why: null, tokens: 0, page: 0, record: null };
    expect((await archive.document(content)).readings).toEqual([reading]);
    expect(await archive.database.query('SELECT record FROM archive_orphans')).toEqual([{ record }]);
  });

  test.runIf(store === 'PGlite')('a full disk is reported, and earlier data is kept', async () => {
    put('before.txt', 'A text about an avocet.');
    await add();
    put('behind.txt', 'A text about a stilt.');
    disk.full = true;
    const refused = add();
    await expect(refused).rejects.toThrow(
      /the disk of .*archive is full: 1 MB are free.*What was done before is kept/,
    );
    await expect(refused).rejects.toBeInstanceOf(ArchiveUnavailableError);
    expect(await found('avocet')).toEqual(['before.txt 1']);
    // What is nearly full lets nobody write, and everybody read.
    disk.free = 30e6;
    await archive.close();
    archive = await Archive.open({ place, states: join(root, `states-${store}`) });
    expect(await found('avocet')).toEqual(['before.txt 1']);
    await expect(add()).rejects.toThrow(/30 MB are free, and 64 are needed/);
    disk.full = false;
    await add();
    expect(await found('stilt')).toEqual(['behind.txt 1']);
  });

  test.runIf(there)('failed pages are read again on request', async () => {
    put('later.txt', 'This is about a lapwing.');
    await archive.addRoot(folder);
    await scan(archive, folder);
    const stretch = await archive.queue.claim();
    await archive.queue.fail(stretch!, undefined, 'EIO: i/o error, read');
    await work(archive, { lanes: 1, reader: { program } });
    expect(await found('lapwing')).toEqual([]);
    const { content } = await archive.document(join(folder, 'later.txt'));
    expect(await archive.queue.retry(['scanned'], content)).toEqual({ documents: 0, pages: 0 });
    expect(await archive.queue.retry(['failed'], content)).toEqual({ documents: 1, pages: 0 });
    await work(archive, { lanes: 1, reader: { program } });
    expect(await found('lapwing')).toEqual(['later.txt 1']);
    expect(await archive.document(content)).toMatchObject({ state: 'read', why: null });
  });

  test.runIf(there)('two processes add the same files, and a file is deleted while it is read', async () => {
    for (const bird of ['dunlin', 'godwit', 'knot']) put(`${bird}.txt`, `This text is about a ${bird}.`);
    put('gone.txt', 'This text is about a phalarope.\fAnd so is this page.');
    const both = await Promise.all([
      add({ onPage: ({ path }) => vanish(path) }),
      add({ onPage: ({ path }) => vanish(path) }),
    ]);
    function vanish(path: string): void {
      if (path.endsWith('gone.txt')) rmSync(path, { force: true });
    }
    expect(both.reduce((sum, { added }) => sum + added, 0)).toBe(4);
    expect(await found('phalarope')).toEqual([]);
    for (const bird of ['dunlin', 'godwit', 'knot']) expect(await found(bird)).toEqual([`${bird}.txt 1`]);
    const names = (await archive.documents()).map(({ name }) => name);
    expect(names).not.toContain('gone.txt');
    expect((await archive.totals()).left).toBe(0);
  });

  test.runIf(there)('words are found in scripts without spaces', async () => {
    put('heron.md', '# 鳥\n\n浅水中，苍鹭捕食青蛙。');
    put('kite.txt', '浅い水辺でカエルを食べるアオサギがいる。');
    await add();
    expect(await found('青蛙')).toEqual(['heron.md 1']);
    expect(await found('苍鹭吃什么？')).toEqual(['heron.md 1']);
    expect(await found('カエル')).toEqual(['kite.txt 1']);
    expect((await search(archive, '苍鹭 潜艇')).missing).toEqual(['潜艇']);
    expect(await found('苍\0鹭 \ud800')).toEqual(expect.any(Array));
    await expect(archive.document('a\0b')).rejects.toThrow(/no document/);
  });

  test.runIf(there)('words and names are the same however their letters are encoded', async () => {
    put('reso\u0301n.txt', 'The \ufb01nch sings in the cafe\u0301. \uff26\uff41\uff4c\uff43\uff4f\uff4e.');
    await add();
    for (const word of ['finch', 'café', 'cafe\u0301', 'falcon', '\ufb01nch'])
      expect(await found(word)).toEqual(['reso\u0301n.txt 1']);
    for (const name of ['resón.txt', 'reso\u0301n.txt', join(folder, 'resón.txt')])
      expect((await archive.document(name)).name).toBe('reso\u0301n.txt');
  });

  test.runIf(there)(
    'a question in other words is answered from embeddings, although some passages have none',
    async () => {
      put(
        'coast.txt',
        'Plovers run along the beach.\fTerns dive for sand eels.\fA lighthouse stands on the rock.',
      );
      await add();
      const coast = await archive.document(join(folder, 'coast.txt'));
      const { content } = coast;
      const passages = await archive.database.query<{ id: string; page: number }>(
        'SELECT id::text, page FROM archive_passages WHERE content = $1 ORDER BY page',
        [content],
      );
      const vectors = [undefined, [0, 1, 0], [0.1, 0.9, 0]];
      for (const [i, vector] of vectors.entries()) {
        if (!vector) continue;
        await archive.database.query('INSERT INTO archive_vectors VALUES ($1::bigint, $2, $3)', [
          passages[i]!.id,
          'with vectors',
          new Uint8Array(Float32Array.from(vector).buffer),
        ]);
      }
      const asked = (vector: number[], question: string, more: object = {}) =>
        hitsOf(
          ask(archive, new Scripted(vector, 4000, 'with vectors'), {
            text: question,
            passages: 2,
            documents: [coast],
            ...more,
          }),
        );
      expect(await asked([0, 1, 0], 'Which birds catch fish?')).toEqual(['coast.txt 2', 'coast.txt 3']);
      // Words and vectors agree, and what has no vector is found by its words.
      expect(await asked([0.2, 0.8, 0], 'plovers and terns')).toContain('coast.txt 1');
      expect((await asked([0, 0.8, 0], 'terns'))[0]).toBe('coast.txt 2');
      // What was kept of the vectors follows the database.
      await archive.database.query('DELETE FROM archive_vectors WHERE passage = $1::bigint', [
        passages[1]!.id,
      ]);
      expect((await asked([0, 1, 0], 'Which birds catch fish?'))[0]).toBe('coast.txt 3');
      await archive.database.query('INSERT INTO archive_vectors VALUES ($1::bigint, $2, $3)', [
        passages[0]!.id,
        'with vectors',
        new Uint8Array(Float32Array.from([0, 2, 0]).buffer),
      ]);
      expect((await asked([0, 1, 0], 'Which birds catch fish?'))[0]).toBe('coast.txt 1');
      // Where there are too many to be kept, all are read in their order all the same.
      const many = Array.from({ length: 2100 }, (_, i) => i + 1);
      await archive.database.query(
        `INSERT INTO archive_passages (id, content, page, part, text, heading, boxes, words)
         SELECT id + 9000000, $1, 1, id, '', '', '[]', '' FROM unnest($2::int[]) AS id`,
        [content, many],
      );
      await archive.database.query(
        `INSERT INTO archive_vectors SELECT id + 9000000, 'many', $1 FROM unnest($2::int[]) AS id`,
        [new Uint8Array(Float32Array.from([1]).buffer), many],
      );
      for (const limit of [1, 1e9]) {
        const seen: string[] = [];
        for await (const some of (await new VectorCache(archive, 'many', limit).vectors())!)
          for (const [passage, vector] of some) if (vector[0] === 1) seen.push(passage);
        expect(seen).toEqual(many.map((id) => String(id + 9_000_000)));
      }
      await archive.database.query('DELETE FROM archive_passages WHERE id > 9000000');
      const other = (await archive.documents()).find((document) => document.content !== content)!;
      expect(await asked([0, 1, 0], 'Which birds catch fish?', { documents: [other] })).not.toContain(
        'coast.txt 2',
      );
    },
  );

  test.runIf(there)(
    'citations of a model behind an endpoint name the right page, or are marked as invalid',
    async () => {
      put('ducks.pdf', pages(['The pochard dives for stonewort.'], ['A gadwall robs coots of their weed.']));
      put(
        'larks.txt',
        'The woodlark sings at night.\fA skylark climbs while it sings.\fThe crested lark runs.',
      );
      await add();
      const documents = await Promise.all(
        ['ducks.pdf', 'larks.txt'].map((name) => archive.document(join(folder, name))),
      );
      /** It finds the passage that has the question's last word, and cites it as some model would. */
      const cites =
        (mark: (passage: PromptPassage) => string) => (question: string, given: readonly PromptPassage[]) => {
          const word = /(\w+)\?$/.exec(question)![1]!;
          const passage = given.find(({ text }) => text.includes(word))!;
          return `${passage.text} ${mark(passage)} That is all.`;
        };
      let answer = cites(({ number }) => `[${number}].`);
      const { url, server } = await serveChatCompletions((...asked) => answer(...asked));
      const end = async (text: string) => {
        const events = await eventsOf(ask(archive, new ChatCompletionsModel(url), { text, documents }));
        const last = events.at(-1)!;
        if (last.kind !== 'end') throw new Error(`the last event is ${last.kind}`);
        const citations = last.citations.map(
          ({ path, page, supported }) => `${path.slice(folder.length + 1)} ${page} ${supported}`,
        );
        return { citations, unknown: last.unknown };
      };
      try {
        for (const mark of [
          ({ number }: PromptPassage) => `[${number}].`,
          ({ number }: PromptPassage) => `\u3010${number}\u3011.`,
          ({ number }: PromptPassage) => `[Passage ${number}].`,
          ({ number, page }: PromptPassage) => `[${number}, page ${page}].`,
          ({ page }: PromptPassage) => `(p. ${page}).`,
        ]) {
          answer = cites(mark);
          for (const [question, right] of [
            ['Which duck dives for stonewort?', 'ducks.pdf 1 true'],
            ['Whose weed goes to a gadwall, of all coots?', 'ducks.pdf 2 true'],
            ['Which lark sings at night?', 'larks.txt 1 true'],
            ['What does a skylark do while it climbs?', 'larks.txt 2 true'],
          ] as const) {
            expect(await end(question), `${question} ${mark}`).toEqual({ citations: [right], unknown: [] });
          }
        }
        // Of what it was not given nothing is cited, however it is named; what is on another page than it says is doubted.
        answer = () => 'Wagtails count the stars [99]. They sleep [page 40]. Herring migrate in autumn [1].';
        const invented = await end('Which lark sings at night?');
        expect(invented.unknown).toEqual(['[99]', '[page 40]']);
        expect(invented.citations).toEqual([expect.stringMatching(/^larks\.txt 1 false$/)]);
      } finally {
        server.close();
      }
    },
  );

  test.runIf(there)(
    'without a named document, the state of the one with most hits is used; named documents are given whole',
    async () => {
      put('one.txt', 'The smew is a small duck.\fA smew dives.\fSmews winter here.');
      put('two.txt', 'A smew was seen once.');
      put('long.txt', 'Nothing but words about a garganey. '.repeat(140));
      await add();
      const [one, two, long] = await Promise.all(
        ['one.txt', 'two.txt', 'long.txt'].map((name) => archive.document(join(folder, name))),
      );
      const record = `state-${'3'.repeat(24)}`;
      await archive.database.query(
        `INSERT INTO archive_readings (content, model, state, page, record) VALUES ($1, 'scripted', 'read', 3, $2)`,
        [one!.content, record],
      );
      const model = new Scripted([1]);
      const events = await eventsOf(ask(archive, model, { text: 'smew', from: 'both', passages: 4 }));
      expect(events[0]).toMatchObject({ kind: 'sources', state: { name: 'one.txt' } });
      expect(model.asked[0]!.state).toBe(record);
      await expect(eventsOf(ask(archive, model, { text: 'zzzz', from: 'both' }))).rejects.toThrow(
        /nothing was found/,
      );
      const whole = await eventsOf(
        ask(archive, new Scripted([1], 1200), {
          text: 'smew',
          from: 'documents',
          documents: [long!, two!, one!],
        }),
      );
      const [sources, notice] = whole as [Extract<AskEvent, { kind: 'sources' }>, { text: string }];
      expect(sources.whole!.map(({ name }) => name)).toEqual(['two.txt', 'one.txt']);
      expect(sources.hits.slice(0, 4).map(({ name, page }) => `${name} ${page}`)).toEqual([
        'two.txt 1',
        'one.txt 1',
        'one.txt 2',
        'one.txt 3',
      ]);
      expect(notice.text).toMatch(
        /2 of 3 documents as a whole.*two.txt, one.txt; of long.txt it is given passages/,
      );
      const tight = await eventsOf(ask(archive, new Scripted([1], 80), { text: 'smew' }));
      expect(tight[1]).toMatchObject({ text: expect.stringMatching(/room for none of these \d+ passages/) });
      expect(tight.at(-1)).toEqual({ kind: 'end', citations: [], unknown: [] });
    },
  );

  test.runIf(there)(
    'work that was stopped, or whose worker is gone, is continued, and nothing is stored twice',
    async () => {
      put(
        'long.pdf',
        pages(
          ...Array.from({ length: 150 }, (_, i) => [
            `This is page ${i + 1} of the long one, with the word w${i + 1}w.`,
          ]),
        ),
      );
      await archive.addRoot(folder);
      await scan(archive, folder);
      const stop = new AbortController();
      let seen = 0;
      await work(archive, {
        lanes: 1,
        reader: { program },
        signal: stop.signal,
        onPage: () => ++seen === 70 && stop.abort(),
      });
      const { content } = await archive.document(join(folder, 'long.pdf'));
      const before = await archive.pages(content);
      expect(before.length).toBeGreaterThan(0);
      expect(before.length).toBeLessThan(150);
      // One that was killed leaves its claim behind, until the lease is over.
      const lost = await archive.queue.claim();
      await archive.database.query(
        `UPDATE archive_stretches SET worker = 'gone', until = now() - interval '1 s' WHERE id = $1`,
        [lost!.id],
      );
      // Whoever comes back after that writes nothing.
      await Promise.all([1, 2].map(() => work(archive, { lanes: 1, reader: { program } })));
      await expect(archive.queue.finish(lost!, [])).rejects.toThrow();
      const all = await archive.pages(content);
      expect(all.map(({ page }) => page)).toEqual(Array.from({ length: 150 }, (_, i) => i + 1));
      expect(await found('w149w')).toEqual(['long.pdf 149']);
      expect((await archive.document(content)).state).toBe('read');
    },
  );

  test.runIf(there)('a transaction that is repeated after a lost answer is stored once', async () => {
    put('many.txt', Array.from({ length: 150 }, (_, i) => `Here stands the word z${i + 1}z.`).join('\f'));
    const { database } = archive;
    const once = database.transaction.bind(database);
    database.transaction = async (write) => {
      await once(write);
      return once(write);
    };
    try {
      await add();
    } finally {
      database.transaction = once;
    }
    const { content, state } = await archive.document(join(folder, 'many.txt'));
    const all = await archive.pages(content);
    expect([state, ...all.map(({ page }) => page)]).toEqual([
      'read',
      ...Array.from({ length: 150 }, (_, i) => i + 1),
    ]);
    expect(await found('z149z')).toEqual(['many.txt 149']);
  });

  test.runIf(there)("a queue row is free again when its worker's heartbeat has expired", async () => {
    put('held.txt', 'A text that somebody reads.');
    put('lost.txt', 'A text whose reader never heard that it has it.');
    await archive.addRoot(folder);
    await scan(archive, folder);
    const [held, lost] = [await archive.queue.claim(), await archive.queue.claim()];
    expect(await archive.queue.claim()).toBeUndefined();
    await archive.database.query(`UPDATE archive_stretches SET until = now() - interval '1 s'`);
    await archive.queue.renew([held!.id]);
    expect(await archive.queue.claim()).toMatchObject({ id: lost!.id, attempts: 2 });
    expect(await archive.queue.claim()).toBeUndefined();
    await archive.queue.release();
    await work(archive, { lanes: 1, reader: { program } });
    expect(await found('somebody reads')).toEqual(['held.txt 1']);
    expect((await archive.totals()).left).toBe(0);
  });

  test.runIf(there)(
    'a model reads documents into states; without a chat template it writes no answer, and says so',
    async () => {
      // It reads all that there is.
      await archive.database.query('TRUNCATE archive_files, archive_documents CASCADE');
      put('short.txt', 'A hare sits in the field. It listens, and is gone at once.');
      await add();
      const modelFolder = join(root, `model-${store}`);
      mkdirSync(modelFolder);
      const layers = hybridModel(tinyConfig());
      await writeModel(modelFolder, layers, tinyWeights(layers, 1));
      await tinyTokenizer.save(modelFolder);
      const model = await loadModel(modelFolder, { threads: 1 });
      await readWithModel(archive, model, { name: 'tiny', batch: 3, vectors: true });
      const document = await archive.document(join(folder, 'short.txt'));
      expect(document.readings).toMatchObject([{ state: 'read', page: 1, why: null }]);
      const { tokens, record } = document.readings[0]!;
      const { snapshot } = await archive.library.load('archive', record!, model);
      expect(snapshot.length).toBe(tokens);
      // The state is that of the text read in one go.
      const session = model.session();
      const text = await archive.pages(document.content);
      await session.read(`short.txt\n\n[page 1]\n${text[0]!.text}\n\n`);
      expect(session.tokens).toEqual(snapshot.tokens);
      const whole = await session.snapshot();
      expect(snapshot.logits!.every((value, i) => Math.abs(value - whole.logits![i]!) < 1e-4)).toBe(true);
      for (const each of [snapshot, whole, session]) each.dispose();
      const events: AskEvent[] = [];
      const local = await LocalModel.of(modelFolder, archive, model);
      for await (const event of ask(archive, local, {
        text: 'Where does the hare sit?',
        documents: [document],
      }))
        events.push(event);
      expect(events.map(({ kind }) => kind)).toEqual(['sources', 'notice', 'end']);
      expect(events[0]).toMatchObject({ hits: [{ name: 'short.txt', page: 1 }] });
      expect(events[1]).toMatchObject({ text: expect.stringContaining('no chat template') });
      await model.dispose();
    },
  );
});

test('a server lists the archive, renders its pages, and answers from a state', async () => {
  const place = join(root, 'by-command');
  const modelFolder = join(root, 'model-with-template');
  await writeTinyModel(modelFolder, { template: CHATML });
  const archive = await Archive.open({ place });
  const model = await loadModel(modelFolder, { threads: 1 });
  await readWithModel(archive, model, { name: 'tiny' });
  await model.dispose();
  await archive.close();
  const server = await serve([
    modelFolder,
    '--archive',
    place,
    '--threads',
    '1',
    '--data',
    join(root, 'data'),
  ]);
  try {
    const get = (path: string): Promise<Response> => fetch(`${server.url}/v1/archive${path}`);
    expect(await (await get('')).json()).toMatchObject({
      documents: { read: 1, failed: 1 },
      pages: { read: 2 },
      left: 0,
    });
    const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as OpenApi;
    const ajv = new Ajv({ strict: false });
    /** Throws unless an answer is as the document says. */
    const holds = (path: string, value: unknown, method = 'get', type = 'application/json'): void => {
      const { schema } = document.paths[`/v1/archive${path}`]![method]!.responses[200]!.content[type]!;
      const validate = ajv.compile({ ...schema, components: document.components });
      expect([path, validate(value), validate.errors]).toEqual([path, true, null]);
    };
    const found = (await (await get('/search?q=frogs')).json()) as {
      data: { content: string; page: number }[];
    };
    const { data } = found;
    expect(data).toMatchObject([{ page: 2 }]);
    holds('/search', found);
    holds('', await (await get('')).json());
    holds('/problems', await (await get('/problems')).json());
    holds('/documents', await (await get('/documents')).json());
    holds('/documents/{id}', await (await get(`/documents/${data[0]!.content}`)).json());
    holds('/documents/{id}/pages/{page}', await (await get(`/documents/${data[0]!.content}/pages/2`)).json());
    const image = await get(`/documents/${data[0]!.content}/pages/2/image?scale=0.5`);
    expect(image.headers.get('content-type')).toBe('image/png');
    expect(decode(await image.arrayBuffer())).toMatchObject({ width: 300, height: 400 });
    const nowhere = [
      '/documents/none',
      '/documents/none/pages/1',
      '/documents/none/pages/1/image',
      '/search?q=x&in=none',
    ];
    const refused = await Promise.all([
      ...nowhere.map(get),
      fetch(`${server.url}/v1/archive/ask`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ question: 'What?', documents: ['heron.pdf', 'none'] }),
      }),
    ]);
    for (const answer of refused) {
      expect(answer.status).toBe(404);
      expect(await answer.json()).toMatchObject({ error: { code: 'document_not_found' } });
    }
    expect((await get(`/documents/${data[0]!.content}/pages/9`)).status).toBe(404);
    /** The events of an answer, each as the document says. */
    const asked = async (question: object) => {
      const answer = await fetch(`${server.url}/v1/archive/ask`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ question: 'What does it eat?', max_tokens: 5, ...question }),
      });
      const events = (await answer.text())
        .split('\n\n')
        .filter((line) => line.startsWith('data: {'))
        .map((line) => JSON.parse(line.slice(6)) as { kind: string; state?: { name: string } });
      for (const event of events) holds('/ask', event, 'post', 'text/event-stream');
      return events;
    };
    const events = await asked({ documents: ['heron.pdf'], from: 'both' });
    expect(events[0]).toMatchObject({ kind: 'sources', state: { name: 'heron.pdf' } });
    expect(events.at(-1)!.kind).toBe('end');
    // The status is out before it is known that no document is named whose state is meant.
    expect(await asked({ from: 'state' })).toMatchObject([
      { kind: 'error', error: { message: expect.stringContaining('in which document') } },
    ]);
  } finally {
    await server.stop();
  }
});
