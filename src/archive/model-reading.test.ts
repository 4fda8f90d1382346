/**
 * Documents that are read side by side, on the CPU and on XLA's programs (which are evaluated here), have the states that they would have
 * alone. The archive's tables are played.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { OutOfDeviceMemory, openDevice } from '../engine/index.js';
import { XlaDevice } from '../engine/xla/device.js';
import { EvaluatorClient } from '../engine/xla/testing/evaluator-client.js';
import { DeviceError, StorageError } from '../errors.js';
import { LanguageModel, openStore, StateLibrary } from '../generate/index.js';
import { relativeError } from '../graph/testing/arrays.js';
import { hybridModel } from '../models/index.js';
import { tinyConfig, tinyWeights } from '../models/testing/tiny.js';
import { tinyTokenizer } from '../text/testing/tiny.js';
import { ARCHIVE_OWNER, type Archive } from './archive.js';
import { DocumentReading } from './document-reading.js';
import { modelKey, readWithModel } from './model-reading.js';

// The thread's module is there once it is built.
vi.mock('../text/token-thread.js', async () => ({
  TokenThread: class {
    constructor(private readonly tokenizer: typeof tinyTokenizer) {}
    encode = async (text: string) => this.tokenizer.encode(text);
    close = async () => {};
  },
}));

vi.mock('../generate/states/writing-threads.js', async () => {
  const { writeStateFile } = await import('../generate/state-file.js');
  return {
    WritingThreads: class {
      write = writeStateFile;
      close = async () => {};
    },
  };
});

const root = mkdtempSync(join(tmpdir(), 'heddle-model-reading-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const model = hybridModel(tinyConfig());
const weights = tinyWeights(model);
const cpu = await LanguageModel.compile(
  model,
  weights,
  tinyTokenizer,
  await openDevice('cpu', { threads: 1 }),
);

interface PlayedReading {
  state: string;
  page: number;
  tokens: number;
  record: string | null;
}

/** An archive of documents, each a list of its pages' texts. */
class PlayedArchive {
  readonly queue = {
    worker: 'played',
    renewReadings: async () => {},
    release: async () => {
      for (const reading of this.readings.values()) if (reading.state === 'taken') reading.state = 'reading';
    },
  };
  readonly library: StateLibrary;
  /** Records that were replaced, and passages that have a vector. */
  readonly orphans: unknown[] = [];
  readonly vectors = new Set<unknown>();
  readonly readings: Map<string, PlayedReading>;
  constructor(
    readonly documents: ReadonlyMap<string, readonly string[]>,
    folder: string,
  ) {
    this.library = new StateLibrary(openStore(join(root, folder)));
    this.readings = new Map(
      [...documents.keys()].map((name) => [name, { state: 'waiting', page: 0, tokens: 0, record: null }]),
    );
  }

  async deleteOrphans(): Promise<void> {}

  async pages(content: string, first: number, last: number) {
    const texts = this.documents.get(content)!.slice(first - 1, last);
    return texts.map((text, i) => ({ page: first + i, text }));
  }

  readonly database = {
    query: async (sql: string, values: readonly unknown[] = []): Promise<unknown[]> => {
      if (sql.startsWith('SELECT id::text, text')) return this.passages(values[0] as string);
      if (sql.startsWith('INSERT INTO archive_vectors')) this.vectors.add(values[0]);
      if (!sql.startsWith('UPDATE archive_readings r')) return this.note(sql, values);
      const found = [...this.readings].find(([, { state }]) => state === 'waiting' || state === 'reading');
      if (!found) return [];
      const [content, reading] = found;
      reading.state = 'taken';
      return [{ content, name: content, page: reading.page, record: reading.record, attempts: 1 }];
    },
    transaction: <T>(work: (query: (sql: string, values?: readonly unknown[]) => Promise<unknown[]>) => T) =>
      work((sql, values = []) => this.note(sql, values)),
  };

  /** Those without a vector: each page is one. */
  private passages(content: string): { id: string; text: string }[] {
    const all = this.documents.get(content)!.map((text, i) => ({ id: `${content} ${i + 1}`, text }));
    return all.filter(({ id }) => !this.vectors.has(id));
  }

  private async note(sql: string, values: readonly unknown[]): Promise<unknown[]> {
    if (sql.startsWith('INSERT INTO archive_orphans (record)')) this.orphans.push(values[0]);
    if (!sql.startsWith('UPDATE archive_readings')) return [];
    const [content, , , state, record, , page, tokens] = values as [
      string,
      string,
      string,
      string,
      string | null,
      null,
      number,
      number,
    ];
    if (!this.readings.has(content)) return [];
    this.readings.set(content, { state: state === 'reading' ? 'taken' : state, page, tokens, record });
    return [{ content }];
  }
}

