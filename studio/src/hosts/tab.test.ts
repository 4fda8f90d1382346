/** Models in this tab: a model that cannot be used is freed. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, expect, test, vi } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'heddle-tab-'));
afterAll(() => rmSync(folder, { recursive: true }));
mkdirSync(join(folder, 'heddle'));
writeFileSync(
  join(folder, 'heddle/index.js'),
  'export const loadModel = (...args) => globalThis.loadModel(...args);',
);
vi.stubGlobal('document', { baseURI: pathToFileURL(join(folder, 'index.html')).href });
vi.stubGlobal('crossOriginIsolated', false);
const { infoOf, load, loading } = await import('./tab.js');

test('a model whose template cannot be read is freed', async () => {
  const dispose = vi.fn(async () => {});
  const chat = async (): Promise<never> => {
    throw new Error('the template is broken');
  };
  vi.stubGlobal('loadModel', async () => ({ info: { pattern: 'M-', parameters: 1 }, chat, dispose }));
  await expect(load('one', './model/')).rejects.toThrow('the template is broken');
  expect(dispose).toHaveBeenCalledOnce();
  expect(infoOf('one')).toBeUndefined();
  expect(loading.value.size).toBe(0);
});
