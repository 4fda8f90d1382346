/** `npm run bench -- browser`: the speed in a tab of Chromium, in alternating rounds with Node and with peers in the same browser. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Command, Option } from 'commander';
import type { Browser, Page } from 'playwright-core';
import { openDevice } from '../engine/index.js';
import { ConfigError } from '../errors.js';
import { type LanguageModel, loadModel } from '../generate/index.js';
import { hybridModel, preset } from '../models/index.js';
import { encodeCorpus, splitCorpus, Tokenizer, tokenizerFiles, trainBpe } from '../text/index.js';
import { defaultSequence, TRAINING_DEFAULTS, type TrainingEvent, textData, train } from '../train/index.js';
import { listOf } from './list-of.js';
import { describeMachine } from './machine.js';
import { positive } from './positive.js';
import { quantile } from './quantile.js';
import { machineText } from './report.js';
import { writeServedModel } from './serve-model.js';
import { SHAPES, type ShapeName } from './shapes.js';
import { serveFolders } from './static-server.js';
import { decimal, table } from './table.js';

const SECTIONS = ['write', 'train', 'demo'] as const;

interface BrowserOptions {
  readonly threads: number;
  readonly shape: ShapeName;
  readonly bits: number;
  readonly tokens: number;
  readonly rounds: number;
  readonly steps: number;
  readonly only: readonly (typeof SECTIONS)[number][];
  readonly peer: readonly string[];
  readonly chromium: string;
  readonly demo: string;
}

/** The library as imported by the page. */
declare const heddle: {
  loadModel(source: string, options: object): Promise<PageModel>;
  train(training: object): Promise<unknown>;
};
interface PageModel {
  session(): {
    read(ids: number[]): Promise<unknown>;
    generate(options: object): AsyncGenerator<unknown, unknown>;
    dispose(): Promise<void>;
  };
}
declare const writers: Record<string, (tokens: number) => Promise<number>>;

const BUNDLE = fileURLToPath(new URL('../browser', import.meta.url));
const PROMPT = 128;

/** Adds `bench -- browser`. */
export function addBrowserCommand(program: Command): void {
  program
    .command('browser')
    .description(
      'decoding, training and the demo in a tab of Chromium, in alternating rounds with Node and with peers',
    )
    .option('--threads <n>', 'threads that compute', positive, 2)
    .addOption(
      new Option('--shape <name>', 'random weights of this shape')
        .choices(Object.keys(SHAPES))
        .default('granite-350m'),
    )
    .option('--bits <n>', 'bits of the weights: 4 or 8', positive, 4)
    .option('--tokens <n>', 'tokens decoded per round', positive, 48)
    .option('--rounds <n>', 'rounds, of which the median is reported', positive, 5)
    .option('--steps <n>', 'training steps of a nano hybrid', positive, 200)
    .addOption(
      new Option('--only <sections>', `some of ${SECTIONS.join(',')}`)
        .argParser(listOf(SECTIONS))
        .default(SECTIONS, 'all'),
    )
    .option(
      '--peer <folder>',
      'a peer in the same browser, such as bench/peers/wllama; may be repeated',
      (folder: string, all: readonly string[]) => [...all, folder],
      [],
    )
    .option('--chromium <file>', 'the browser', '/usr/bin/chromium')
    .option('--demo <folder>', "the demo, built by 'npm run demo'", 'dist-demo')
    .action((options: BrowserOptions) => run(options));
}

async function run(options: BrowserOptions): Promise<void> {
  if (!existsSync(options.chromium)) {
    throw new ConfigError(`${options.chromium} is not there: install Chromium, or name it with --chromium`);
  }
  const { chromium } = await import('playwright-core');
  say(machineText(describeMachine('cpu', options.threads)));
  const browser = await chromium.launch({
    executablePath: options.chromium,
    args: ['--no-sandbox', '--disable-gpu'],
  });
  say(`Chromium ${browser.version()}`);
  try {
    if (options.only.includes('write')) await measureWriting(browser, options);
    if (options.only.includes('train')) await measureTraining(browser, options);
    if (options.only.includes('demo')) await measureDemo(browser, options);
  } finally {
    await browser.close();
  }
}