/** Pages of a few words each; some have none. */
function documents(count: number): Map<string, string[]> {
  return new Map(
    Array.from({ length: count }, (_, i) => [
      `document-${i}`,
      Array.from({ length: 1 + (i % 3) }, (_, page) =>
        page === 1 ? '' : `the ${page + i} heron`.repeat(1 + i),
      ),
    ]),
  );
}

function pagesIn({ documents }: PlayedArchive): number {
  return [...documents.values()].reduce((sum, { length }) => sum + length, 0);
}

function tokensOf(archive: PlayedArchive, name: string): number[] {
  const pages = archive.documents
    .get(name)!
    .flatMap((text, i) => (text === '' ? [] : [`[page ${i + 1}]\n${text}\n\n`]));
  return pages.flatMap((text, i) =>
    i === 0 ? tinyTokenizer.encodeFromStart(`${name}\n\n${text}`) : tinyTokenizer.encode(text),
  );
}

/** The logits behind these tokens. */
async function stateBehind(tokens: readonly number[], language = cpu): Promise<Float32Array> {
  const session = language.session();
  await session.read(tokens);
  const { logits } = await session.snapshot();
  session.dispose();
  return logits!.slice();
}

async function expectAllRead(archive: PlayedArchive, language = cpu): Promise<void> {
  for (const [name, { state, page, tokens, record }] of archive.readings) {
    expect([name, state, page]).toEqual([name, 'read', archive.documents.get(name)!.length]);
    const { snapshot } = await archive.library.load(ARCHIVE_OWNER, record!, language);
    expect(snapshot.length).toBe(tokens);
    expect(
      relativeError(snapshot.logits!, await stateBehind(tokensOf(archive, name), language)),
    ).toBeLessThan(1e-5);
    snapshot.dispose();
  }
}

test('a model whose texts begin with tokens of their own has other vectors than before these were embedded too', () => {
  const fingerprint = { ...cpu.fingerprint, hash: 'abc', quantization: 'none' };
  const key = (beginning: number[], quantization = 'none') =>
    modelKey({ fingerprint: { ...fingerprint, quantization }, tokenizer: { beginning } });
  expect([key([]), key([1]), key([], '4x64'), key([1], '4x64')]).toEqual([
    'abc',
    'abc-begun',
    'abc-4x64',
    'abc-4x64-begun',
  ]);
});

test('on a device with programs for some lengths, documents of any lengths are one batch', async () => {
  const archive = new PlayedArchive(documents(3), 'xla');
  const client = new EvaluatorClient();
  const device = new XlaDevice(client, { precision: 'float32', writingSteps: 1 });
  const language = await LanguageModel.compile(model, weights, tinyTokenizer, device);
  const rows: number[] = [];
  const together = language.readTogether.bind(language);
  language.readTogether = async (given, most) => {
    rows.push(given.length);
    // As a device does, it answers when others have had their turn: whoever waits for it must not keep the event loop from them.
    await new Promise((resolve) => setTimeout(resolve, 5));
    return together(given, most);
  };
  let pages = 0;
  await readWithModel(archive as unknown as Archive, language, {
    name: 'tiny',
    batch: 2,
    onRead: (more) => {
      pages += more;
    },
  });
  await expectAllRead(archive);
  expect(rows).toEqual([2, 1]);
  expect(pages).toBe(pagesIn(archive));
});

test('while states are written slowly, reading goes on, and not so far that ever more states wait', async () => {
  const archive = new PlayedArchive(documents(18), 'slowly');
  // As on a device that reads texts of several lengths side by side.
  const language = Object.create(cpu, { pieceOf: { value: () => 8 } }) as LanguageModel;
  language.readTogether = (rows) => Promise.all(rows.map(async (row) => (await cpu.readTogether([row]))[0]!));
  let [taken, saving, most, tokens] = [0, 0, 0, 0];
  const query = archive.database.query;
  archive.database.query = async (sql, values) => {
    const rows = await query(sql, values);
    if (sql.startsWith('UPDATE archive_readings r')) taken += rows.length;
    return rows;
  };
  let open = (): void => {};
  const isOpen = new Promise<void>((resolve) => {
    open = resolve;
  });
  const save = archive.library.save.bind(archive.library);
  archive.library.save = async (...given) => {
    most = Math.max(most, ++saving);
    await isOpen;
    return save(...given).finally(() => saving--);
  };
  const onRead = (_: number, more: number): void => {
    tokens += more;
  };
  const reading = readWithModel(archive as unknown as Archive, language, { name: 'tiny', batch: 2, onRead });
  // Three batches of documents are open, and eight more are being written: all of these are read meanwhile.
  const names = [...archive.documents.keys()].slice(0, 14);
  const all = names.reduce((sum, name) => sum + tokensOf(archive, name).length, 0);
  await vi.waitFor(() => expect([taken, saving, tokens]).toEqual([14, 8, all]), { timeout: 1e6 });
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 5));
  expect([taken, saving]).toEqual([14, 8]);
  open();
  await reading;
  await expectAllRead(archive);
  expect([taken, most]).toEqual([18, 8]);
});

