/** The studio as a whole, in a real browser, with its server and the shipped model. */
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { formatBytes } from '../src/cli/format.js';
import type { TraceJson } from '../src/inspect/index.js';
import { letters } from '../src/train/testing/base.js';
import {
  CHROMIUM,
  type Look,
  PATIENCE,
  seriousViolations,
  type Visit,
  visit,
  WITHOUT_CHROMIUM,
} from './testing/browser.js';
import { build, HEDDLE, heddle } from './testing/heddle.js';
import { post, type Served, type State, serve, writeTinyModel } from './testing/server.js';

const MODEL = 'sotu-hybrid';
const FAMILIES = ['falcon_h1', 'jamba', 'lfm2', 'qwen3_next', 'recurrent_gemma', 'zamba2'];
const fixtures = fileURLToPath(new URL('./fixtures/hf', import.meta.url));
const assets = fileURLToPath(new URL('../assets', import.meta.url));

let here: string;
let served: Served;
beforeAll(async () => {
  build();
  here = mkdtempSync(join(tmpdir(), 'heddle-studio-'));
  mkdirSync(join(here, 'runs'));
  cpSync(join(assets, 'sotu-runs', 'ssm'), join(here, 'runs', 'ssm'), { recursive: true });
  cpSync(join(assets, MODEL), join(here, 'twin'), { recursive: true });
  served = await serve([
    join(assets, MODEL),
    join(here, 'twin'),
    ...['--data', join(here, 'data'), '--runs', join(here, 'runs')],
  ]);
});
afterAll(async () => {
  await served?.stop();
  rmSync(here, { recursive: true, force: true });
});

async function states(): Promise<State[]> {
  const answer = (await (await fetch(`${served.url}/v1/states`)).json()) as { data: State[] };
  return answer.data;
}

test('the first visit loads little, and the page has no inline script', async () => {
  const page = await (await fetch(served.url)).text();
  expect(page).not.toMatch(/<script(?![^>]*\bsrc=)|\son\w+=|<style/);
  const loaded = [...page.matchAll(/(?:src|href)="\.?(\/assets\/[^"]+)"/g)].map(([, path]) => path!);
  expect(loaded.some((path) => path.endsWith('.js'))).toBe(true);
  let bytes = 0;
  for (const path of loaded) {
    const answer = await fetch(served.url + path);
    expect(answer.status, path).toBe(200);
    bytes += (await answer.arrayBuffer()).byteLength;
  }
  expect(bytes).toBeLessThan(200_000);
});

test('an impossible trace is refused with the reason', async () => {
  const refused = async (body: object, message: RegExp): Promise<void> => {
    const answer = await post(`${served.url}/studio/api/trace`, { model: MODEL, options: {}, ...body });
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.status).toBeLessThan(500);
    const { error } = (await answer.json()) as { error: { message: string } };
    expect(error.message).toMatch(message);
  };
  await refused({ text: 'a', model: 'none' }, /not served here/);
  await refused({}, /a text or messages/);
  await refused({ text: 'a', messages: [{ role: 'user', content: 'a' }] }, /not both/);
  await refused({ text: 'a', options: { layers: [99] } }, /layer/);
  await refused({ text: 'a', options: { attribute: [5] } }, /.+/);
});