/** Measures greedy decoding after a short text. */
async function measureWriting(browser: Browser, options: BrowserOptions): Promise<void> {
  const { shape, bits, threads, tokens, rounds, peer } = options;
  const made = await mkdtemp(join(tmpdir(), 'heddle-bench-'));
  const { folder } = await writeServedModel(made, shape, bits as 4 | 8);
  const peers = peer.map((path) => resolve(path));
  for (const path of peers) {
    execFileSync(process.execPath, [join(path, 'make.mjs'), shape, String(bits), made]);
  }
  const folders = Object.fromEntries(peers.map((path, i) => [`/peers/${i}/`, path]));
  // Peers share files beside their folders.
  const server = await serveFolders({
    '/heddle/': BUNDLE,
    '/model/': `${folder}/`,
    '/made/': made,
    ...folders,
  });
  const node = await loadModel(folder, { device: 'wasm', threads });
  try {
    const page = await openPage(browser, server.url);
    await page.evaluate(
      async ({ peers, threads, prompt }) => {
        const made: Record<string, (tokens: number) => Promise<number>> = {};
        Object.assign(globalThis, { writers: made });
        const model = await heddle.loadModel('./model/', { threads });
        made.heddle = async (tokens) => {
          const session = model.session();
          await session.read(Array.from({ length: prompt }, (_, i) => 300 + i));
          const times: number[] = [];
          for await (const _ of session.generate({ maxTokens: tokens, temperature: 0 }))
            times.push(performance.now());
          await session.dispose();
          return ((times.length - 1) * 1000) / (times.at(-1)! - times[0]!);
        };
        for (const i of peers.keys()) {
          const { load } = await import(`${location.origin}/peers/${i}/page.js`);
          made[i] = await load(`${location.origin}/made/`, threads);
        }
      },
      { peers, threads, prompt: PROMPT },
    );
    const inPage = (name: string) => (): Promise<number> =>
      page.evaluate(([name, tokens]) => writers[name as string]!(tokens as number), [name, tokens] as const);
    const contenders: [string, () => Promise<number>][] = [
      ['Heddle in Node, wasm', () => writeInNode(node, tokens)],
      ['Heddle in Chromium', inPage('heddle')],
      ...peers.map((path, i): [string, () => Promise<number>] => [
        `${path.split('/').at(-1)} in Chromium`,
        inPage(String(i)),
      ]),
    ];
    const rates = contenders.map((): number[] => []);
    // The first run compiles.
    for (const [, write] of contenders) await write();
    for (let round = 0; round < rounds; round++) {
      for (const [i, [, write]] of contenders.entries()) rates[i]!.push(await write());
    }
    const [inNode] = rates.map((all) => quantile(all, 0.5)) as [number];
    say(
      `writing     ${shape}, ${bits} bits, ${threads} threads, after ${PROMPT} tokens, medians of ${rounds} alternating rounds\n${table(
        [
          ['', 'tokens/s', 'least', 'most', 'of Node'],
          ...contenders.map(([name], i) => {
            const middle = quantile(rates[i]!, 0.5);
            return [
              name,
              decimal(middle),
              decimal(Math.min(...rates[i]!)),
              decimal(Math.max(...rates[i]!)),
              `${(middle / inNode).toFixed(2)} x`,
            ];
          }),
        ],
      )}`,
    );
    await page.context().close();
  } finally {
    await node.dispose();
    await server.stop();
    await rm(made, { recursive: true, force: true });
  }
}

async function writeInNode(model: LanguageModel, tokens: number): Promise<number> {
  const session = model.session();
  await session.read(Array.from({ length: PROMPT }, (_, i) => 300 + i));
  const times: number[] = [];
  for await (const _ of session.generate({ maxTokens: tokens, temperature: 0 }))
    times.push(performance.now());
  session.dispose();
  return ((times.length - 1) * 1000) / (times.at(-1)! - times[0]!);
}

