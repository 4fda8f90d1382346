/** `heddle/browser` as a page uses it, in a real browser, with the shipped model. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { unpackTar } from 'modern-tar';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { bundleForBrowser } from '../scripts/browser.mjs';
import { buildDemo } from '../scripts/demo.mjs';
import type * as Heddle from '../src/browser/index.js';
import { openDevice } from '../src/engine/index.js';
import { ChatSession, type LanguageModel, loadModel, loadSnapshot } from '../src/generate/index.js';
import { HubServer } from '../src/hub/testing/hub-server.js';
import { hybridModel, preset } from '../src/models/index.js';
import {
  END_OF_TEXT,
  encodeCorpus,
  splitCorpus,
  Tokenizer,
  tokenizerFiles,
  trainBpe,
} from '../src/text/index.js';
import { THINKING } from '../src/text/testing/chat-templates.js';
import { TRAINING_DEFAULTS, type TrainingEvent, textData, train } from '../src/train/index.js';
import { CHROMIUM, PATIENCE, seriousViolations, WITHOUT_CHROMIUM } from './testing/browser.js';
import { writeTinyModel } from './testing/server.js';

const assets = fileURLToPath(new URL('../assets/sotu-hybrid/', import.meta.url));
const MODEL = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors'];
const PROMPT = 'Fellow citizens of the Senate';

let folder: string;
let bundle: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heddle-browser-'));
  bundle = join(folder, 'bundle');
  await bundleForBrowser(bundle);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test('a page loads less than 400 kB, and nothing of Node.js', async () => {
  const output = await bundleForBrowser(bundle);
  let bytes = 0;
  for (const file of output) {
    const text = file.type === 'chunk' ? file.code : file.source;
    bytes += gzipSync(text).byteLength;
    expect(String(text).match(/["'`]node:\w+|onnxruntime|koffi/g), file.fileName).toBeNull();
    // All packages are in it; the word in quotes is one of chat templates.
    for (const [, from] of String(text).matchAll(
      /(?<!["'`])\bimport\b(?:[^"'`;()=]*\bfrom)?\s*\(?["'`]([^"'`]+)["'`]/g,
    )) {
      expect(from, file.fileName).toMatch(/^\.\//);
    }
  }
  expect(output.map(({ fileName }) => fileName)).toEqual(expect.arrayContaining(['index.js', 'worker.js']));
  expect(bytes).toBeGreaterThan(50_000);
  expect(bytes).toBeLessThan(400_000);
});

/** A tiny model with a chat template, and a token that begins its texts. */
async function tinyChat(): Promise<string> {
  const tiny = join(folder, 'tiny');
  if (existsSync(tiny)) return tiny;
  await writeTinyModel(tiny, { template: THINKING, change: { maxPositionEmbeddings: 512 } });
  const path = join(tiny, 'tokenizer_config.json');
  const config = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  writeFileSync(path, JSON.stringify({ ...config, add_bos_token: true, bos_token: END_OF_TEXT }));
  return tiny;
}

/** What a page has; only its names are used here, since functions travel to the page as text. */
declare const heddle: typeof Heddle;

