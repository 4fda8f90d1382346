/** Documents are added and removed over HTTP, with concurrent commands in a terminal, and on the studio's library page in a real browser. */
import { randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Archive, addDocument, type DocumentEntry } from '../src/archive/index.js';
import { pdf } from '../src/archive/testing/documents.js';
import { ArchiveUnavailableError } from '../src/errors.js';
import { CHROMIUM, seriousViolations, visit, WITHOUT_CHROMIUM } from './testing/browser.js';
import { build, heddle } from './testing/heddle.js';
import { type Served, serve, writeTinyModel } from './testing/server.js';

/** Whether the disk is played to be full. */
const disk = vi.hoisted(() => ({ full: false }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof import('node:fs/promises')>();
  return {
    ...real,
    statfs: async (path: string) => (disk.full ? { bavail: 1, bsize: 70e6 } : real.statfs(path)),
  };
});

const root = mkdtempSync(join(tmpdir(), 'heddle-upload-'));
const place = join(root, 'archive');
const files = join(place, 'documents');
let server: Served;

beforeAll(async () => {
  build();
  await writeTinyModel(join(root, 'model'));
  const options = [join(root, 'model'), '--threads', '1', '--data', join(root, 'data')];
  // There is no archive yet: it is made.
  server = await serve([...options, '--archive', place], {}, ['archive', 'serve']);
});
afterAll(async () => {
  await server?.stop();
  rmSync(root, { recursive: true, force: true });
});

const paper = (...lines: string[]): Buffer =>
  pdf(lines.map((text) => ({ texts: [{ text, x: 60, y: 700 }] })));

function add(
  name: string | undefined,
  body: Buffer | string,
  type = 'application/octet-stream',
): Promise<Response> {
  const query = name === undefined ? '' : `?name=${encodeURIComponent(name)}`;
  const headers = { 'content-type': type };
  return fetch(`${server.url}/v1/archive/documents${query}`, {
    method: 'POST',
    headers,
    body: typeof body === 'string' ? body : new Uint8Array(body),
  });
}

async function added(
  name: string,
  body: Buffer | string,
): Promise<{ status: number; document: DocumentEntry }> {
  const answer = await add(name, body);
  return { status: answer.status, document: (await answer.json()) as DocumentEntry };
}

/** A document once it was read, or could not be. */
async function read(content: string): Promise<DocumentEntry> {
  for (;;) {
    const answer = await fetch(`${server.url}/v1/archive/documents/${content}`);
    const document = (await answer.json()) as DocumentEntry;
    if (document.state === 'read' || document.state === 'failed') return document;
    await sleep(100);
  }
}

async function found(words: string): Promise<string[]> {
  const answer = await fetch(`${server.url}/v1/archive/search?q=${words}`);
  const { data } = (await answer.json()) as { data: { name: string; page: number }[] };
  return data.map(({ name, page }) => `${name} ${page}`);
}

test('an uploaded document is read and found; equal bytes are one document, and another file of the same name gets its own', async () => {
  const curlew = paper('A curlew has a long bill.', 'It probes the mud.');
  const { status, document } = await added('Curlews, ältere.pdf', curlew);
  expect([status, document.name]).toEqual([201, 'Curlews, ältere.pdf']);
  expect(await read(document.content)).toMatchObject({
    state: 'read',
    pages: 2,
    paths: [join(files, 'Curlews, ältere.pdf')],
  });
  expect(await found('mud')).toEqual(['Curlews, ältere.pdf 2']);
  expect(readFileSync(join(files, 'Curlews, ältere.pdf')).equals(curlew)).toBe(true);
  for (const name of ['Curlews, ältere.pdf', 'copy.pdf']) {
    expect(await added(name, curlew)).toMatchObject({ status: 200, document: { content: document.content } });
  }
  const other = await added('Curlews, ältere.pdf', paper('A whimbrel is smaller.'));
  expect(other.status).toBe(201);
  await read(other.document.content);
  expect(await found('whimbrel')).toEqual(['Curlews, ältere (2).pdf 1']);
  expect(readdirSync(files).sort()).toEqual(['Curlews, ältere (2).pdf', 'Curlews, ältere.pdf']);
});