/** Trains the nano hybrid with the same text and settings in a tab, and in Node on ONNX Runtime. */
async function measureTraining(browser: Browser, { steps, threads, demo }: BrowserOptions): Promise<void> {
  const text = await readFile(join(demo, 'example.txt'), 'utf8').catch((error: unknown) => {
    throw new ConfigError(`${demo} has no text to train on: build the demo first (npm run demo)`, {
      cause: error,
    });
  });
  const settings = { steps, evaluateEvery: 0, saveEvery: 0 };
  const server = await serveFolders({ '/heddle/': BUNDLE });
  const folder = await mkdtemp(join(tmpdir(), 'heddle-bench-'));
  try {
    const page = await openPage(browser, server.url);
    const inTab = await page.evaluate(
      async ({ text, settings, threads }) => {
        const told: { loss: number; tokensPerSecond: number }[] = [];
        await heddle.train({
          ...{ name: 'bench', text, settings, threads },
          onEvent: (event: { event: string; loss: number; tokensPerSecond: number }) => {
            if (event.event === 'step') told.push(event);
          },
        });
        return told;
      },
      { text, settings, threads },
    );
    await page.context().close();
    const split = splitCorpus({ documents: [{ name: 'bench', text }] }, { validationFraction: 0.05 });
    const learned = trainBpe([split.training[0]!.text], { vocabSize: 512 });
    const tokenizer = new Tokenizer(tokenizerFiles(learned));
    const model = hybridModel(preset('hybrid', 'nano', tokenizer.vocabSize));
    const device = await openDevice('cpu', { threads });
    const inNode: { loss: number; tokensPerSecond: number }[] = [];
    await train({
      ...{ model, tokenizer, device, folder: join(folder, 'run') },
      data: textData(encodeCorpus(tokenizer, split.training), encodeCorpus(tokenizer, split.validation)),
      settings: { ...TRAINING_DEFAULTS, sequence: defaultSequence(model), ...settings },
      onEvent: (event: TrainingEvent) => event.event === 'step' && inNode.push(event),
    });
    await device.dispose();
    const rate = (all: readonly { tokensPerSecond: number }[]): number =>
      quantile(
        all.map(({ tokensPerSecond }) => tokensPerSecond),
        0.5,
      );
    const apart = inTab.map(({ loss }, i) => Math.abs(loss - inNode[i]!.loss));
    say(
      `training    nano hybrid, ${steps} steps, ${threads} threads\n${table([
        ['', 'tokens/s', 'last loss', 'of Node'],
        ['Heddle in Node, ONNX Runtime', decimal(rate(inNode)), inNode.at(-1)!.loss.toFixed(5), '1.00 x'],
        [
          'Heddle in Chromium',
          decimal(rate(inTab)),
          inTab.at(-1)!.loss.toFixed(5),
          `${(rate(inTab) / rate(inNode)).toFixed(2)} x`,
        ],
      ])}\n  losses of the same step differ by at most ${Math.max(...apart).toExponential(1)} nats, the last by ${apart.at(-1)!.toExponential(1)}`,
    );
  } finally {
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Measures the time from opening the page to the first token, on a first visit and on later ones. */
async function measureDemo(browser: Browser, { demo, rounds }: BrowserOptions): Promise<void> {
  if (!existsSync(join(demo, 'index.html'))) {
    throw new ConfigError(`${demo} has no demo: build it first (npm run demo)`);
  }
  const server = await serveFolders({ '/demo/': demo });
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    const firstToken = async (): Promise<number> => {
      const began = performance.now();
      await page.goto(`${server.url}demo/`);
      await page.getByText('ready in').waitFor();
      await page.getByRole('button', { name: 'Write', exact: true }).click();
      await page.locator('.text .model').waitFor();
      return (performance.now() - began) / 1000;
    };
    const first = await firstToken();
    const later: number[] = [];
    for (let round = 0; round < rounds; round++) later.push(await firstToken());
    say(
      `demo        from opening the page to its first token: ${first.toFixed(2)} s on the first visit, ${quantile(later, 0.5).toFixed(2)} s later (median of ${rounds}, ${Math.min(...later).toFixed(2)} to ${Math.max(...later).toFixed(2)})`,
    );
    await context.close();
  } finally {
    await server.stop();
  }
}

async function openPage(browser: Browser, url: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(0);
  await page.goto(url);
  await page.evaluate(
    `import('/heddle/index.js').then((module) => Object.assign(globalThis, { heddle: module }))`,
  );
  return page;
}

function say(text: string): void {
  process.stdout.write(`${text}\n\n`);
}