describe.skipIf(CHROMIUM === undefined)(`in a tab${WITHOUT_CHROMIUM}`, () => {
  let browser: Browser;
  let server: HubServer;
  /** The model in Node, on the same kernels. */
  let model: LanguageModel;
  /** Answers in the place of what is usual. */
  let instead: (path: string, response: ServerResponse, range: string | undefined) => boolean = () => false;
  let requests: { path: string; range: string | undefined }[] = [];
  let context: BrowserContext | undefined;
  /** What `/state` answers: a state that Node has saved. */
  let state = Buffer.alloc(0);

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox', '--disable-gpu'] });
    model = await loadModel('sotu-hybrid', { device: 'wasm', threads: 1 });
    server = await HubServer.start();
    for (const name of MODEL) server.put(name, readFileSync(join(assets, name)));
    server.onRequest = ({ path, range }, response) => {
      requests.push({ path, range });
      response.setHeader('access-control-allow-origin', '*');
      response.setHeader('access-control-expose-headers', 'link');
      return instead(path, response, range) || serveFile(path, response);
    };
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    await model?.dispose();
  });
  afterEach(async () => {
    instead = () => false;
    requests = [];
    await context?.close();
    context = undefined;
  });

  /** The page, its scripts, and a model's folder; `/isolated` may share memory among threads, `/` may not. */
  function serveFile(path: string, response: ServerResponse): boolean {
    const send = (bytes: Buffer | string, type: string): true => {
      // Workers of an isolated page have to be isolated too.
      response.setHeader('cross-origin-embedder-policy', 'require-corp');
      response.setHeader('etag', '"one"');
      response.setHeader('cache-control', 'max-age=3600');
      response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(bytes) });
      response.end(bytes);
      return true;
    };
    if (path === '/state') return send(state, 'application/octet-stream');
    const [, script, file] = /^\/(?:(?:bundle\/)([\w.-]+\.js)|model\/([\w.-]+))$/.exec(path) ?? [];
    if (script) return send(readFileSync(join(bundle, script)), 'text/javascript');
    if (file && MODEL.includes(file))
      return send(readFileSync(join(assets, file)), 'application/octet-stream');
    if (path !== '/' && path !== '/isolated') return false;
    if (path === '/isolated') response.setHeader('cross-origin-opener-policy', 'same-origin');
    const policy = path === '/isolated' ? 'require-corp' : 'unsafe-none';
    response.writeHead(200, { 'content-type': 'text/html', 'cross-origin-embedder-policy': policy });
    response.end(`<!doctype html><title>Heddle</title><script type="module">
      globalThis.heddle = await import('/bundle/index.js');
    </script>`);
    return true;
  }

  /** A page with nothing stored, or another of the same visitor. */
  async function open(path = '/'): Promise<Page> {
    context ??= await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    await page.goto(server.endpoint + path);
    await page.waitForFunction('globalThis.heddle !== undefined');
    return page;
  }

  /** What Node writes on the prompt, and its state then. */
  async function expected(): Promise<{ text: string; ids: number[] }> {
    const session = model.session();
    await session.read(PROMPT);
    let text = '';
    for await (const piece of session.generate({ maxTokens: 12, seed: 3 })) text += piece.text;
    const snapshot = await session.snapshot();
    const path = join(folder, 'node.state');
    await snapshot.save(path);
    snapshot.dispose();
    const ids = [...session.tokens];
    session.dispose();
    state = await readFile(path);
    return { text, ids };
  }

  test.each(['/isolated', '/'])('tokens and states equal those of Node.js: %s', async (path) => {
    const node = await expected();
    const page = await open(path);
    const found = await page.evaluate(async (prompt) => {
      const model = await heddle.loadModel('./model/', { threads: 2 });
      const session = model.session();
      await session.read(prompt);
      let text = '';
      for await (const piece of session.generate({ maxTokens: 12, seed: 3 })) text += piece.text;
      const snapshot = await session.snapshot();
      const { id } = await snapshot.keep({ name: 'first', messages: [{ role: 'user', content: prompt }] });
      const file = new FileReader();
      file.readAsDataURL(await snapshot.toBlob());
      await new Promise((resolve) => {
        file.onload = resolve;
      });
      const own = String(file.result).split(',')[1]!;
      // A state that Node has saved goes on here.
      const other = model.session();
      await other.restore(await model.loadSnapshot(await (await fetch('/state')).blob()));
      const fork = await other.fork();
      const rest: string[] = [];
      for (const each of [session, other, fork]) {
        let written = '';
        for await (const piece of each.generate({ maxTokens: 6, temperature: 0 })) written += piece.text;
        rest.push(written);
      }
      const together: string[] = ['', ''];
      const pieces = session.generate({ maxTokens: 4, seed: 1, n: 2 });
      let next = await pieces.next();
      for (; !next.done; next = await pieces.next()) together[next.value.index] += next.value.text;
      const forks = next.value.map(({ session, reason }) => [session.tokens.length, reason]);
      const ids = [...session.tokens];
      const { fingerprint, parameters } = model.info;
      const encoded = await model.encode(prompt);
      const round = [encoded, await model.decode(encoded)];
      await model.dispose();
      return {
        text,
        ids,
        own,
        rest,
        together,
        forks,
        id,
        fingerprint,
        parameters,
        round,
        isolated: crossOriginIsolated,
      };
    }, PROMPT);
    expect(found.isolated).toBe(path === '/isolated');
    expect(found.text).toBe(node.text);
    expect(found.ids.slice(0, node.ids.length)).toEqual(node.ids);
    const own = Buffer.from(found.own, 'base64');
    expect(own.equals(state)).toBe(true);
    expect(found.rest[1]).toBe(found.rest[0]);
    expect(found.rest[2]).toBe(found.rest[0]);
    expect(found.forks).toEqual([
      [found.ids.length + 4, 'length'],
      [found.ids.length + 4, 'length'],
    ]);
    expect(found.fingerprint).toEqual(model.fingerprint);
    expect(found.parameters).toBe(model.parameters);
    expect(found.round).toEqual([model.tokenizer.encode(PROMPT), PROMPT]);
    if (path === '/') await findsAgain(page, found.id, found.rest[0]!);

    // And one that a page has saved in Node.
    const file = join(folder, 'page.state');
    await writeFile(file, own);
    const snapshot = await loadSnapshot(file, model);
    const session = model.session();
    session.restore(snapshot);
    let rest = '';
    for await (const piece of session.generate({ maxTokens: 6, temperature: 0 })) rest += piece.text;
    expect(rest).toBe(found.rest[0]);
    snapshot.dispose();
    session.dispose();
  });

  /** A later visit goes on from the state that an earlier one has kept. */
  async function findsAgain(page: Page, id: string, rest: string): Promise<void> {
    await page.reload();
    await page.waitForFunction('globalThis.heddle !== undefined');
    const found = await page.evaluate(async (id) => {
      const model = await heddle.loadModel('./model/', { threads: 1 });
      const known = await model.keptStates();
      const session = model.session();
      await session.restore(await model.keptState(id));
      let rest = '';
      for await (const piece of session.generate({ maxTokens: 6, temperature: 0 })) rest += piece.text;
      const fork = await model.forkState(id);
      await model.nameState(fork.id, 'second');
      await model.deleteState(id);
      const gone = await model.keptState(id).catch((error: Error) => error.name);
      const left = (await model.keptStates()).map(({ name, parent }) => [name, parent]);
      return { known, rest, left, gone };
    }, id);
    expect(found).toMatchObject({
      known: [{ id, name: 'first', messages: [{ role: 'user', content: PROMPT }], bytes: state.length }],
      left: [['second', id]],
      gone: 'UnknownStateError',
      rest,
    });
  }

  test('conversations with a chat template, and line by line, equal those of Node.js', async () => {
    const tiny = await tinyChat();
    const SAID = ['Hello', 'And then?'];
    const SETTINGS = { maxTokens: 8, temperature: 0 };
    /** Both sides do the same. */
    const talk = async (chat: ChatSession | Heddle.TabChat) => {
      const turns: unknown[] = [];
      for (const text of SAID) {
        let said = '';
        for await (const piece of chat.say(text, SETTINGS)) said += piece.text;
        turns.push({ said, turn: chat.turn, tokens: [...chat.tokens] });
      }
      for await (const _ of chat.regenerate({ ...SETTINGS, seed: 5, temperature: 2 }));
      turns.push({ turn: chat.turn, tokens: [...chat.tokens] });
      for await (const _ of chat.edit(0, 'Otherwise', SETTINGS));
      // One who leaves in the middle has what came until then.
      for await (const _ of chat.say('More', { ...SETTINGS, maxTokens: 100 })) break;
      const left = { turn: chat.turn, messages: chat.messages, bytes: chat.bytes };
      return { turns, left, read: await chat.encode(chat.messages) };
    };
    const node = await loadModel(tiny, { device: 'wasm', threads: 1 });
    const expected: Record<string, unknown> = {};
    const byTemplate = (await ChatSession.open(node, tiny, { system: 'Be brief.' }))!;
    expected.template = await talk(byTemplate);
    byTemplate.dispose();
    expected.begun = node.tokenizer.encodeFromStart('the cat');
    expect(expected.begun).toEqual([
      ...node.tokenizer.encode(END_OF_TEXT),
      ...node.tokenizer.encode('the cat'),
    ]);
    await node.dispose();
    const byLine = (await ChatSession.open(model, assets, { lines: true }))!;
    expected.lines = await talk(byLine);
    byLine.dispose();

    instead = (path, response) => {
      const name = /^\/tiny\/([\w.-]+)$/.exec(path)?.[1];
      if (name === undefined) return false;
      const file = join(tiny, name);
      if (!existsSync(file)) response.writeHead(404);
      response.end(existsSync(file) ? readFileSync(file) : '');
      return true;
    };
    const page = await open();
    const found = await page.evaluate(
      async ({ talk, ...settings }) => {
        Object.assign(globalThis, settings);
        const run = new Function(`return ${talk}`)() as (chat: Heddle.TabChat) => Promise<unknown>;
        const tiny = await heddle.loadModel('./tiny/', { threads: 1 });
        const template = await run((await tiny.chat({ system: 'Be brief.' }))!);
        const plain = await heddle.loadModel('./model/', { threads: 1 });
        return {
          template,
          begun: await tiny.encodeFromStart('the cat'),
          lines: await run(await plain.chat({ lines: true })),
          none: await plain.chat(),
        };
      },
      { talk: String(talk), SAID, SETTINGS },
    );
    expect(found).toEqual({ ...expected, none: undefined });
  });

  test('errors have the classes that they have in Node.js, and nothing is lost', async () => {
    const page = await open();
    const found = await page.evaluate(async (prompt) => {
      const told = (attempt: Promise<unknown>): Promise<unknown> =>
        attempt.then(
          () => 'nothing',
          (error: Error) => [
            error instanceof heddle.HeddleError ? error.name : 'none of ours',
            error.message,
          ],
        );
      const model = await heddle.loadModel('./model/');
      const session = model.session();
      await session.read(prompt);
      const wrong = {
        source: await told(heddle.loadModel('nothing')),
        missing: await told(heddle.loadModel('./elsewhere/')),
        dropped: await told(heddle.loadModel([new File(['a'], 'a.txt')])),
        threads: await told(heddle.loadModel('./model/', { threads: 0 })),
        empty: await told(model.session().read('')),
        id: await told(session.read([1e9])),
        state: await told(model.loadSnapshot(new Blob(['none']))),
        options: await told(session.generate({ temperature: -1 }).next()),
      };
      const controller = new AbortController();
      let pieces = 0;
      const stopped = await told(
        (async () => {
          const { signal } = controller;
          for await (const _ of session.generate({ maxTokens: 1000, temperature: 0, signal })) {
            if (++pieces === 3) controller.abort(new Error('enough'));
          }
        })(),
      );
      const before = await model.encode(prompt);
      const left = before.length + pieces;
      return { wrong, left, stopped, tokens: session.tokens.length };
    }, PROMPT);
    const { wrong } = found;
    expect(wrong.source).toEqual(['ConfigError', expect.stringContaining("'nothing' is no model")]);
    expect(wrong.missing).toEqual(['HubError', expect.stringContaining('does not give config.json (401)')]);
    expect(wrong.dropped).toEqual([
      'ConfigError',
      expect.stringContaining('no config.json and no GGUF file'),
    ]);
    expect(wrong.threads).toEqual(['DeviceError', expect.stringContaining('threads is 0')]);
    expect(wrong.empty).toEqual(['DataError', expect.stringContaining('no tokens')]);
    expect(wrong.id).toEqual(['DataError', expect.stringContaining('is not one of the model')]);
    expect(wrong.state).toEqual(['SnapshotError', expect.stringContaining('no state can be read')]);
    expect(wrong.options).toEqual(['ConfigError', expect.stringContaining('temperature')]);
    expect(found.stopped).toEqual(['none of ours', 'enough']);
    expect(found.tokens).toBe(found.left);
  });

  test('files that a user selects, in their folder', async () => {
    const page = await open();
    await page.setContent('<input type="file" multiple>');
    await page.locator('input').setInputFiles(MODEL.map((name) => join(assets, name)));
    await page.evaluate(`import('/bundle/index.js').then((module) => { globalThis.heddle = module; })`);
    const before = requests.length;
    const text = await page.evaluate(async (prompt) => {
      const files = [...document.querySelector('input')!.files!];
      const model = await heddle.loadModel(files);
      const session = model.session();
      await session.read(prompt);
      let text = '';
      for await (const piece of session.generate({ maxTokens: 12, seed: 3 })) text += piece.text;
      return text;
    }, PROMPT);
    expect(text).toBe((await expected()).text);
    expect(requests.slice(before).filter(({ path }) => !path.startsWith('/bundle/'))).toEqual([]);
  });

  /** Loads the hub's model in a page; its parameters, and what was told. */
  async function fromHub(page: Page): Promise<{ parameters?: number; error?: string; kept: number }> {
    return page.evaluate(async (hub) => {
      const kept = async (): Promise<number> =>
        (await heddle.keptModels()).filter(({ isWhole }) => isWhole).length;
      try {
        const model = await heddle.loadModel({ repository: 'weavers/loom-1b', hub });
        return { parameters: model.info.parameters, kept: await kept() };
      } catch (error) {
        return { error: `${(error as Error).name}: ${(error as Error).message}`, kept: await kept() };
      }
    }, server.endpoint);
  }
  const loaded = (): string[] =>
    requests.flatMap(({ path }) => (/safetensors|\/api\//.test(path) ? [path] : []));

  test('a repository, which is then available offline', async () => {
    const page = await open();
    expect(await fromHub(page)).toEqual({ parameters: model.parameters, kept: 1 });
    expect(loaded().length).toBeGreaterThan(0);
    await context!.setOffline(true);
    requests = [];
    expect(await fromHub(page)).toEqual({ parameters: model.parameters, kept: 1 });
    expect(requests).toEqual([]);
    const sources = await page.evaluate(async () => {
      const kept = await heddle.keptModels();
      for (const model of kept) await heddle.forgetModel(model);
      return kept.map(({ source }) => source);
    });
    expect(sources).toEqual([`${server.endpoint}/weavers/loom-1b@main`]);
    const { error, kept } = await fromHub(page);
    expect(error).toMatch(/HubError: .* could not be reached/);
    expect(kept).toBe(0);
  });

  test('a download that was damaged on the way is refused', async () => {
    const page = await open();
    const stored = server.files.get('tokenizer.json')!.bytes;
    instead = (path, response) => {
      if (!path.endsWith('/resolve/main/tokenizer.json')) return false;
      response.end(Buffer.from(stored).fill(0, 0, 1));
      return true;
    };
    expect(await fromHub(page)).toEqual({
      error: expect.stringContaining('tokenizer.json came with the wrong bytes twice'),
      kept: 0,
    });
    instead = () => false;
    expect(await fromHub(page)).toEqual({ parameters: model.parameters, kept: 1 });
  });

  test('a download continues after its tab was closed', async () => {
    const { bytes } = server.files.get('model.safetensors')!;
    const half = bytes.length >> 1;
    const asked: (string | undefined)[] = [];
    let hold = true;
    instead = (path, response, range) => {
      if (!path.startsWith('/model.safetensors')) return false;
      asked.push(range);
      if (!hold) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, half));
      return true;
    };
    const first = await open();
    await first.evaluate((hub) => {
      globalThis.addEventListener('error', () => {});
      const told = { loaded: 0 };
      Object.assign(globalThis, { told });
      void heddle.loadModel(
        { repository: 'weavers/loom-1b', hub },
        { onProgress: ({ loaded }) => Object.assign(told, { loaded }) },
      );
    }, server.endpoint);
    await first.waitForFunction(`globalThis.told.loaded >= ${half}`);
    await first.close();
    hold = false;
    const second = await open();
    const [begun] = await second.evaluate(() => heddle.keptModels());
    expect(begun).toMatchObject({ source: `${server.endpoint}/weavers/loom-1b@main`, isWhole: false });
    expect(begun!.bytes).toBeGreaterThan(half / 2);
    expect(await fromHub(second)).toEqual({ parameters: model.parameters, kept: 1 });
    expect(asked).toEqual([undefined, expect.stringMatching(/^bytes=\d{6,}-$/)]);
    expect(Number(/\d+/.exec(asked[1]!)![0])).toBeGreaterThan(half / 2);
  });

  test('two tabs download a model once', async () => {
    const pages = [await open(), await open()];
    const found = await Promise.all(pages.map(fromHub));
    expect(found).toEqual([
      { parameters: model.parameters, kept: 1 },
      { parameters: model.parameters, kept: 1 },
    ]);
    expect(requests.filter(({ path }) => path.startsWith('/model.safetensors')).length).toBe(1);
  });

  test('a browser without space reports it, and keeps nothing', async () => {
    const page = await open();
    const devtools = await context!.newCDPSession(page);
    const origin = new URL(server.endpoint).origin;
    await devtools.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 4e6 });
    const { error, kept } = await fromHub(page);
    expect(error).toMatch(/StorageError: .*the browser gives this site no more space/);
    expect(kept).toBe(0);
    const used = await page.evaluate(async () => (await navigator.storage.estimate()).usage!);
    expect(used).toBeLessThan(3e6);
    const inMemory = await page.evaluate(async () => {
      const model = await heddle.loadModel('./model/', { store: 'memory' });
      return model.info.parameters;
    });
    expect(inMemory).toBe(model.parameters);
  });

  test('stopped training continues with the losses of Node.js, and Node.js opens the downloaded model', async () => {
    const text = readFileSync(fileURLToPath(new URL('../docs/library.md', import.meta.url)), 'utf8').slice(
      0,
      8000,
    );
    const settings = { batch: 2, sequence: 48, evaluateEvery: 0, saveEvery: 0 };
    const page = await open();
    const found = await page.evaluate(
      async ({ text, settings }) => {
        const losses: number[] = [];
        const samples: string[] = [];
        const take = (event: Heddle.TrainingEvent): void => {
          if (event.event === 'step') losses.push(event.loss);
          if (event.event === 'sample') samples.push(event.text);
        };
        const run = { name: 'library', vocabulary: 300, onEvent: take };
        const first = await heddle.train({ ...run, text, settings: { ...settings, steps: 3 } });
        const taken = await heddle.train({ ...run, text }).catch((error: Error) => error.message);

        const second = await heddle.train({ ...run, resume: true, settings: { steps: 4 } });
        const model = await heddle.loadModel({ run: 'library' });
        const file = new FileReader();
        file.readAsDataURL(await heddle.downloadRun('library'));
        await new Promise((resolve) => {
          file.onload = resolve;
        });
        const kept = await heddle.trainedRuns();
        await heddle.forgetRun('library');
        return {
          ...{ losses, samples, first, second, taken, kept },
          left: await heddle.trainedRuns(),
          fingerprint: model.info.fingerprint,
          archive: String(file.result).split(',')[1]!,
        };
      },
      { text, settings },
    );
    expect(found.first).toMatchObject({ step: 3, completed: true });
    expect(found.second).toMatchObject({ step: 4, completed: true });
    expect(found.taken).toMatch(/there is already a run named library/);
    expect([found.kept, found.left]).toEqual([['library'], []]);
    expect(found.samples.length).toBeGreaterThan(1);

    const split = splitCorpus({ documents: [{ name: 'library', text }] }, { validationFraction: 0.05 });
    const trained = trainBpe([split.training[0]!.text], { vocabSize: 300 });
    const tokenizer = new Tokenizer(tokenizerFiles(trained));
    const losses: Record<string, number[]> = { cpu: [], wasm: [] };
    for (const name of ['cpu', 'wasm'] as const) {
      const device = await openDevice(name, { threads: 1 });
      const run = {
        model: hybridModel(preset('hybrid', 'nano', tokenizer.vocabSize)),
        ...{ tokenizer, device, folder: join(folder, name) },
        data: textData(encodeCorpus(tokenizer, split.training), encodeCorpus(tokenizer, split.validation)),
        onEvent: (event: TrainingEvent) => event.event === 'step' && losses[name]!.push(event.loss),
      };
      await train({ ...run, settings: { ...TRAINING_DEFAULTS, ...settings, steps: 3 } });
      // ONNX Runtime does several steps in one run, and a longer run than was planned does not go on with the same bits.
      if (name === 'wasm') {
        await train({ ...run, settings: { ...TRAINING_DEFAULTS, ...settings, steps: 4 }, resume: true });
      }
      await device.dispose();
    }
    expect(found.losses).toEqual(losses.wasm);
    for (const [i, loss] of losses.cpu!.entries())
      expect(Math.abs(found.losses[i]! - loss)).toBeLessThan(1e-3);
    const there = await unpackTar(new Uint8Array(Buffer.from(found.archive, 'base64')));
    expect(there.map(({ header }) => header.name)).toContain('library/metrics.jsonl');
    for (const { header, data } of there) {
      const path = join(folder, header.name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, data!);
    }
    const opened = await loadModel(join(folder, 'library'), { device: 'wasm', threads: 1 });
    expect(opened.fingerprint).toEqual(found.fingerprint);
    await opened.dispose();
  });

  test('the demo, in any folder of a host without headers, generates, inspects, and opens offline', async () => {
    const site = join(folder, 'site');
    await buildDemo(site);
    instead = (path, response) => {
      const file = /^\/some\/where\/([\w./-]*)$/.exec(path)?.[1];
      if (file === undefined) return false;
      const found = join(site, file || 'index.html');
      const type = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' }[extname(found)];
      if (!existsSync(found)) response.writeHead(404);
      else response.writeHead(200, { 'content-type': type ?? 'application/octet-stream' });
      response.end(existsSync(found) ? readFileSync(found) : '');
      return true;
    };
    context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol !== 'blob:' && !url.href.startsWith(`${server.endpoint}/some/where/`))
        complaints.push(url.href);
    });
    const writes = async (): Promise<void> => {
      await page.getByText('ready in').waitFor();
      await page.getByRole('button', { name: 'Write', exact: true }).click();
      await page.locator('.text .model').waitFor();
    };
    await page.goto(`${server.endpoint}/some/where/`);
    await writes();
    expect(await page.evaluate('crossOriginIsolated')).toBe(true);
    expect(await seriousViolations(page)).toEqual([]);
    await page.getByRole('link', { name: 'Look inside' }).click();
    await page.getByRole('heading', { name: /^Layers/ }).waitFor();
    await page.getByRole('link', { name: 'Train' }).click();
    await page.getByRole('button', { name: 'Take Moby-Dick' }).click();
    await page.getByRole('button', { name: 'Train', exact: true, disabled: false }).waitFor();
    // A colour that is still changing has another contrast.
    await page.evaluate(() => Promise.all(document.getAnimations().map(({ finished }) => finished)));
    expect(await seriousViolations(page)).toEqual([]);
    // A run of an earlier visit is shown, and gone on with.
    const earlier = JSON.stringify({
      ...{ name: 'earlier', text: 'Call me Ishmael. Some years ago, never mind how long. '.repeat(20) },
      ...{ vocabulary: 280, settings: { batch: 1, sequence: 16, steps: 1, evaluateEvery: 0 } },
    });
    const library = "new URL('heddle/index.js', document.baseURI).href";
    await page.evaluate(`import(${library}).then(({ train }) => train(${earlier}))`);
    await page.reload();
    await page.getByLabel('steps', { exact: true }).fill('2');
    await page.getByRole('button', { name: 'Go on with earlier' }).click();
    await page.getByRole('definition').filter({ hasText: /^3$/ }).waitFor();
    await page.getByRole('button', { name: 'Go on for 2 steps' }).waitFor();
    // What the page has loaded is kept, until one deletes it.
    await page.getByRole('link', { name: 'Write' }).click();
    await page.getByText('Stored models').click();
    await page.getByRole('button', { name: 'Delete model/' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByText('None: what is loaded').waitFor();
    await page.reload();
    await page.getByText('ready in').waitFor();
    // A model with a chat template answers.
    const tiny = await tinyChat();
    const openTiny = (): Promise<void> =>
      page.getByLabel('Open its files').setInputFiles(readdirSync(tiny).map((name) => join(tiny, name)));
    await openTiny();
    await page.getByRole('textbox', { name: 'Say something' }).fill('Hello');
    await page.locator('.composer summary').click();
    await page.getByLabel('Longest answer, tokens').fill('8');
    await page.getByLabel('Longest answer, tokens').press('Tab');
    await page.getByRole('textbox', { name: 'Say something' }).press('Enter');
    await page.locator('.turn[data-status="done"]').waitFor();
    expect(await page.locator('[data-figure="written"]').textContent()).toMatch(/^[1-8]$/);
    expect(await seriousViolations(page)).toEqual([]);
    // The chat's settings are there again.
    await page.reload();
    await page.getByText('ready in').waitFor();
    await openTiny();
    await page.locator('.composer summary', { hasText: 'up to 8 tokens' }).waitFor();
    await context.setOffline(true);
    await page.goto(`${server.endpoint}/some/where/#/write`);
    await page.reload();
    await writes();
    expect(complaints).toEqual([]);
  });

  test('memory that cannot grow is reported, and existing sessions continue', async () => {
    const page = await open();
    const found = await page.evaluate(async (prompt) => {
      // Memory grows until a message says that there is no more.
      const script = `
        const grow = WebAssembly.Memory.prototype.grow;
        const full = new BroadcastChannel('full');
        let isFull = false;
        full.onmessage = ({ data }) => { isFull = data; full.postMessage('heard'); };
        WebAssembly.Memory.prototype.grow = function (pages) {
          if (isFull) throw new RangeError('WebAssembly.Memory.grow(): Unable to grow instance memory');
          return grow.call(this, pages);
        };`;
      const blob = (text: string): string =>
        URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
      const both = `import '${blob(script)}'; import '${new URL('/bundle/worker.js', location.href)}';`;
      const model = await heddle.loadModel('./model/', {
        worker: () => new Worker(blob(both), { type: 'module' }),
      });
      const channel = new BroadcastChannel('full');
      const set = (value: boolean): Promise<void> =>
        new Promise((resolve) => {
          channel.onmessage = () => resolve();
          channel.postMessage(value);
        });
      const session = model.session();
      await session.read(prompt);
      await set(true);
      const sessions = [];
      let error = '';
      for (let i = 0; i < 200 && error === ''; i++) {
        const other = model.session();
        sessions.push(other);
        await other.read(prompt).catch((reason: Error) => {
          error = `${reason.name}: ${reason.message}`;
        });
      }
      await set(false);
      let text = '';
      for await (const piece of session.generate({ maxTokens: 12, seed: 3 })) text += piece.text;
      return { error, text };
    }, PROMPT);
    expect(found.error).toMatch(/DeviceLimitError: the wasm device is out of memory/);
    expect(found.text).toBe((await expected()).text);
  });
});
