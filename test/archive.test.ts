/**
 * Archives as a whole: documents are read once and found, what changes is read anew, what cannot be read says why, and what ends in the middle
 * is gone on with. On PGlite, and on the PostgreSQL that HEDDLE_TEST_POSTGRES names (postgres://user@host/database), whose tables it empties.
 */
import { spawn } from 'node:child_process';
import {
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
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  Archive,
  type AskEvent,
  ask,
  LocalModel,
  readWithModel,
  scan,
  search,
  work,
} from '../src/archive/index.js';
import { docx, pdf } from '../src/archive/testing/documents.js';
import { loadModel } from '../src/generate/index.js';
import { hybridModel, writeModel } from '../src/models/index.js';
import { tinyConfig, tinyWeights } from '../src/models/testing/tiny.js';
import { CHATML } from '../src/text/testing/chat-templates.js';
import { tinyTokenizer } from '../src/text/testing/tiny.js';
import { build, heddle } from './testing/heddle.js';
import { serve, writeTinyModel } from './testing/server.js';

interface OpenApi {
  paths: Record<
    string,
    Record<string, { responses: Record<string, { content: Record<string, { schema: object }> }> }>
  >;
  components: object;
}

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

const STORES = [
  ['PGlite', () => join(root, 'archive')],
  ['PostgreSQL', () => process.env.HEDDLE_TEST_POSTGRES!],
] as const;

describe.each(STORES)('on %s', (store, placeOf) => {
  const there = store === 'PGlite' || process.env.HEDDLE_TEST_POSTGRES !== undefined;
  let archive: Archive;
  let folder: string;

  beforeAll(async () => {
    if (!there) return;
    archive = await Archive.open({ place: placeOf(), states: join(root, `states-${store}`), create: true });
    await archive.database.query(
      'TRUNCATE archive_roots, archive_files, archive_documents, archive_stretches, archive_pages, archive_passages, archive_readings, archive_vectors, archive_orphans',
    );
  });
  afterAll(() => archive?.close());
  beforeEach(() => {
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

  test.runIf(there)('documents of all kinds are read and found, each content once', async () => {
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

  test.runIf(there)('what has changed is read anew, and what is gone is found no more', async () => {
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

  test.runIf(there)('what cannot be read says why, and the rest goes on', async () => {
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

  test.runIf(there)('a page that takes too much is one that failed; those around it are read', async () => {
    put(
      'many.pdf',
      pages(...Array.from({ length: 5 }, (_, i) => [`Page ${'ABCDE'[i]} has its own words here.`])),
    );
    // A process that says nothing more when it reaches the third page.
    const slow = join(folder, 'slow.mjs');
    writeFileSync(
      slow,
      `const say = process.send.bind(process); let at = 0;
       process.send = (message, ...more) => { if (message.kind === 'page' && message.number === 3) { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); } return say(message, ...more); };
       await import(${JSON.stringify(program.href)});`,
    );
    await add({ reader: { program: pathToFileURL(slow), seconds: 5 } });
    const { content, counts, state } = await archive.document(join(folder, 'many.pdf'));
    expect([state, counts]).toEqual(['read', { read: 4, failed: 1 }]);
    const third = (await archive.pages(content))[2];
    expect(third).toMatchObject({ page: 3, state: 'failed', why: 'it took more than 5 s', text: '' });
    expect(await archive.queue.retry(content)).toBe(1);
    await work(archive, { lanes: 1, reader: { program } });
    expect((await archive.document(content)).counts).toEqual({ read: 5 });
  });

  test.runIf(there)(
    'work that is stopped, or whose worker is gone, is gone on with; nothing is there twice',
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

  test.runIf(there)('what is done again, since its answer was lost, is there once', async () => {
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

  test.runIf(there)('what was taken and is not held is free again when its time is over', async () => {
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
    'a model reads documents into states; without a template it answers nothing, and says so',
    async () => {
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

test('the command reads, says what it could not, searches and exports; killed in the middle, it goes on', async () => {
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

test('a server shows the archive, draws its pages, and answers from a state', async () => {
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
    expect((await get('/documents/nothing')).status).toBe(400);
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