test.each([
  ['../../etc/stilt.txt', 'A stilt.', 'stilt.txt'],
  ['..\\..\\avocet.txt', 'An avocet.', 'avocet.txt'],
  ['.hidden.txt', 'Hidden.', 'hidden.txt'],
  ['a\nb\u0000c.txt', 'A line.', 'a b c.txt'],
  ['without an ending', 'Plain words.', 'without an ending.txt'],
  ['paper.dat', paper('A paper of another name.'), 'paper.dat.pdf'],
  [`${'ü'.repeat(300)}.txt`, 'A long name.', `${'ü'.repeat(98)}.txt`],
])('the name %j stays in the folder, with an ending by which it is read', async (name, body, expected) => {
  const { status, document } = await added(name, body);
  expect([status, document.name]).toEqual([201, expected]);
  expect(await read(document.content)).toMatchObject({ state: 'read', paths: [join(files, expected)] });
});

test.each([
  ['no name', undefined, 'text', undefined, 400, 'invalid_value'],
  ['a form', 'a.txt', 'text', 'multipart/form-data; boundary=x', 415, 'unsupported_media_type'],
  ['plain text', 'a.txt', 'text', 'text/plain', 415, 'unsupported_media_type'],
  ['nothing', 'a.txt', '', undefined, 415, 'unsupported_document'],
  ['no PDF', 'a.pdf', 'text', undefined, 415, 'unsupported_document'],
  ['bytes of zero', 'a.bin', Buffer.alloc(10), undefined, 415, 'unsupported_document'],
])('%s is refused, and nothing is left of it', async (_, name, body, type, status, code) => {
  const before = readdirSync(files);
  const answer = await add(name, body, type);
  expect(answer.status).toBe(status);
  expect(await answer.json()).toMatchObject({ error: { code } });
  expect(readdirSync(files)).toEqual(before);
});

test('an upload that is too large is refused before its bytes are sent', async () => {
  const status = await new Promise<[number, string]>((resolve, reject) => {
    const asking = request(`${server.url}/v1/archive/documents?name=a.pdf`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream', 'content-length': 1e9 + 1 },
    });
    asking.on('error', reject).on('response', (answer) => {
      let text = '';
      answer.on('data', (part) => {
        text += part;
      });
      answer.on('end', () => resolve([answer.statusCode!, text]));
    });
    asking.flushHeaders();
  });
  expect(status).toEqual([413, expect.stringContaining('body_too_large')]);
});

test('an interrupted upload leaves nothing', async () => {
  const before = readdirSync(files);
  const asking = request(`${server.url}/v1/archive/documents?name=broken.pdf`, {
    method: 'POST',
    headers: { 'content-type': 'application/octet-stream', 'content-length': 1e6 },
  });
  asking.on('error', () => {});
  asking.write(Buffer.alloc(1000, 'a'));
  while (readdirSync(files).length === before.length) await sleep(20);
  asking.destroy();
  while (readdirSync(files).length > before.length) await sleep(20);
  expect(readdirSync(files)).toEqual(before);
});

test('an upload may be larger than the bodies of other requests', async () => {
  const { status, document } = await added('long.txt', 'A godwit, again and again. '.repeat(1_300_000));
  expect(status).toBe(201);
  expect(document.state).not.toBe('failed');
});

/** `heddle archive` with the archive that the server has. */
const inTerminal = (...args: string[]) => heddle(['archive', ...args, '--archive', place]);

test('commands use an archive while a server has it open', async () => {
  const folder = join(root, 'birds');
  mkdirSync(folder);
  writeFileSync(join(folder, 'oystercatcher.txt'), 'An oystercatcher opens mussels.');
  writeFileSync(join(folder, 'turnstone.txt'), 'A turnstone turns stones.');
  const [adding, other, status] = await Promise.all([
    inTerminal('add', join(folder, 'oystercatcher.txt')),
    inTerminal('add', join(folder, 'turnstone.txt')),
    inTerminal('status'),
  ]);
  expect([adding.code, other.code, status.code]).toEqual([0, 0, 0]);
  expect(`${adding.stderr}${status.stderr}`).not.toContain('waiting');
  for (const name of ['oystercatcher', 'turnstone']) {
    expect(await found(name)).toEqual([`${name}.txt 1`]);
    const asked = await inTerminal('ask', name, '--model', join(root, 'model'));
    expect([asked.code, asked.stdout]).toEqual([0, expect.stringContaining(`${name}.txt, page 1`)]);
  }
});

