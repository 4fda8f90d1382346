/** The studio's pages: served as they were built, and closed to everything from elsewhere. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hono } from 'hono';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import type { App, Variables } from './http/context.js';
import { addStudioPages } from './studio-routes.js';

let here: string;
let pages: string;
beforeEach(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-pages-'));
  pages = join(here, 'studio');
  mkdirSync(join(pages, 'assets'), { recursive: true });
  writeFileSync(join(pages, 'index.html'), '<!doctype html>');
  writeFileSync(join(pages, 'assets', 'main-123.js'), 'go()');
  mkdirSync(join(here, 'library'));
  writeFileSync(join(here, 'library', 'worker.js'), 'work()');
  writeFileSync(join(here, 'library', 'worker.d.ts'), 'declare');
});
afterEach(() => rmSync(here, { recursive: true, force: true }));

function app(): App {
  const made = new Hono<{ Variables: Variables }>();
  addStudioPages(made, pages, join(here, 'library'));
  return made;
}

test('the page comes anew whenever it changed, and what is named by its content never', async () => {
  const page = await app().request('/');
  expect(await page.text()).toBe('<!doctype html>');
  expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
  expect(page.headers.get('cache-control')).toBe('no-cache');
  const again = await app().request('/', { headers: { 'if-none-match': page.headers.get('etag')! } });
  expect(again.status).toBe(304);
  writeFileSync(join(pages, 'index.html'), '<!doctype html><p>');
  expect((await app().request('/', { headers: { 'if-none-match': page.headers.get('etag')! } })).status).toBe(
    200,
  );
  const script = await app().request('/assets/main-123.js');
  expect(script.headers.get('content-type')).toMatch(/^text\/javascript/);
  expect(script.headers.get('cache-control')).toMatch(/immutable/);
});

test('nothing from elsewhere and nothing inline is allowed', async () => {
  const policy = (await app().request('/')).headers.get('content-security-policy')!;
  expect(policy).toMatch(/default-src 'none'/);
  // WebAssembly is compiled, and runs in threads of the page's worker.
  expect(policy).toMatch(/script-src 'self' 'wasm-unsafe-eval'(;|$)/);
  expect(policy).toMatch(/worker-src 'self' blob:(;|$)/);
  expect(policy).toMatch(/connect-src 'self'(;|$)/);
  expect(policy).toMatch(/frame-ancestors 'none'/);
  expect(policy.replace('wasm-unsafe-eval', '')).not.toMatch(/unsafe|http|\*/);
});

test('only what was built is served', async () => {
  expect(await (await app().request('/heddle/worker.js')).text()).toBe('work()');
  writeFileSync(join(here, 'secret.txt'), 'secret');
  for (const path of [
    '/secret.txt',
    '/../secret.txt',
    '/%2e%2e/secret.txt',
    '/assets/',
    '/assets/none.js',
    '/heddle/worker.d.ts',
    '/worker.js',
  ]) {
    expect((await app().request(path)).status, path).toBe(404);
  }
});

test('a studio that was not built is missed at once', () => {
  rmSync(join(pages, 'index.html'));
  expect(app).toThrow(ConfigError);
});