test('where the device has no memory for so many documents, fewer are read at once, from what was kept of each', async () => {
  const archive = new PlayedArchive(documents(6), 'memory');
  const device = new XlaDevice(new EvaluatorClient(), { precision: 'float32', writingSteps: 1 });
  const language = await LanguageModel.compile(model, weights, tinyTokenizer, device);
  const together = language.readTogether.bind(language);
  const batches: (number | undefined)[] = [];
  language.readTogether = async (given, most) => {
    batches.push(most);
    const logits = await together(given, most);
    // The states have moved on: whoever goes on with them reads something twice.
    if (most === 4 && batches.length > 1) throw new OutOfDeviceMemory('played', 1e9, undefined);
    return logits;
  };
  let pages = 0;
  const notices: string[] = [];
  await readWithModel(archive as unknown as Archive, language, {
    name: 'tiny',
    batch: 4,
    onRead: (more) => {
      pages += more;
    },
    notice: (text) => notices.push(text),
  });
  await expectAllRead(archive);
  expect(batches).toContain(4);
  expect(batches.at(-1)).toBe(1);
  expect(notices).toEqual(['the device has no memory for so many documents at once: 1 is read from now on']);
  expect(pages).toBe(pagesIn(archive));
});

/** On the evaluator of XLA's programs. */
async function onXla(of = model): Promise<LanguageModel> {
  const device = new XlaDevice(new EvaluatorClient(), { precision: 'float32', writingSteps: 1 });
  return LanguageModel.compile(of, tinyWeights(of), tinyTokenizer, device);
}

test.each([
  { error: new OutOfDeviceMemory('played', 1e9, undefined), isMended: true },
  { error: new DeviceError('played'), isMended: false },
])('a state that a failed run has changed is not kept: %o', async ({ error, isMended }) => {
  const long = (bird: string): string[] =>
    Array.from({ length: 12 }, () => `${bird} of a long one `.repeat(3));
  const archive = new PlayedArchive(
    new Map(['heron', 'egret'].map((bird) => [bird, long(bird)])),
    `spoiled-${isMended}`,
  );
  // Without attention a state has one size behind any number of tokens, so that a wrong one can be written.
  const recurrent = hybridModel(tinyConfig({ pattern: 'M-M-' }));
  const language = await onXla(recurrent);
  const right = await LanguageModel.compile(
    recurrent,
    tinyWeights(recurrent),
    tinyTokenizer,
    await openDevice('cpu', { threads: 1 }),
  );
  const piece = 8;
  Object.defineProperty(language, 'pieceOf', { value: () => piece });
  const together = language.readTogether.bind(language);
  let toPageEnds = 0;
  language.readTogether = async (rows, most) => {
    const logits = await together(rows, most);
    // Whole pieces are read, except to a document's end, and to the end of a page where the state is kept.
    const isToPageEnd = rows.some(
      ({ ids, position, expected }) => ids.length % piece > 0 && position + ids.length < expected!,
    );
    if (isToPageEnd && ++toPageEnds === 2) throw error;
    return logits;
  };
  const options = { name: 'tiny', batch: 2, keepEvery: 0 };
  const reading = readWithModel(archive as unknown as Archive, language, options);
  if (!isMended) {
    await expect(reading).rejects.toThrow('played');
    for (const [name, { record, tokens }] of archive.readings) {
      if (record === null) continue;
      const { snapshot } = await archive.library.load(ARCHIVE_OWNER, record, right);
      const logits = await stateBehind(tokensOf(archive, name).slice(0, tokens), right);
      expect(relativeError(snapshot.logits!, logits)).toBeLessThan(1e-5);
      snapshot.dispose();
    }
    await readWithModel(archive as unknown as Archive, language, options);
  } else await reading;
  await expectAllRead(archive, right);
  expect(toPageEnds).toBeGreaterThan(2);
});

