/** A real browser, without a screen, and a page in it that tells of whatever goes wrong. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll } from 'vitest';

/** Debian's Chromium; undefined where it is not installed. */
export const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find((path) => existsSync(path));

/** For the names of tests that need it. */
export const WITHOUT_CHROMIUM =
  CHROMIUM === undefined ? ' (skipped: /usr/bin/chromium is not installed)' : '';

const AXE = createRequire(import.meta.url)('axe-core') as { source: string };

const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Names in .lan are this machine, as it is called over a local network: pages from there have no secure context.
  '--host-resolver-rules=MAP *.lan 127.0.0.1',
];

/** How long something may be waited for, in milliseconds. */
export const PATIENCE = 120_000;

export interface Visit {
  readonly page: Page;
  /** Errors on the console, in scripts, and requests to elsewhere. */
  readonly complaints: readonly string[];
  close(): Promise<void>;
}

export interface Look {
  readonly width?: number;
  readonly height?: number;
  readonly dark?: boolean;
  /** What the browser's local storage holds, as from an earlier visit. */
  readonly stored?: Readonly<Record<string, string>>;
}

let browser: Promise<Browser> | undefined;

/** One browser for all tests of a file; each visit has a context of its own. */
function launched(): Promise<Browser> {
  browser ??= chromium.launch({ executablePath: CHROMIUM!, args: FLAGS });
  return browser;
}
afterAll(async () => {
  await (await browser)?.close();
  browser = undefined;
});

/** Opens an address with nothing remembered but what is stored. */
export async function visit(
  url: string,
  { width = 1280, height = 800, dark = false, stored = {} }: Look = {},
): Promise<Visit> {
  const browser = await launched();
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: dark ? 'dark' : 'light',
  });
  // Pages that are loaded again find what they have stored since.
  await context.addInitScript((stored) => {
    for (const [key, value] of Object.entries(stored)) {
      if (localStorage.getItem(key) === null) localStorage.setItem(key, value);
    }
  }, stored);
  const page = await context.newPage();
  // A test fails on what it sees, never on a slow machine: vitest ends one that waits for ever.
  page.setDefaultTimeout(PATIENCE);
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`script: ${error.message}`));
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url());
    if (!['data:', 'blob:'].includes(protocol) && origin !== new URL(url).origin)
      complaints.push(`request to ${request.url()}`);
  });
  page.on('dialog', (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  await page.goto(url);
  return {
    page,
    complaints,
    close: () => context.close(),
  };
}

/** What axe finds that is serious or worse, in words. */
export async function seriousViolations(page: Page): Promise<string[]> {
  await page.evaluate(AXE.source);
  const found = (await page.evaluate('axe.run()')) as {
    violations: { id: string; impact: string; help: string; nodes: { html: string }[] }[];
  };
  return found.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, help, nodes }) => `${id}: ${help} (${nodes.map(({ html }) => html).join(' | ')})`);
}