describe.skipIf(CHROMIUM === undefined)(`in a browser${WITHOUT_CHROMIUM}`, () => {
  let visited: Visit | undefined;
  /** A server that wants a key, and that key. */
  let locked: Served;
  let key: string;
  /** One of small models, the first with a chat template, that knows of no training runs. */
  let others: Served;
  beforeAll(async () => {
    const keys = join(here, 'keys.json');
    key = (await heddle(['key', keys, 'me'])).stdout.trim();
    const template =
      "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    await writeTinyModel(join(here, 'tiny-chat'), { template });
    const folders = FAMILIES.map((family) => join(here, family));
    for (const [i, folder] of folders.entries()) {
      cpSync(join(fixtures, FAMILIES[i]!), folder, { recursive: true });
      await letters.save(folder);
    }
    [locked, others] = await Promise.all([
      serve([join(here, 'twin'), '--keys', keys, '--data', join(here, 'locked')]),
      serve([
        join(here, 'tiny-chat'),
        ...folders,
        ...['--data', join(here, 'others'), '--runs', join(here, 'my runs')],
      ]),
    ]);
  });
  afterAll(async () => {
    await Promise.all([locked?.stop(), others?.stop()]);
  });
  beforeEach(async () => {
    for (const { id } of await states()) await fetch(`${served.url}/v1/states/${id}`, { method: 'DELETE' });
  });
  afterEach(async () => {
    const complaints = visited?.complaints ?? [];
    await visited?.close();
    visited = undefined;
    expect(complaints).toEqual([]);
  });

  /** Answers are short, and the same each time, unless a test says otherwise. */
  const SAMPLING = { seed: 3, maxTokens: 16 };
  const BRIEF = { 'heddle.chat': JSON.stringify({ sampling: SAMPLING }) };

  async function open(path = '', from = served.url, look: Look = {}): Promise<Page> {
    visited = await visit(`${from}/${path}`, { stored: BRIEF, ...look });
    return visited.page;
  }

  const composer = (page: Page) => page.getByRole('textbox', { name: 'Say something' });
  const snapshots = (page: Page) => page.locator('.tree button[data-turn]');
  const answers = (page: Page) => page.locator('.answer').allTextContents();
  const figure = async (page: Page, name: string): Promise<string | null> =>
    page.locator(`[data-figure="${name}"]`).textContent();

  /** Writes something and sends it, once the page has its models. */
  async function send(page: Page, text: string): Promise<void> {
    await composer(page).fill(text);
    await page.getByRole('button', { name: 'Send', disabled: false }).waitFor();
    await composer(page).press('Enter');
  }

  /** Says something and waits for all answers. */
  async function say(page: Page, text: string): Promise<void> {
    await send(page, text);
    await page.locator('.said', { hasText: text }).last().waitFor();
    await finished(page);
  }

  async function finished(page: Page): Promise<void> {
    await page.getByRole('button', { name: 'Send' }).waitFor();
    await page.locator('.turn[data-status="writing"]').waitFor({ state: 'detached' });
  }

  async function settle(page: Page, settings: Readonly<Record<string, number>>): Promise<void> {
    await page.locator('.composer summary').click();
    for (const [label, value] of Object.entries(settings)) {
      await page.getByLabel(label).fill(String(value));
      await page.getByLabel(label).press('Tab');
    }
    await page.locator('.composer summary').click();
  }

  /** Agrees to what is asked. */
  async function confirm(page: Page, title: string, action: string): Promise<void> {
    const question = page.getByRole('dialog', { name: title });
    await question.getByRole('button', { name: action }).click();
    await question.waitFor({ state: 'detached' });
  }

  /** What the browser itself complains of when requests fail is no complaint. */
  function forgive(...complaints: readonly RegExp[]): void {
    for (const complaint of visited!.complaints) {
      expect(
        complaints.some((known) => known.test(complaint)),
        complaint,
      ).toBe(true);
    }
    (visited!.complaints as string[]).length = 0;
  }

  const waiting = { timeout: PATIENCE };

  test('an answer streams, and equals that of other clients', async () => {
    const page = await open();
    await settle(page, { Seed: 3, 'Longest answer, tokens': 40 });
    await page.evaluate(() => {
      const lengths = new Set<number>();
      Object.assign(window, { lengths });
      new MutationObserver(() => {
        lengths.add(document.querySelector('.answer')?.textContent?.length ?? 0);
      }).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    await say(page, 'The state of our Union is');
    const lengths = await page.evaluate(() => [...(window as unknown as { lengths: Set<number> }).lengths]);
    expect(lengths.length, `the answer had the lengths ${lengths}`).toBeGreaterThan(3);
    const direct = await post(`${served.url}/v1/chat/completions`, {
      model: MODEL,
      messages: [{ role: 'user', content: 'The state of our Union is' }],
      ...{ seed: 3, max_tokens: 40 },
    });
    const { choices } = (await direct.json()) as { choices: { message: { content: string } }[] };
    expect(await answers(page)).toEqual([choices[0]!.message.content.replace(/^ +/, '')]);
  });

  test("the memory panel shows the server's numbers", async () => {
    const page = await open();
    await say(page, 'My fellow citizens');
    const [first] = await states();
    expect(await figure(page, 'tokens')).toBe(String(first!.tokens));
    expect(await figure(page, 'bytes')).toMatch(/^1\.6\d MB$/);
    await say(page, 'And the Treasury');
    const second = (await states()).find(({ parent }) => parent === first!.id)!;
    expect(await figure(page, 'tokens')).toBe(String(second.tokens));
    const [reused, read, written] = await Promise.all(
      ['reused', 'read', 'written'].map(async (name) => Number(await figure(page, name))),
    );
    expect(reused).toBe(first!.tokens);
    expect(reused! + read! + written!).toBe(second.tokens);
  });

  test('the first screen offers something to say; the memory is drawn beside that of a transformer', async () => {
    // As at 200 %, where not all of it fits, it is shown from its start.
    const page = await open('', served.url, { width: 640, height: 400 });
    const title = page.getByText('has read nothing yet');
    await title.waitFor();
    const turns = (await page.locator('.turns').boundingBox())!;
    expect((await title.boundingBox())!.y).toBeGreaterThan(turns.y);
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.getByRole('button', { name: 'The state of our Union is' }).click();
    await page.locator('.said', { hasText: 'The state of our Union is' }).waitFor();
    await finished(page);
    await say(page, 'And the Treasury');
    const tokens = Number((await figure(page, 'tokens'))!.replace(',', ''));
    // Keys and values of 10 layers of width 256, in 16 bits and for four heads together.
    const perToken = 10 * 2 * 64 * 2;
    const caption = (await page.locator('#memory figcaption').textContent())!;
    const held = formatBytes(tokens * perToken);
    const said = new RegExp(
      `after ${tokens}\\. Dashed: .* holds ${held}, and (\\S+ MB) at ([\\d,]+) tokens\\.$`,
    ).exec(caption);
    expect(said?.[1]).toBe(await figure(page, 'bytes'));
    const equal = Number((said?.[2] ?? '').replace(',', ''));
    expect(formatBytes(equal * perToken)).toBe(said?.[1]);
  });

  test('a conversation with a model that is not served is told of, and stays', async () => {
    const turn = { id: 't', kind: 'turn', said: 'Hello', answer: 'Yes', status: 'done' };
    const chat = { trees: { elsewhere: [turn] }, lanes: [{ id: 'l', model: 'elsewhere', head: 't' }] };
    const page = await open('', served.url, { stored: { 'heddle.chat': JSON.stringify(chat) } });
    await page.getByText('Your conversation with elsewhere is kept').waitFor();
    await page.getByText(`${MODEL} has read nothing yet`).waitFor();
    await page.reload();
    await page.getByText('Your conversation with elsewhere is kept').waitFor();
  });

  test('the same message after a return to a snapshot gives the same answer, in a new branch', async () => {
    const page = await open();
    await say(page, 'My fellow citizens');
    await say(page, 'And the Treasury');
    const before = await answers(page);
    await snapshots(page).first().click();
    expect(await answers(page)).toEqual(before.slice(0, 1));
    await say(page, 'And the Treasury');
    expect(await answers(page)).toEqual(before);
    expect(await snapshots(page).count()).toBe(3);
    expect(await snapshots(page).nth(2).getAttribute('aria-current')).toBe('step');
    await page.locator('.tree button').first().click();
    expect(await answers(page)).toEqual([]);
  });

  test('a fork continues beside its origin, independently', async () => {
    const page = await open();
    await settle(page, { Temperature: 0 });
    await say(page, 'My fellow citizens');
    const [original] = await states();
    await page.locator('.actions').getByRole('button', { name: 'Fork' }).click();
    await page.locator('.lane').nth(1).waitFor();
    expect((await states()).map(({ parent }) => parent)).toContain(original!.id);
    await say(page, 'And the Treasury');
    const [left, right] = await page.locator('.lane').all();
    const answer = (lane: typeof left) => lane!.locator('.answer').last().textContent();
    expect(await answer(left)).toBe(await answer(right));
    // Two lanes of one model have names of their own; closing one asks.
    expect(await page.locator('.lane header').allTextContents()).toEqual([`${MODEL} 1✕`, `${MODEL} 2✕`]);
    const close = page.getByRole('button', { name: `Close the lane of ${MODEL} 2` });
    await close.click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    expect(await page.locator('.lane').count()).toBe(2);
    await close.click();
    await confirm(page, `Close ${MODEL} 2?`, 'Close');
    await expect.poll(() => page.locator('.lane').count(), waiting).toBe(1);
  });

  test('several models answer the same message side by side', async () => {
    const page = await open();
    await page.getByRole('checkbox', { name: 'twin', exact: true }).check();
    await say(page, 'My fellow citizens');
    const [left, right] = await answers(page);
    expect(left!.length).toBeGreaterThan(10);
    // They have the same weights.
    expect(right).toBe(left);
    await page.getByRole('checkbox', { name: 'twin', exact: true }).click();
    await confirm(page, 'Close twin?', 'Close');
    await expect.poll(() => page.locator('.lane').count(), waiting).toBe(1);
    expect(await page.getByRole('checkbox', { name: 'twin', exact: true }).isChecked()).toBe(false);
  });

  test("a model of the server runs in the tab, with the server's answers and traces", async () => {
    const page = await open();
    // An earlier version that the browser has kept, of which no page can ask for anything any more.
    await page.evaluate(async (model) => {
      let folder = await navigator.storage.getDirectory();
      const address = new URL(`/studio/api/models/${model}/before/`, location.href).href;
      for (const name of ['heddle', 'models', encodeURIComponent(address)])
        folder = await folder.getDirectoryHandle(name, { create: true });
      const note = await (await folder.getFileHandle('.whole.json', { create: true })).createWritable();
      await note.write(JSON.stringify({ bytes: 3, files: [] }));
      await note.close();
    }, MODEL);
    await page.getByText('Stored models').click();
    await page.keyboard.press('Escape');
    expect(
      await page.locator('.kept-models').evaluate((element) => (element as HTMLDetailsElement).open),
    ).toBe(false);
    await page.keyboard.press('Enter');
    const kept = page.getByRole('button', { name: `Delete ${MODEL}` });
    await kept.waitFor();
    expect(await page.locator('.kept-models li').allTextContents()).toEqual([`${MODEL}3 BDelete`]);
    await page.getByText('Stored models').click();
    const here = page.getByRole('checkbox', { name: `${MODEL} (this tab)` });
    await here.click();
    await page.locator('.lane').nth(1).waitFor();
    await page.getByText('Stored models').click();
    await page.locator('.kept-models li').filter({ hasText: 'MB' }).waitFor();
    expect(await kept.count()).toBe(1);
    await page.getByText('Stored models').click();
    // From here on the server is asked for nothing that has to be computed.
    const asked: string[] = [];
    page.on('request', (request) => {
      const { protocol, pathname } = new URL(request.url());
      if (protocol !== 'blob:') asked.push(pathname);
    });
    await page.getByRole('checkbox', { name: MODEL, exact: true }).click();
    await expect.poll(() => page.locator('.lane').count(), waiting).toBe(1);
    await say(page, 'My fellow citizens');
    await say(page, 'And the Treasury');
    expect(await snapshots(page).count()).toBe(2);
    expect(Number(await figure(page, 'reused'))).toBeGreaterThan(3);
    await snapshots(page).first().click();
    await say(page, 'And the Navy');
    const inTab = await answers(page);
    await page.getByRole('button', { name: 'Look inside' }).last().click();
    await page.locator('.cells').waitFor();
    expect((await page.locator('.token').allTextContents()).join('')).toContain('And the Navy');
    expect(asked.filter((path) => !/^\/(assets|heddle|v1\/(models|states))/.test(path))).toEqual([]);
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    await page.getByRole('link', { name: 'Chat' }).click();
    await page.getByRole('checkbox', { name: MODEL, exact: true }).click();
    await here.click();
    await confirm(page, `Close ${MODEL} (this tab)?`, 'Close');
    await say(page, 'My fellow citizens');
    await say(page, 'And the Navy');
    expect(await answers(page)).toEqual(inTab);
  });

  test('a named snapshot is kept when all others are released, and can be resumed', async () => {
    const page = await open();
    await say(page, 'My fellow citizens');
    await page.getByLabel('Name of this snapshot').fill('the opening');
    await page.getByRole('button', { name: 'Save memory' }).click();
    await page.getByRole('button', { name: 'Resume the opening' }).waitFor();
    await say(page, 'And the Treasury');
    const before = await answers(page);
    await page.reload();
    await page.locator('.turn').nth(1).waitFor();
    await page.getByRole('button', { name: 'Resume the opening' }).waitFor();
    expect(await answers(page)).toEqual(before);
    await page.getByRole('button', { name: 'New chat' }).click();
    const question = page.getByRole('dialog', { name: 'Start a new chat?' });
    expect(await question.textContent()).toMatch(/2 turns and 1 snapshot of memory .* will be deleted/);
    expect(await question.textContent()).toMatch(/The 1 saved memory will stay/);
    // Escape is no; all is there still.
    await page.keyboard.press('Escape');
    await question.waitFor({ state: 'detached' });
    expect(await answers(page)).toEqual(before);
    expect(await states()).toHaveLength(2);
    await page.getByRole('button', { name: 'New chat' }).click();
    await confirm(page, 'Start a new chat?', 'New chat');
    await expect.poll(async () => (await states()).map(({ name }) => name), waiting).toEqual(['the opening']);
    expect(await answers(page)).toEqual([]);
    await page.getByRole('button', { name: 'Resume the opening' }).click();
    await say(page, 'And the Treasury');
    expect(await answers(page)).toEqual(before.slice(1));
    await page.getByRole('button', { name: 'Delete the opening' }).click();
    await confirm(page, 'Delete the opening?', 'Delete');
    await page.getByRole('heading', { name: 'Saved memories' }).waitFor({ state: 'detached' });
  });

  test('a state that the server has lost is processed again', async () => {
    const page = await open();
    await say(page, 'My fellow citizens');
    const [lost] = await states();
    await fetch(`${served.url}/v1/states/${lost!.id}`, { method: 'DELETE' });
    await say(page, 'And the Treasury');
    expect((await answers(page))[1]!.length).toBeGreaterThan(10);
    expect(await snapshots(page).first().textContent()).toMatch(/no longer stored/);
    forgive(/404/);
  });

  /** Says something that is answered at length, and waits for the beginning of that. */
  async function beginAnswer(page: Page): Promise<void> {
    // The end of a paragraph ends an answer: with so much chance in it, this one is long.
    await settle(page, { 'Longest answer, tokens': 8000, 'Top p': 1, Temperature: 2 });
    await send(page, 'The state of our Union is');
    await expect.poll(async () => (await answers(page))[0]?.length ?? 0, waiting).toBeGreaterThan(5);
  }

  test('an answer can be stopped without sending the draft, and continued', async () => {
    const page = await open();
    for (const stop of ['click', 'Enter', 'Escape']) {
      await beginAnswer(page);
      await composer(page).fill('a draft');
      const button = page.getByRole('button', { name: 'Stop' });
      if (stop === 'click') await button.click();
      else if (stop === 'Enter') await button.press('Enter');
      else await page.keyboard.press('Escape');
      await finished(page);
      expect(await page.locator('.turn').count(), stop).toBe(1);
      expect(await page.locator('.turn').getAttribute('data-status')).toBe('stopped');
      expect(await composer(page).inputValue()).toBe('a draft');
      if (stop === 'Escape') break;
      await page.getByRole('button', { name: 'New chat' }).click();
      await confirm(page, 'Start a new chat?', 'New chat');
    }
    const [half] = await answers(page);
    await settle(page, { 'Longest answer, tokens': 8 });
    await page.getByRole('button', { name: 'Continue' }).click();
    await finished(page);
    expect((await answers(page))[0]!.slice(0, half!.length)).toBe(half);
    expect((await answers(page))[0]!.length).toBeGreaterThan(half!.length);
    await say(page, 'And the Treasury');
    expect(await page.locator('.turn[data-status="done"]').count()).toBe(2);
  });

  test('a truncated answer is marked, and continues as if it had not been truncated', async () => {
    const page = await open();
    await settle(page, { Temperature: 0, 'Longest answer, tokens': 12 });
    await say(page, 'The state of our Union is');
    await page.getByText('Cut at 12 tokens.').waitFor();
    await page.getByRole('button', { name: 'Continue' }).click();
    await finished(page);
    const whole = await post(`${served.url}/v1/chat/completions`, {
      model: MODEL,
      messages: [{ role: 'user', content: 'The state of our Union is' }],
      ...{ max_tokens: 24, temperature: 0 },
    });
    const { choices } = (await whole.json()) as { choices: { message: { content: string } }[] };
    expect(await answers(page)).toEqual([choices[0]!.message.content.replace(/^ +/, '')]);
    // It is one turn with one memory, of all of it.
    expect(await snapshots(page).count()).toBe(1);
    await expect.poll(async () => (await states()).length, waiting).toBe(1);
    expect(await figure(page, 'tokens')).toBe(String((await states())[0]!.tokens));
    // What has a name is not written on: the longer answer stands beside it.
    await page.getByLabel('Name of this snapshot').fill('as far as this');
    await page.getByRole('button', { name: 'Save memory' }).click();
    await page.getByRole('button', { name: 'Resume as far as this' }).waitFor();
    await page.getByRole('button', { name: 'Continue' }).click();
    await finished(page);
    expect(await snapshots(page).count()).toBe(2);
    expect((await states()).length).toBe(2);
  });

  test('a page that is left during an answer keeps the part that had arrived', async () => {
    const page = await open();
    await beginAnswer(page);
    const before = (await answers(page))[0]!;
    await page.reload();
    await page.locator('.turn[data-status="stopped"]').waitFor();
    expect((await answers(page))[0]!.slice(0, before.length)).toBe(before);
    expect(await page.locator('.said').allTextContents()).toEqual(['The state of our Union is']);
  });

  test('two tabs share one conversation, and lose nothing of it', async () => {
    const page = await open();
    await page.getByText('has read nothing yet').waitFor();
    const other = await page.context().newPage();
    await other.goto(served.url);
    await say(page, 'My fellow citizens');
    await say(other, 'Of the Navy');
    await say(page, 'And the Treasury');
    const titles = ['And the Treasury', 'My fellow citizens', 'Of the Navy'];
    const titlesIn = async (tab: Page): Promise<string[]> =>
      (await snapshots(tab).locator('.title').allTextContents()).sort();
    for (const tab of [page, other]) {
      await expect.poll(() => titlesIn(tab), waiting).toEqual(titles);
      // Each stays where it is.
      expect((await tab.locator('.said').allTextContents()).includes('Of the Navy')).toBe(tab === other);
      await tab.reload();
      await expect.poll(() => titlesIn(tab), waiting).toEqual(titles);
    }
    // One that is loaded while an answer of another is awaited does not end it.
    let answer = (): void => {};
    const asked = new Promise<void>((resolve) => {
      answer = resolve;
    });
    await page.route('**/v1/chat/completions', async (route) => {
      await asked;
      await route.continue();
    });
    await send(page, 'To the Congress');
    await expect.poll(async () => (await titlesIn(other)).length, waiting).toBe(4);
    await other.reload();
    await settle(other, { Temperature: 1 });
    const isStored = () => /"temperature":1,/.test(localStorage.getItem('heddle.chat')!);
    await expect.poll(() => page.evaluate(isStored), waiting).toBe(true);
    expect(await page.locator('.turn').last().getAttribute('data-status')).toBe('writing');
    answer();
    await finished(page);
    // A new chat is newer than the last one, also where the clock was set back.
    await other.clock.setFixedTime(Date.now() + 86_400_000);
    for (const [tab, watching] of [
      [other, page],
      [page, other],
    ] as const) {
      await say(tab, 'My fellow citizens');
      await expect.poll(async () => (await titlesIn(watching)).length, waiting).toBeGreaterThan(0);
      await tab.getByRole('button', { name: 'New chat' }).click();
      await confirm(tab, 'Start a new chat?', 'New chat');
      await watching.getByText('has read nothing yet').waitFor();
      await tab.getByText('has read nothing yet').waitFor();
    }
    // A page that is left stores what it has, not what it had.
    await page.close();
    await other.reload();
    await other.getByText('has read nothing yet').waitFor();
    expect(await snapshots(other).count()).toBe(0);
  });

  test('a server that is unreachable is reported once, is found again, and no turn is lost', async () => {
    const start = (port = '0') =>
      serve([join(here, 'twin'), '--data', join(here, 'restarted'), '--port', port]);
    let server = await start();
    try {
      const page = await open('', server.url);
      await say(page, 'My fellow citizens');
      await server.stop();
      await say(page, 'And the Treasury');
      await page.locator('.turn[data-status="failed"]').waitFor();
      expect(await page.getByRole('alert').allTextContents()).toEqual([
        expect.stringContaining('No connection to the server: trying again'),
      ]);
      // It covers nothing.
      await page.getByRole('button', { name: 'Send' }).click({ trial: true });
      await page.getByRole('button', { name: 'New chat' }).click({ trial: true });
      server = await start(new URL(server.url).port);
      await page.getByRole('alert').waitFor({ state: 'detached' });
      await page.locator('.turn').last().getByRole('button', { name: 'Retry' }).click();
      await page.locator('.turn[data-status="failed"]').waitFor({ state: 'detached' });
      await finished(page);
      expect(await page.locator('.turn[data-status="done"]').count()).toBe(2);
      expect(await snapshots(page).count()).toBe(2);

      await page.context().setOffline(true);
      await say(page, 'And the Navy');
      await page.locator('.turn[data-status="failed"]').waitFor();
      await page.context().setOffline(false);
      await page.getByRole('button', { name: 'Retry' }).first().click();
      await page.getByRole('alert').waitFor({ state: 'detached' });
      // What failed is on the way of nothing.
      await say(page, 'And the Army');
      expect(await page.locator('.said').allTextContents()).toEqual([
        ...['My fellow citizens', 'And the Treasury', 'And the Army'],
      ]);
      forgive(/ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|Failed to load resource/);
    } finally {
      await server.stop();
    }
  });

  test('an answer that breaks off keeps what had arrived, and is continued', async () => {
    const page = await open();
    let broken = true;
    await page.route('**/v1/chat/completions', async (route) => {
      if (!broken) return route.continue();
      const content = JSON.stringify({ choices: [{ index: 0, delta: { content: ' is one' } }] });
      const error = JSON.stringify({ error: { message: 'the disk is full' } });
      await route.fulfill({
        contentType: 'text/event-stream',
        body: `data: ${content}\n\ndata: ${error}\n\n`,
      });
    });
    await settle(page, { 'Longest answer, tokens': 4 });
    await say(page, 'The state of our Union');
    await page.getByText('The answer broke off, without a snapshot: the disk is full').waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
    broken = false;
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.locator('.turn[data-status="done"]').waitFor();
    const [answer] = await answers(page);
    expect(answer!.startsWith('is one')).toBe(true);
    expect(answer!.length).toBeGreaterThan('is one'.length);
    // What is continued once more and breaks off has lost its snapshot, and so has the server.
    await expect.poll(async () => (await states()).length, waiting).toBe(1);
    broken = true;
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.getByText('The answer broke off, without a snapshot: the disk is full').waitFor();
    await expect.poll(async () => (await states()).length, waiting).toBe(0);
  });

  test('of a long conversation, the last turn and its snapshot are in view, also in another window', async () => {
    const turns = Array.from({ length: 300 }, (_, i) => ({
      ...{ id: `t${i}`, ...(i > 0 && { parent: `t${i - 1}` }), kind: 'turn', status: 'done' },
      ...{ said: `Question ${i}`, answer: `Answer ${i} `.repeat(40) },
      state: { id: `s${i}`, model: MODEL, created: 1, tokens: 10 * i, bytes: 1000 },
    }));
    const chat = { trees: { [MODEL]: turns }, lanes: [{ id: 'l', model: MODEL, head: 't299' }] };
    const page = await open('', served.url, { stored: { 'heddle.chat': JSON.stringify(chat) } });
    const look = page.locator('.turn').last().getByRole('button', { name: 'Look inside' });
    for (const [width, height] of [
      [1280, 800],
      [390, 844],
      [1440, 900],
    ] as const) {
      await page.setViewportSize({ width, height });
      await expect
        .poll(async () => (await look.boundingBox())!.y + (await look.boundingBox())!.height, waiting)
        .toBeLessThan(height);
      if (width < 900) await page.getByRole('button', { name: 'Memory', exact: true }).click();
      const [at, below] = await Promise.all([
        snapshots(page).last().boundingBox(),
        page.getByRole('button', { name: 'Save memory' }).boundingBox(),
      ]);
      expect(at!.y + at!.height).toBeLessThanOrEqual(below!.y);
      expect(below!.y).toBeLessThan(height);
      if (width < 900) await page.getByRole('button', { name: 'Memory', exact: true }).click();
    }
  });

  test('a text from right to left is shown so, and a draft stays where the page is left or loaded again', async () => {
    const page = await open();
    await composer(page).fill('مرحبا');
    await page.getByRole('link', { name: 'Runs' }).click();
    await page.locator('.summary tbody tr').waitFor();
    await page.goBack();
    expect(await composer(page).inputValue()).toBe('مرحبا');
    await page.reload();
    expect(await composer(page).inputValue()).toBe('مرحبا');
    await page.getByRole('button', { name: 'Send', disabled: false }).click();
    await finished(page);
    expect(await composer(page).inputValue()).toBe('');
    const [said, text] = await page.locator('.said').evaluate((element) => {
      const range = document.createRange();
      range.selectNodeContents(element);
      return [element, range].map((each) => {
        const { left, right } = each.getBoundingClientRect();
        return { left, right };
      });
    });
    expect(text!.right).toBeCloseTo(said!.right, 0);
    expect(text!.left).toBeGreaterThan(said!.left + 100);
  });

  test('over plain HTTP, as on a local network, the chat works', async () => {
    const page = await open('', `http://phone.lan:${new URL(locked.url).port}`, { width: 390, height: 844 });
    expect(await page.evaluate(() => isSecureContext)).toBe(false);
    await page.getByLabel('This server needs an API key').fill(key);
    await page.getByRole('button', { name: 'Use it' }).click();
    await page.getByText('has read nothing yet').waitFor();
    await say(page, 'My fellow citizens');
    expect((await answers(page))[0]!.length).toBeGreaterThan(10);
    // The browser also remarks on headers that mean nothing there.
    forgive(/401/, /Cross-Origin-Opener-Policy/, /origin-keyed/);
  });

  test('a model with a chat template gets the system prompt, and can be asked to continue', async () => {
    const page = await open('', others.url, { stored: {} });
    // Without a seed, one answer in fifty would end before its sixth token.
    await settle(page, { Seed: 3, 'Longest answer, tokens': 6 });
    await page.locator('.composer summary').click();
    await page.getByLabel('System prompt').fill('Be brief.');
    await page.getByLabel('System prompt').press('Tab');
    const [request] = await Promise.all([
      page.waitForRequest((each) => each.url().endsWith('/v1/chat/completions')),
      say(page, 'Hello'),
    ]);
    const sent = request.postDataJSON() as Record<string, unknown>;
    expect(sent.messages).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
    ]);
    // What is not set is left to the model.
    expect(Object.keys(sent)).not.toContain('temperature');
    expect(Object.keys(sent)).not.toContain('top_p');
    await page.getByText('Cut at 6 tokens.').waitFor();
    await page.getByRole('button', { name: 'Continue' }).click();
    await finished(page);
    expect(await page.locator('.said').allTextContents()).toEqual(['Hello', 'Continue']);
  });

  test('prefill is shown, reasoning is separate, and an empty answer is reported', async () => {
    const page = await open();
    let chunks: readonly object[] = [];
    let go = (): void => {};
    // What a server sends that has models which think, and are slow.
    await page.route('**/v1/chat/completions', async (route) => {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      const body = [...chunks.map((chunk) => JSON.stringify(chunk)), '[DONE]'].map(
        (data) => `data: ${data}\n\n`,
      );
      await route.fulfill({ contentType: 'text/event-stream', body: body.join('') });
    });
    const part = (delta: object, finish: string | null = null) => ({
      choices: [{ index: 0, delta, finish_reason: finish }],
    });
    const took = (written: number) => ({
      choices: [],
      usage: { completion_tokens: written },
      heddle: { reused_tokens: 0, read_tokens: 8, state_bytes: 1000 },
    });
    await send(page, 'x'.repeat(1234));
    await page.getByText(/^Reading 1,234 characters… [1-9]\d* s$/).waitFor();
    expect(await page.locator('#memory').textContent()).toMatch(/reading 1,234 characters/);
    expect(await figure(page, 'bytes')).toBe('…');
    chunks = [
      part({ reasoning_content: 'Let me see.' }),
      part({ content: 'Yes' }),
      part({}, 'stop'),
      took(9),
    ];
    go();
    await finished(page);
    expect(await answers(page)).toEqual(['Yes']);
    const thoughts = page.locator('.thoughts');
    expect(await thoughts.evaluate((element) => (element as HTMLDetailsElement).open)).toBe(false);
    await thoughts.locator('summary').click();
    await page.getByText('Let me see.').waitFor();

    const request = page.waitForRequest('**/v1/chat/completions');
    await send(page, 'More');
    // No memory was kept: what was thought is said again.
    expect(((await request).postDataJSON() as { messages: object[] }).messages[1]).toEqual({
      ...{ role: 'assistant', content: 'Yes', reasoning_content: 'Let me see.' },
    });
    await page.getByText(/^Reading /).waitFor();
    chunks = [part({}, 'stop'), took(0)];
    go();
    await finished(page);
    await page.getByText('The model ended the text at once.').waitFor();
  });

  test('an answer in Markdown is drawn, and copied as it was written', async () => {
    const page = await open('', others.url);
    const text = [
      '## Steps\n\n1. **Sort** it:\n```ts\na.sort();\n```\n2. See [docs](https://a.b/c) <b>x</b>\n',
      '| a | b |\n|---|---|\n| 1 | 2 |',
    ].join('\n');
    await page.route('**/v1/chat/completions', async (route) => {
      const part = (delta: object) => `data: ${JSON.stringify({ choices: [{ index: 0, delta }] })}\n\n`;
      const body = `${part({ content: text })}data: [DONE]\n\n`;
      await route.fulfill({ contentType: 'text/event-stream', body });
    });
    await say(page, 'How?');
    const answer = page.locator('.answer');
    await answer.getByRole('heading', { name: 'Steps' }).waitFor();
    expect(await answer.locator('pre').textContent()).toBe('a.sort();');
    expect(await answer.locator('ol > li').count()).toBe(2);
    expect(await answer.locator('td').allTextContents()).toEqual(['1', '2']);
    expect(await answer.getByRole('link').getAttribute('href')).toBe('https://a.b/c');
    // Nothing of it becomes HTML.
    expect(await answer.locator('b').count()).toBe(0);
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    for (const [name, expected] of [
      ['Copy the code', 'a.sort();'],
      ['Copy the answer', text],
    ] as const) {
      await page.getByRole('button', { name }).click();
      expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(expected);
    }
    expect(await seriousViolations(page)).toEqual([]);
  });

  test('a server with keys gets the key that the user enters', async () => {
    const page = await open('', locked.url);
    await page.getByLabel('This server needs an API key').fill('wrong');
    const again = page.waitForEvent('load');
    await page.getByRole('button', { name: 'Use it' }).click();
    await again;
    await page.getByLabel('The server does not accept that API key').fill(` ${key} `);
    await page.getByRole('button', { name: 'Use it' }).click();
    await page.getByText('has read nothing yet').waitFor();
    await say(page, 'My fellow citizens');
    expect((await answers(page))[0]!.length).toBeGreaterThan(10);
    forgive(/401/);
  });

  test('everything can be reached with the keyboard', async () => {
    const page = await open();
    await page.getByText('has read nothing yet').waitFor();
    const tabTo = async (wanted: string): Promise<void> => {
      for (let i = 0; i < 40; i++) {
        await page.keyboard.press('Tab');
        const at = await page.evaluate((selector) => document.activeElement?.matches(selector), wanted);
        if (at) return;
      }
      throw new Error(`the tab key does not lead to ${wanted}`);
    };
    await tabTo('.composer textarea');
    await page.keyboard.type('My fellow citizens');
    await page.keyboard.press('Enter');
    await page.locator('.said').waitFor();
    await finished(page);
    await tabTo('.tree button');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('Enter');
    expect(await answers(page)).toEqual([]);
  });

  /** Looks into a text, from a page that shows another. */
  async function lookInto(page: Page, text: string): Promise<void> {
    await page.getByLabel('Text to look into').fill(text);
    const [answer] = await Promise.all([
      page.waitForResponse('**/studio/api/trace'),
      page.locator('.source').getByRole('button', { name: 'Look inside' }).click(),
    ]);
    const { tokens } = (await answer.json()) as TraceJson;
    await expect.poll(() => page.locator('.token').count(), waiting).toBe(tokens.length);
  }

  test('a heatmap shows the values of the trace', async () => {
    const text = 'The people of the United States are at peace with all nations.';
    const answer = await post(`${served.url}/studio/api/trace`, {
      model: MODEL,
      text,
      options: { layers: [4], heads: [3] },
    });
    const trace = (await answer.json()) as TraceJson;
    const page = await open('#/inside');
    await page.locator('.cells').waitFor();
    await page.getByRole('button', { name: /^M ?4 ?: Mamba-2/ }).click();
    await page.getByRole('radio', { name: '3' }).check();
    // Another text is looked into at the same place.
    await lookInto(page, text);
    expect(await page.locator('.token').count()).toBe(trace.tokens.length);
    await page.locator('.cells[aria-label*="layer 4, head 3"]').waitFor();
    const { weights } = trace.layers[4]!.mixers[0]!;
    const size = trace.tokens.length;
    expect(weights!.dims).toEqual([1, size, size]);
    const bytes = Buffer.from(weights!.data, 'base64');
    const valueAt = (i: number, j: number): number => bytes.readFloatLE(4 * (i * size + j));

    const pixels = await page.locator('.cells canvas').evaluate((element) => {
      const canvas = element as HTMLCanvasElement;
      return [...canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height).data];
    });
    expect(pixels.length).toBe(4 * size * size);
    const ground = [0xf1, 0xf3, 0xf9];
    const cells = Array.from({ length: size }, (_, i) =>
      Array.from({ length: size }, (_, j) => {
        const rgba = pixels.slice(4 * (i * size + j), 4 * (i * size + j) + 4);
        const depth = ground.reduce((sum, value, k) => sum + Math.abs(value - rgba[k]!), 0);
        return { i, j, rgba, depth, value: valueAt(i, j) };
      }),
    ).flat();
    const below = cells.filter(({ i, j }) => j <= i);
    for (const { i, j, rgba } of cells) expect(rgba[3], `${i}, ${j}`).toBe(j <= i ? 255 : 0);
    for (const sign of [1, -1]) {
      const own = below.filter(({ value }) => Math.sign(value) === sign);
      expect(own.length).toBeGreaterThan(5);
      // More red than blue, or the other way: the two signs have colours of their own.
      for (const { rgba, depth } of own.filter(({ depth }) => depth > 60))
        expect(Math.sign(rgba[2]! - rgba[0]!), String(depth)).toBe(sign);
      const sorted = [...own].sort((a, b) => Math.abs(a.value) - Math.abs(b.value));
      for (const [k, { depth }] of sorted.entries()) {
        // Rounding of three channels.
        if (k > 0) expect(depth).toBeGreaterThanOrEqual(sorted[k - 1]!.depth - 3);
      }
    }

    // Walked with the keys, it says the numbers.
    await page.locator('.cells').focus();
    for (let i = 0; i < 3; i++) await page.keyboard.press('ArrowUp');
    for (let j = 0; j < size; j++) await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowRight');
    const told = await page.locator('.reading [data-value]').textContent();
    expect(Number(told)).toBeCloseTo(Number(valueAt(size - 4, 2).toPrecision(3)), 12);
  });

  test('the tokens that a selective layer keeps are marked, and a token is attributed to its sources', async () => {
    const page = await open('#/inside');
    await page.locator('.cells').waitFor();
    const traceOf = async (text: string, options: object): Promise<TraceJson> => {
      const answer = await post(`${served.url}/studio/api/trace`, { model: MODEL, text, options });
      return (await answer.json()) as TraceJson;
    };
    // The page's own text is long enough for the window to have left something behind.
    const text = await page.getByLabel('Text to look into').inputValue();
    const trace = await traceOf(text, { layers: [8], matrices: false });
    const size = trace.tokens.length;
    const { window, seenUntil } = trace.layers[8]!.mixers[0]!.selection!;
    const until = Buffer.from(seenUntil.data, 'base64');
    const seen = Array.from({ length: size }, (_, i) => i).filter((i) => until.readFloatLE(4 * i) > size - 1);
    expect(seen.length).toBeLessThan(size);
    const idsOf = (selector: string): Promise<number[]> =>
      page.locator(selector).evaluateAll((all) => all.map(({ id }) => Number(id.replace('token-', ''))));
    expect(await idsOf('.token.selected')).toEqual(seen.filter((i) => size - 1 - i >= window));
    expect(await idsOf('.token.window')).toEqual(seen.filter((i) => size - 1 - i < window));

    // Every token is taken away once: of a short text.
    const brief = text.slice(text.lastIndexOf('The report'));
    await lookInto(page, brief);
    const { lens, tokens } = await traceOf(brief, { layers: [], matrices: false, lens: 3 });
    const last = Buffer.from(lens!.ids.data, 'base64').readFloatLE(
      4 * 3 * (lens!.layers.length * tokens.length - 1),
    );
    const expected = lens!.texts[last]!.trim();
    expect(await page.locator('.lens tbody tr').last().locator('td').last().textContent()).toContain(
      expected,
    );
    await page.getByRole('button', { name: 'What comes next, and why?' }).click();
    const found = page.getByRole('region', { name: new RegExp(`What .*${expected}.* draws on`) });
    await found.waitFor();
    expect(await found.textContent()).toMatch(/it loses .* nats/);
  });

  test('an answer of the chat can be inspected', async () => {
    const page = await open();
    await say(page, 'My fellow citizens');
    const [answer] = await answers(page);
    await page.getByRole('button', { name: 'Look inside' }).click();
    await page.locator('.cells').waitFor();
    const shown = (await page.locator('.token').allTextContents()).join('');
    expect(shown).toContain('My fellow citizens');
    expect(shown).toContain(answer!);
  });

  test('a run is followed while it trains', async () => {
    const page = await open('#/runs');
    const row = page.locator('.summary tbody tr');
    await row.waitFor();
    expect(await row.textContent()).toMatch(/ssm1,000.*33\.59/);
    const log = join(here, 'runs', 'ssm', 'metrics.jsonl');
    const line = (event: object): void => appendFileSync(log, `${JSON.stringify(event)}\n`);
    const learning = { loss: 3.1, gradientNorm: 1, learningRate: 1e-4, tokensPerSecond: 1e4 };
    line({ event: 'step', step: 1001, ...learning });
    line({ event: 'evaluation', step: 1001, loss: 3.4, perplexity: 29.96, tokens: 1 });
    line({ event: 'sample', step: 1001, prompt: 'It was', text: ' a new day' });
    await page.getByRole('cell', { name: '1,001' }).waitFor();
    expect(await row.textContent()).toMatch(/ssm1,001.*29\.96/);
    expect(await page.locator('.samples').textContent()).toContain('It was a new day');
    expect(await page.locator('.live').count()).toBe(1);
    expect(await page.locator('.plot canvas').count()).toBe(4);
  });

  test('without runs, the page shows how to start one', async () => {
    const page = await open('#/runs', others.url);
    await page.getByText('There are no training runs yet').waitFor();
    const command = `${HEDDLE} train my-text.txt --out '${join(here, 'my runs', 'mine')}'`;
    expect(await page.locator('pre').textContent()).toBe(command);
  });

  test('models of every family can be inspected', async () => {
    const page = await open('#/inside', others.url);
    for (const family of FAMILIES) {
      await page.getByLabel('Model', { exact: true }).selectOption(family);
      await page.getByLabel('Text to look into').fill('the dog sat on the cat');
      await page.locator('.source').getByRole('button', { name: 'Look inside' }).click();
      await page.getByRole('heading', { name: `Layers ${family}` }).waitFor();
      const layers = await page.locator('button.layer').all();
      expect(layers.length, family).toBeGreaterThan(0);
      for (const layer of layers) {
        await layer.click();
        await page.locator('.cells canvas').waitFor();
      }
    }
  });

  test('wide and narrow, light and dark: axe finds no serious violation, and nothing overflows', async () => {
    const page = await open();
    await say(page, 'My fellow citizens');
    await say(page, 'And the Treasury');
    const check = async (): Promise<void> => {
      for (const width of [1280, 390]) {
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.setViewportSize({ width, height: 844 });
          await page.emulateMedia({ colorScheme });
          const look = `${new URL(page.url()).hash}, ${width} pixels, ${colorScheme}`;
          await page.locator(`html[data-theme="${colorScheme}"]`).waitFor();
          // A colour that is still changing has another contrast. An animation that is cancelled rejects.
          await page.evaluate(() =>
            Promise.allSettled(document.getAnimations().map(({ finished }) => finished)),
          );
          expect(await seriousViolations(page), look).toEqual([]);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth);
          expect(wide, look).toBeLessThanOrEqual(width);
        }
      }
    };
    await check();
    // On a narrow screen, where the last of them left it, the memory is shown in the place of the conversation.
    await page.getByRole('button', { name: 'Memory', exact: true }).click();
    await check();
    await page.getByRole('link', { name: 'Runs' }).click();
    await page.locator('.summary tbody tr').waitFor();
    await check();
    await page.getByRole('link', { name: 'Look inside' }).click();
    await page.locator('.cells').waitFor();
    await lookInto(page, 'The people of the United States are at peace with all nations.');
    await check();
  });
});