test('a run that answers after the next one does not leave its logits behind', async () => {
  const text = Array.from({ length: 6 }, (_, i) => `the ${i} heron of a long one `.repeat(2));
  const archive = new PlayedArchive(new Map([['long', text]]), 'order');
  const language = await onXla();
  Object.defineProperty(language, 'pieceOf', { value: () => 8 });
  const together = language.readTogether.bind(language);
  const answered: number[] = [];
  language.readTogether = async (rows, most) => {
    const logits = await together(rows, most);
    const { ids, position, expected } = rows[0]!;
    const end = position + ids.length;
    if (end < expected!) await new Promise((resolve) => setTimeout(resolve, 50));
    answered.push(end);
    return logits;
  };
  await readWithModel(archive as unknown as Archive, language, { name: 'tiny', batch: 1 });
  expect(answered).not.toEqual([...answered].sort((a, b) => a - b));
  await expectAllRead(archive);
});

test('a document of which nothing was read is not to be kept, however long it waits', async () => {
  const archive = new PlayedArchive(new Map([['waiting', ['the heron']]]), 'waiting');
  const claimed = { content: 'waiting', name: 'waiting', page: 0, record: null, attempts: 1 };
  const reading = await DocumentReading.begin(archive as unknown as Archive, cpu, 'key', claimed, {
    name: 'tiny',
    keepEvery: 0,
    encode: async (text) => tinyTokenizer.encode(text),
    read: async (row) => (await cpu.readTogether([row]))[0],
    write: undefined,
  });
  await reading.fill(100);
  expect(reading.isToBeKept).toBe(false);
  const row = reading.next(3);
  reading.took((await cpu.readTogether([row]))[0]);
  reading.tell(3);
  expect(reading.isToBeKept).toBe(true);
  await reading.keep();
  expect(reading.isToBeKept).toBe(false);
  reading.dispose();
});

test('a document that cannot be finished for want of memory is not passed over', async () => {
  const archive = new PlayedArchive(documents(6), 'embedding');
  const language = await onXla();
  let embedded = 0;
  language.embed = async () => {
    if (++embedded === 2) throw new OutOfDeviceMemory('played', 1e9, undefined);
    return new Float32Array(4);
  };
  const options = { name: 'tiny', batch: 4, vectors: true };
  await expect(readWithModel(archive as unknown as Archive, language, options)).rejects.toThrow('played');
  await readWithModel(archive as unknown as Archive, language, options);
  await expectAllRead(archive);
});

test('a state that cannot be written is told of, also where a run fails for want of memory meanwhile', async () => {
  const archive = new PlayedArchive(documents(9), 'unwritten');
  const language = await onXla();
  const together = language.readTogether.bind(language);
  const save = archive.library.save.bind(archive.library);
  let runFails = (): void => {};
  const runHasFailed = new Promise<void>((resolve) => {
    runFails = resolve;
  });
  let saves = 0;
  archive.library.save = async (...given) => {
    if (++saves > 1) return save(...given);
    await runHasFailed;
    throw new StorageError('the disk is full');
  };
  language.readTogether = async (rows, most) => {
    const logits = await together(rows, most);
    if (saves === 0) return logits;
    runFails();
    throw new OutOfDeviceMemory('played', 1e9, undefined);
  };
  const reading = readWithModel(archive as unknown as Archive, language, { name: 'tiny', batch: 2 });
  await expect(reading).rejects.toThrow('the disk is full');
});

test('what is stopped keeps whole pages, and is gone on with', async () => {
  const archive = new PlayedArchive(
    new Map([['long', Array.from({ length: 12 }, (_, i) => `page ${i} of a long one `.repeat(8))]]),
    'stopped',
  );
  const stop = new AbortController();
  const options = { name: 'tiny', signal: stop.signal, onRead: () => stop.abort() };
  await readWithModel(archive as unknown as Archive, cpu, options);
  const { state, page, tokens } = archive.readings.get('long')!;
  expect(state).toBe('reading');
  expect(page).toBeGreaterThan(0);
  expect(page).toBeLessThan(12);
  expect(tokens).toBeGreaterThan(0);
  await readWithModel(archive as unknown as Archive, cpu, { name: 'tiny', batch: 2 });
  await expectAllRead(archive);
});