test('a removed document is not found; its file is deleted if it was uploaded, and otherwise not added again with its folder', async () => {
  const { document } = await added('Dotterel.txt', 'A dotterel is tame.');
  await read(document.content);
  expect(await found('tame')).toEqual(['Dotterel.txt 1']);
  const path = `${server.url}/v1/archive/documents/${document.content}`;
  for (const part of ['Dotterel.txt', document.content.slice(0, 6), document.content.slice(0, 63)]) {
    const refused = await fetch(`${server.url}/v1/archive/documents/${part}`, { method: 'DELETE' });
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      { error: { code: 'invalid_value', param: 'id' } },
    ]);
  }
  expect(await found('tame')).toEqual(['Dotterel.txt 1']);
  const removed = await fetch(path, { method: 'DELETE' });
  expect([removed.status, await removed.json()]).toEqual([
    200,
    { id: document.content, object: 'archive.document', deleted: true, files: [] },
  ]);
  expect([await found('tame'), existsSync(join(files, 'Dotterel.txt'))]).toEqual([[], false]);
  for (const method of ['DELETE', 'GET']) expect((await fetch(path, { method })).status).toBe(404);
  // The same bytes are a new document.
  expect(await added('Dotterel.txt', 'A dotterel is tame.')).toMatchObject({ status: 201 });

  const folder = join(root, 'waders');
  const file = join(folder, 'ruff.txt');
  mkdirSync(folder);
  writeFileSync(file, 'A ruff has a ruff.');
  writeFileSync(join(folder, 'reeve.txt'), 'A reeve has none.');
  expect((await inTerminal('add', folder, file)).code).toBe(0);
  expect(await found('ruff')).toEqual(['ruff.txt 1']);
  const unknown = await inTerminal('remove', 'ruff.txt', 'nope.txt');
  expect([unknown.code, await found('ruff')]).toEqual([1, ['ruff.txt 1']]);
  const gone = await inTerminal('remove', 'ruff.txt');
  expect([gone.code, gone.stdout]).toEqual([0, `ruff.txt is removed; its file stays: ${file}\n`]);
  for (const paths of [[folder], []]) {
    const again = await inTerminal('add', ...paths);
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining('1 file removed before')]);
    expect([await found('ruff'), await found('reeve')]).toEqual([[], ['reeve.txt 1']]);
  }
  expect((await inTerminal('add', file)).code).toBe(0);
  expect(await found('ruff')).toEqual(['ruff.txt 1']);
});

test('a search without words is refused', async () => {
  for (const query of ['', '?q=', '?q=%20%20', '?limit=3']) {
    const answer = await fetch(`${server.url}/v1/archive/search${query}`);
    expect([answer.status, await answer.json()]).toMatchObject([
      400,
      { error: { code: 'invalid_value', param: 'q' } },
    ]);
  }
});

test('processes that borrow the archive of a server continue after the server is killed', async () => {
  const other = join(root, 'killed');
  const options = [join(root, 'model'), '--threads', '1', '--data', join(root, 'killed-data')];
  const killed = await serve([...options, '--archive', other], {}, ['archive', 'serve']);
  const borrowed = await Archive.open({ place: other });
  expect(borrowed.database.shared).toBe(true);
  const socket = readFileSync(join(other, 'database.socket'), 'utf8');
  await killed.stop('SIGKILL');
  expect(existsSync(socket)).toBe(true);
  await borrowed.addRoot('/somewhere');
  expect([existsSync(socket), await borrowed.roots()]).toEqual([false, ['/somewhere']]);
  // Who borrowed it lends it now.
  const { code, stderr } = await heddle(['archive', 'status', '--archive', other]);
  expect([code, stderr]).toEqual([0, '']);
  await borrowed.close();
});

test('a full disk or a failed transfer is reported and leaves nothing', async () => {
  const archive = await Archive.open({ place: join(root, 'other'), create: true });
  try {
    async function* bytes(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('some text');
      throw new Error('played');
    }
    await expect(addDocument(archive, 'a.txt', bytes())).rejects.toThrow('played');
    disk.full = true;
    const refused = addDocument(archive, 'a.txt', bytes(), 10e6);
    await expect(refused).rejects.toBeInstanceOf(ArchiveUnavailableError);
    await expect(refused).rejects.toThrow(/70 MB are free, and 74 are needed/);
    expect(readdirSync(join(root, 'other', 'documents'))).toEqual([]);
  } finally {
    disk.full = false;
    await archive.close();
  }
});

test('an upload removes what killed processes have left, and no other file', async () => {
  const place = join(root, 'abandoned');
  const archive = await Archive.open({ place, create: true });
  const folder = join(place, 'documents');
  mkdirSync(folder);
  const [old, recent] = [join(folder, `.${randomUUID()}.pdf`), join(folder, `.${randomUUID()}`)];
  const own = join(folder, '.notes.txt');
  for (const path of [old, recent, own]) writeFileSync(path, 'part of it');
  const long = new Date(Date.now() - 7_200_000);
  for (const path of [old, own]) utimesSync(path, long, long);
  async function* bytes(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('A phalarope turns in the water.');
  }
  await addDocument(archive, 'phalarope.txt', bytes());
  expect(readdirSync(folder).sort()).toEqual([basename(recent), '.notes.txt', 'phalarope.txt'].sort());
  await archive.close();
});

