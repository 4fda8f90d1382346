/** Models at one address that change: visitors get the files that the page requests, and nothing is downloaded twice. */
import { createHash } from 'node:crypto';
import { afterEach, expect, test, vi } from 'vitest';
import { readFolder, readText } from '../platform/browser/files.js';
import { remove, writeFileAtomic } from '../platform/browser/writing.js';
import { modelAt } from './store.js';

vi.mock('#platform', () => import('../platform/browser/index.js'));
vi.stubGlobal('navigator', { onLine: true });
afterEach(() => remove('/memory/models'));

const sumOf = (text: string): string => createHash('sha256').update(text).digest('hex');

/** The files of the host, and the requests. */
let host: Record<string, string> = {};
let asked: string[] = [];
vi.stubGlobal('fetch', async (url: string) => {
  const name = url.slice('https://host/model/'.length);
  asked.push(name);
  const text = host[name];
  return text === undefined ? new Response(null, { status: 404 }) : new Response(text);
});

/** Loads a model of these files by their checksums, as a visit does; returns what is stored. */
async function visit(
  files: Record<string, string>,
): Promise<{ files: Record<string, string>; asked: string[] }> {
  asked = [];
  const sums = Object.fromEntries(Object.entries(files).map(([name, text]) => [name, sumOf(text)]));
  const folder = await modelAt({ kind: 'hosted', url: 'https://host/model/', files: sums }, {});
  const names = (await readFolder(folder)).map(({ name }) => name).filter((name) => name !== '.whole.json');
  const found: [string, string][] = [];
  for (const name of names) found.push([name, await readText(`${folder}/${name}`)]);
  return { files: Object.fromEntries(found), asked };
}

const A = { 'config.json': '{}', 'model.safetensors': 'one', 'chat_template.jinja': 'old' };
const B = { 'config.json': '{}', 'model.safetensors': 'two' };

test('a model that replaced another at its address is downloaded by visitors who have the old one', async () => {
  host = A;
  expect(await visit(A)).toEqual({ files: A, asked: Object.keys(A) });
  host = {};
  expect(await visit(A)).toEqual({ files: A, asked: [] });
  host = B;
  expect(await visit(B)).toEqual({ files: B, asked: ['model.safetensors'] });
  host = {};
  expect(await visit(B)).toEqual({ files: B, asked: [] });
});

test('a visit that ends between two models leaves no mixture of them', async () => {
  host = A;
  await visit(A);
  host = { 'config.json': '{"two": 2}' };
  await expect(visit({ ...B, ...host })).rejects.toThrow('does not give model.safetensors');
  host = A;
  expect((await visit(A)).files).toEqual(A);
});

test('files stored by an earlier version of the page without checksums are verified', async () => {
  host = A;
  await visit(A);
  const note = `/memory/models/${encodeURIComponent('https://host/model/')}/.whole.json`;
  const { sums: _, ...before } = JSON.parse(await readText(note)) as Record<string, unknown>;
  await writeFileAtomic(note, JSON.stringify(before));
  expect(await visit(A)).toEqual({ files: A, asked: [] });
  await writeFileAtomic(note, JSON.stringify(before));
  host = B;
  expect(await visit(B)).toEqual({ files: B, asked: ['model.safetensors'] });
});