test('where a run fails, what was read before is kept, and no token is left out', async () => {
  const archive = new PlayedArchive(
    new Map([['long', Array.from({ length: 40 }, (_, i) => `page ${i} of a long one `.repeat(8))]]),
    'failed',
  );
  const failing = Object.create(cpu) as LanguageModel;
  let runs = 0;
  failing.readTogether = async (rows) => {
    if (++runs === 4) throw new DeviceError('played');
    return cpu.readTogether(rows);
  };
  await expect(readWithModel(archive as unknown as Archive, failing, { name: 'tiny' })).rejects.toThrow(
    'played',
  );
  const { state, page, record } = archive.readings.get('long')!;
  expect(state).toBe('reading');
  expect(page).toBeGreaterThan(0);
  expect(page).toBeLessThan(40);
  const { snapshot } = await archive.library.load(ARCHIVE_OWNER, record!, cpu);
  const whole = tokensOf(archive, 'long').slice(0, snapshot.length);
  expect(Array.from(snapshot.tokens)).toEqual(whole);
  snapshot.dispose();
  await readWithModel(archive as unknown as Archive, cpu, { name: 'tiny' });
  await expectAllRead(archive);
});

test('where somebody who is told throws, the documents of the same run are kept as they were read', async () => {
  const texts = (bird: string): string[] =>
    Array.from({ length: 30 }, () => `${bird} of a long one `.repeat(8));
  const archive = new PlayedArchive(new Map(['heron', 'egret'].map((bird) => [bird, texts(bird)])), 'told');
  let told = 0;
  const onRead = (): void => {
    if (++told === 1) throw new Error('played');
  };
  const failed = readWithModel(archive as unknown as Archive, cpu, { name: 'tiny', batch: 2, onRead });
  await expect(failed).rejects.toThrow('played');
  for (const { page } of archive.readings.values()) expect(page).toBeGreaterThan(0);
  await readWithModel(archive as unknown as Archive, cpu, { name: 'tiny', batch: 2 });
  await expectAllRead(archive);
});

test('a document that is stopped before all its vectors are there is not read yet; whoever goes on makes the others', async () => {
  const archive = new PlayedArchive(new Map([['three', ['the heron', 'the kite', 'the gull']]]), 'vectors');
  const stop = new AbortController();
  const stopping = Object.create(cpu) as LanguageModel;
  stopping.embed = async (text) => {
    stop.abort();
    return cpu.embed(text);
  };
  const told: string[] = [];
  const options = { name: 'tiny', vectors: true, onDocument: (name: string) => told.push(name) };
  await readWithModel(archive as unknown as Archive, stopping, { ...options, signal: stop.signal });
  expect(archive.readings.get('three')).toMatchObject({ state: 'reading', page: 3 });
  expect([archive.vectors.size, told]).toEqual([1, []]);
  await readWithModel(archive as unknown as Archive, cpu, options);
  await expectAllRead(archive);
  expect([archive.vectors.size, told]).toEqual([3, ['three']]);
});

test('a document whose state is kept on the way is read to its end, with the state that it would have', async () => {
  const texts = Array.from({ length: 36 }, (_, i) => `page ${i} of a long one `.repeat(i % 4));
  const archive = new PlayedArchive(new Map([['long', texts]]), 'kept');
  await readWithModel(archive as unknown as Archive, cpu, { name: 'tiny', keepEvery: 0 });
  await expectAllRead(archive);
  // It was kept on the way: each state that was replaced is deleted.
  expect(archive.orphans.length).toBeGreaterThan(1);
});

test('where the store of states does not answer, what was read before is not given up', async () => {
  const archive = new PlayedArchive(new Map([['short', ['the heron', 'the kite']]]), 'unreachable');
  const record = `state-${'1'.repeat(24)}`;
  archive.readings.set('short', { state: 'reading', page: 1, tokens: 9, record });
  archive.library.load = async () => {
    throw new StorageError('played');
  };
  await expect(readWithModel(archive as unknown as Archive, cpu, { name: 'tiny' })).rejects.toThrow('played');
  expect(archive.readings.get('short')).toEqual({ state: 'reading', page: 1, tokens: 9, record });
  expect(archive.orphans).toEqual([]);
});

test('a state that cannot be loaded is replaced by one from the beginning, and deleted', async () => {
  const archive = new PlayedArchive(new Map([['short', ['the heron', 'the kite']]]), 'unloadable');
  const record = `state-${'0'.repeat(24)}`;
  archive.readings.set('short', { state: 'reading', page: 1, tokens: 9, record });
  await readWithModel(archive as unknown as Archive, cpu, { name: 'tiny' });
  await expectAllRead(archive);
  expect(archive.orphans).toEqual([record]);
});
