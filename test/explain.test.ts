/** `heddle explain`: its summary, its JSON, and its page, which is opened in a browser if there is one. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeTrace, type Trace, type TraceJson } from '../src/inspect/index.js';
import { hybridModel, writeModel } from '../src/models/index.js';
import { tinyConfig, tinyWeights } from '../src/models/testing/tiny.js';
import { tinyTokenizer } from '../src/text/testing/tiny.js';

import { CHROMIUM, type Look, seriousViolations, visit, WITHOUT_CHROMIUM } from './testing/browser.js';

import { build, heddle } from './testing/heddle.js';

const root = mkdtempSync(join(tmpdir(), 'heddle-explain-'));
const model = join(root, 'a<b>&c');
const page = join(root, 'page.html');
const TEXT = 'the cat sat on the mat</script><script>alert(1)</script>, and the dog sat on the cat';

let trace: Trace;

async function explain(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await heddle(['explain', model, '--threads', '1', ...args]);
  expect(stderr).not.toContain('heddle:');
  expect(code).toBe(0);
  return { stdout, stderr };
}

beforeAll(async () => {
  build();
  mkdirSync(model);
  const tiny = hybridModel(tinyConfig({ eosTokenId: undefined, mambaNumHeads: 20, hiddenSize: 64 }));
  await writeModel(model, tiny, tinyWeights(tiny));
  await tinyTokenizer.save(model);
  const { stdout } = await explain('--text', TEXT, '--write', '3', '--json', '--out', page);
  trace = decodeTrace(JSON.parse(stdout) as TraceJson);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('the JSON is a trace of the text and its continuation', () => {
  const read = tinyTokenizer.encode(TEXT).length;
  expect(trace.tokens).toHaveLength(read + 3);
  expect(trace.attributions.map(({ position }) => position)).toEqual([read, read + 1, read + 2]);
  expect(trace.attributions.map(({ token }) => token.id)).toEqual(
    trace.tokens.slice(read).map(({ id }) => id),
  );
  expect(trace.layers[0]!.mixers[0]!.weights!.dims).toEqual([20, read + 3, read + 3]);
});

test('a checkpoint without a tokenizer takes ids, and its short convolutions are shown', async () => {
  const lfm2 = fileURLToPath(new URL('fixtures/hf/lfm2', import.meta.url));
  const { code, stdout, stderr } = await heddle([
    'explain',
    lfm2,
    '--text',
    '5 6 7',
    '--write',
    '1',
    '--json',
  ]);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const { tokens, layers } = decodeTrace(JSON.parse(stdout) as TraceJson);
  expect(tokens.slice(0, 3).map(({ text }) => text.trim())).toEqual(['5', '6', '7']);
  expect(layers[0]!.mixers[0]!.weights!.dims.slice(1)).toEqual([4, 4]);
});

test('the summary has the same contents as text', async () => {
  const { stdout, stderr } = await explain('--text', TEXT, '--write', '3', '--layers', '0,5');
  expect(stdout).toMatch(/a<b>&c, M-\*W-S: reads \d+ tokens, \d+\.\d\d nats of surprise each, adds 3/);
  expect(stdout).toMatch(/layer 0 +Mamba-2 +20 +until 1\/e is left/);
  expect(stdout).toMatch(/layer 5 +selective attention +4 +the last 5, and the best 6 before them/);
  expect(stdout).not.toContain('layer 2');
  expect(stdout).toContain('Where its words come from');
  expect(stdout.match(/the best 4: -?\d+\.\d\d {2,}4 at random: -?\d/g)).toHaveLength(3);
  expect(stdout).toMatch(/layer 5 keeps 6 of the \d+ tokens before its window, before all '/);
  expect(stderr).toContain('--out page.html');
});

test('one token without a continuation', async () => {
  const { stdout } = await explain('--text', 't', '--write', '0');
  expect(stdout).toContain('reads 1 token\n');
  expect(stdout).not.toContain('Where its words come from');
});

test('a quantized model has all tables but the attribution', async () => {
  const { stdout, stderr } = await explain('--text', TEXT, '--quantize', 'int8');
  expect(stdout).toContain('Mamba-2');
  expect(stderr).toContain('which quantized weights do not have');
});

test('an empty text and a missing layer are refused', async () => {
  const empty = await heddle(['explain', model, '--text', '']);
  expect([empty.code, empty.stderr]).toEqual([
    1,
    'heddle: the prompt has no tokens: give some text to read\n',
  ]);
  const layer = await heddle(['explain', model, '--text', TEXT, '--layers', '9']);
  expect([layer.code, layer.stderr]).toEqual([1, 'heddle: there is no layer 9: expected 0 to 5\n']);
});

test('the page is one file without references to others', () => {
  const html = readFileSync(page, 'utf8');
  expect(html).toContain('<title>a&lt;b>&amp;c, looked into</title>');
  expect(html.match(/<script/g)).toHaveLength(2);
  expect(html).not.toMatch(/<link|<script[^>]* src=|@import|url\((?!["']?data:)/);
});

describe.skipIf(CHROMIUM === undefined)(`in a browser${WITHOUT_CHROMIUM}`, () => {
  async function opened(look: Look, walk: (page: Page) => Promise<void>): Promise<void> {
    const { page: tab, complaints, close } = await visit(pathToFileURL(page).href, look);
    try {
      await tab.waitForSelector('.heatmap canvas');
      await walk(tab);
      expect(complaints).toEqual([]);
    } finally {
      await close();
    }
  }

  test.each([{ width: 1280 }, { width: 1280, dark: true }, { width: 390 }, { width: 390, dark: true }])(
    '%j: nothing sticks out, nothing keeps anybody out',
    (look) =>
      opened(look, async (tab) => {
        const beyond = await tab.evaluate('document.documentElement.scrollWidth - innerWidth');
        expect(beyond).toBeLessThanOrEqual(0);
        expect(await tab.evaluate('document.documentElement.dataset.theme')).toBe(
          look.dark ? 'dark' : 'light',
        );
        expect(await seriousViolations(tab)).toEqual([]);
      }),
  );

  /** What is said of layer 0 is what the trace has of this head and row. */
  async function expectReading(tab: Page, head: number, row: number): Promise<void> {
    const { weights } = trace.layers[0]!.mixers[0]!;
    const size = trace.tokens.length;
    const [reading, shown] = await Promise.all([
      tab.locator('output.reading').textContent(),
      tab.locator('[data-value]').textContent(),
    ]);
    const column = Number(/reads.*\((\d+)\)/.exec(reading!)![1]);
    const value = weights!.data[(head * size + row) * size + column]!;
    expect(reading).toContain(`(${row})`);
    expect(value).not.toBe(0);
    expect(Number(shown)).toBe(Number(value.toPrecision(3)));
  }

  test('the keyboard selects layers, heads and tokens, with the values of the trace', () =>
    opened({}, async (tab) => {
      await tab.getByRole('button', { name: /^M\s*0\s*: Mamba-2$/ }).press('Enter');
      await tab.getByRole('radio', { name: '0', exact: true }).press('ArrowRight');
      const map = tab.getByRole('application');
      await map.press('ArrowUp');
      await map.press('ArrowRight');
      await map.press('ArrowRight');
      await expectReading(tab, 1, trace.tokens.length - 2);
    }));

  test('more heads than fit side by side', () =>
    opened({}, async (tab) => {
      await tab.getByRole('button', { name: /^M\s*0\s*: Mamba-2$/ }).press('Enter');
      await tab.getByLabel('heads').selectOption('16 to 19');
      expect(await tab.getByRole('radio').count()).toBe(4);
      await expectReading(tab, 16, trace.tokens.length - 1);
    }));

  test('the lines of a plot are named in their colours', () =>
    opened({}, async (tab) => {
      const colours = await tab
        .locator('.plot .legend li')
        .evaluateAll((items) => items.map((item) => getComputedStyle(item, '::before').backgroundColor));
      expect(colours).toHaveLength(2);
      expect(new Set(colours).size).toBe(2);
      expect(colours).not.toContain('rgba(0, 0, 0, 0)');
    }));

  test('generated tokens can be selected', () =>
    opened({}, async (tab) => {
      const words = tab.getByRole('group', { name: 'Tokens whose sources are known' }).getByRole('button');
      expect(await words.count()).toBe(3);
      await words.first().press('Enter');
      expect(await words.first().getAttribute('aria-pressed')).toBe('true');
      const { scores } = trace.attributions[0]!;
      const largest = [...scores.data].sort((a, b) => Math.abs(b) - Math.abs(a))[0]!;
      const counts = tab.locator('section[aria-label="The tokens that count most"] .number');
      expect(Number(await counts.first().textContent())).toBe(Number(largest.toPrecision(3)));
    }));
});