describe.skipIf(CHROMIUM === undefined)(`in a browser${WITHOUT_CHROMIUM}`, () => {
  test('files can be chosen or dropped; each shows its progress and its error', async () => {
    const { page, complaints, close } = await visit(`${server.url}/#/library`);
    const adding = page.getByRole('list', { name: 'Documents that are added' });
    const line = (name: string) => adding.getByRole('listitem').filter({ hasText: name });
    const chooser = page.waitForEvent('filechooser');
    await page.getByRole('button', { name: 'Add documents' }).click();
    await (await chooser).setFiles([
      { name: 'Lapwings.pdf', mimeType: 'application/pdf', buffer: paper('A lapwing tumbles.', 'It calls.') },
      { name: 'torn.pdf', mimeType: 'application/pdf', buffer: Buffer.from('torn off') },
      { name: 'again.pdf', mimeType: 'application/pdf', buffer: paper('A lapwing tumbles.', 'It calls.') },
    ]);
    await line('Lapwings.pdf').getByText('added and read').waitFor();
    await line('torn.pdf').getByText('torn.pdf cannot be read: it is no PDF').waitFor();
    await line('again.pdf').getByText('was in the library already').waitFor();
    // A file that is dropped.
    const data = await page.evaluateHandle(() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(['A plover runs along the shore.'], 'plover.txt'));
      return transfer;
    });
    await page.dispatchEvent('body', 'dragover', { dataTransfer: data });
    await page.getByText('Drop them here').waitFor();
    await page.dispatchEvent('body', 'drop', { dataTransfer: data });
    await line('plover.txt').getByText('added and read').waitFor();
    expect(await page.getByText('Drop them here').count()).toBe(0);
    await page.screenshot({ path: join(root, 'library.png') });
    if (process.env.HEDDLE_SCREENSHOTS)
      await page.screenshot({ path: join(process.env.HEDDLE_SCREENSHOTS, 'library.png') });
    expect(await seriousViolations(page)).toEqual([]);
    // It is found, and shown, with a picture that comes only after the document is removed.
    let draw = (): void => {};
    const drawn = new Promise<void>((resolve) => {
      draw = resolve;
    });
    await page.route('**/image?**', async (route) => {
      await drawn;
      await route.continue().catch(() => {});
    });
    await page.getByPlaceholder('Ask, or search for words').fill('tumbles');
    await page.getByRole('button', { name: 'Ask', exact: true }).click();
    await page.getByText('Lapwings.pdf, page 1').first().waitFor();
    const sheet = page.getByRole('region', { name: 'Page' });
    await sheet.getByText('Lapwings.pdf').waitFor();
    // What finds nothing leaves no page of another answer beside it.
    await page.getByPlaceholder('Ask, or search for words').fill('zeppelin');
    await page.getByRole('button', { name: 'Ask', exact: true }).click();
    await page.getByText('Nothing has these words.').waitFor();
    expect(await sheet.getByText('Lapwings.pdf').count()).toBe(0);
    // It is removed, if that is wanted.
    const library = page.getByRole('region', { name: 'Documents' });
    const remove = library.getByRole('button', { name: 'Remove Lapwings.pdf' });
    await remove.click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    expect(existsSync(join(files, 'Lapwings.pdf'))).toBe(true);
    await remove.click();
    if (process.env.HEDDLE_SCREENSHOTS)
      await page.screenshot({ path: join(process.env.HEDDLE_SCREENSHOTS, 'library-remove.png') });
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await remove.waitFor({ state: 'detached' });
    await line('Lapwings.pdf').waitFor({ state: 'detached' });
    draw();
    expect(existsSync(join(files, 'Lapwings.pdf'))).toBe(false);
    if (process.env.HEDDLE_SCREENSHOTS) {
      await page.setViewportSize({ width: 390, height: 844 });
      await page.screenshot({
        path: join(process.env.HEDDLE_SCREENSHOTS, 'library-390.png'),
        fullPage: true,
      });
    }
    await page.getByRole('button', { name: 'Clear the list' }).click();
    expect(await adding.count()).toBe(0);
    expect(complaints.filter((text) => !text.includes('415'))).toEqual([]);
    await close();
  });
});
