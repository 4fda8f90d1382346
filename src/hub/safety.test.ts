/** Safety of a pull: hostile names, the token, and files that are not its own. */

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { HubError } from '../errors.js';
import { hubFromEnvironment } from './index.js';
import type { HubServer } from './testing/hub-server.js';
import { eachWithHub, namesIn, partPath, pullFrom, refusalsOf, TOKEN } from './testing/pulling.js';

let here: string;
let folder: string;
let server: HubServer;
eachWithHub((hub) => {
  ({ server, here, folder } = hub);
});

const { expectHubError, expectStorageError, withToken } = refusalsOf(() => ({ server, here, folder }));

describe('hostile names', () => {
  const evil = [
    '../evil',
    '/tmp/evil',
    'LICENSE/../../evil',
    'LICENSE\\..\\evil',
    'C:evil',
    'LICENSE\u001b[2J',
    '..',
  ];

  test('in the list are ignored', async () => {
    for (const path of evil) server.extraEntries.push({ type: 'file', path, size: 4, oid: 'c'.repeat(40) });
    await pullFrom(server, folder);
    expect(readdirSync(here)).toEqual(['models']);
    expect(readdirSync(join(here, 'models'))).toEqual(['loom']);
    expect(namesIn(folder)).toEqual([...server.files.keys()].sort());
  });

  test('in an index are refused', async () => {
    server.files.delete('model.safetensors');
    for (const path of [...evil, 'sub/a.safetensors', 'pytorch_model.bin', 'absent.safetensors']) {
      server.extraEntries[0] = { type: 'file', path, size: 4, oid: 'c'.repeat(40) };
      if (path.startsWith('absent')) server.extraEntries.length = 0;
      server.put('model.safetensors.index.json', JSON.stringify({ weight_map: { a: path } }));
      await expectHubError(
        /index\.json cannot be used: it (puts .* into|names) ".*Tell the repository's owner/,
      );
    }
    for (const index of ['{}', '[', '{"weight_map": {}}', '{"weight_map": {"a": 1}}']) {
      server.put('model.safetensors.index.json', index);
      await expectHubError(/index\.json cannot be used: .*Tell the repository's owner/);
    }
    expect(namesIn(folder)).toEqual([]);
  });

  test('are printed without control characters', async () => {
    server.files.delete('model.safetensors');
    server.extraEntries.push({ type: 'file', path: '\u001b]0;evil\u0007\n', size: 4, oid: 'c'.repeat(40) });
    await expectHubError(/"\\u001b\]0;evil\\u0007\\n"/);
  });
});

describe('the token', () => {
  test('goes to the hub, and never to another origin', async () => {
    // The hub's list goes on at another origin, and small files come from there too.
    const elsewhere = `${server.cdnOrigin}/readme`;
    server.onRequest = ({ host, file, path }, response) => {
      if (file === 'README.md') return response.writeHead(307, { location: elsewhere }).end() !== undefined;
      if (path === '/readme') return response.end('# Loom\n') !== undefined;
      if (path === '/last-page') return response.end('[]') !== undefined;
      if (host === 'hub' && file === '' && path.includes('cursor=3')) {
        response.writeHead(200, { link: `<${server.cdnOrigin}/last-page>; rel="next"` });
        const { bytes } = server.files.get('model.safetensors')!;
        const entry = server.entryOf('model.safetensors', { bytes, lfs: true });
        return (
          response.end(
            JSON.stringify([entry, server.entryOf('README.md', server.files.get('README.md')!)]),
          ) !== undefined
        );
      }
      return false;
    };
    const { events } = await pullFrom(server, folder, withToken());
    const by = (host: string) => server.requests.filter((request) => request.host === host);
    expect(new Set(by('hub').map(({ authorization }) => authorization))).toEqual(
      new Set([`Bearer ${TOKEN}`]),
    );
    expect(by('cdn').map(({ path }) => path.split('?')[0])).toEqual([
      '/last-page',
      '/readme',
      '/model.safetensors',
    ]);
    expect(by('cdn').map(({ authorization }) => authorization)).toEqual([undefined, undefined, undefined]);
    expect(JSON.stringify(events)).not.toContain(TOKEN);
    const books = join(folder, '.heddle-pull');
    for (const name of readdirSync(books))
      expect(readFileSync(join(books, name), 'utf8')).not.toContain(TOKEN);
  });

  test("is read from the environment, like the hub's address", () => {
    const env = {
      HF_TOKEN: ` ${TOKEN}\n`,
      HUGGING_FACE_HUB_TOKEN: 'hf_old',
      HF_ENDPOINT: 'https://hub.example/x/',
    };
    expect(hubFromEnvironment(env)).toEqual({ endpoint: 'https://hub.example/x', token: TOKEN });
    expect(hubFromEnvironment({ HUGGING_FACE_HUB_TOKEN: 'hf_old' })).toEqual({
      endpoint: 'https://huggingface.co',
      token: 'hf_old',
    });
    expect(hubFromEnvironment({ HF_TOKEN: '', HF_ENDPOINT: '' })).toEqual({
      endpoint: 'https://huggingface.co',
    });
  });

  test('is not shown when it, or the endpoint, is malformed', () => {
    for (const env of [
      { HF_TOKEN: 'hf_se\ncret' },
      { HF_TOKEN: 'hf_secret€' },
      { HF_ENDPOINT: 'https://me:secret@hub.example' },
      { HF_ENDPOINT: 'ftp://secret' },
      { HF_ENDPOINT: 'secret' },
    ]) {
      expect(() => hubFromEnvironment(env)).toThrow(HubError);
      expect(() => hubFromEnvironment(env)).not.toThrow(/secret/);
    }
  });
});

describe('the folder', () => {
  test('must not be a file, nor below one', async () => {
    mkdirSync(join(here, 'models'));
    writeFileSync(folder, 'mine');
    await expectStorageError(/is a file, and a model needs a folder/);
    folder = join(folder, 'below');
    await expectStorageError(/a file stands where a folder is needed/);
    expect(server.requests).toEqual([]);
  });

  test("keeps the user's own files", async () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'README.md'), 'mine');
    await expectStorageError(
      /its README\.md differs from the one of weavers\/loom-1b and was not downloaded by a pull/,
    );
    expect(readdirSync(folder)).toEqual(['README.md']);
    expect(readFileSync(join(folder, 'README.md'), 'utf8')).toBe('mine');
    server.files.delete('model.safetensors');
    server.put('model.safetensors.index.json', '{"weight_map": {"a": "a.safetensors"}}');
    await expectStorageError(/its README\.md differs from the one/);
    expect(readdirSync(folder)).toEqual(['README.md']);
    expect(server.fetched()).toEqual([]);
  });

  test('keeps files with the right checksum, whoever wrote them', async () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'model.safetensors'), server.files.get('model.safetensors')!.bytes);
    const { downloaded } = await pullFrom(server, folder);
    expect(downloaded).toBe(4);
  });

  test('holds one model, and no other weights that would be loaded instead', async () => {
    await pullFrom(server, folder);
    const pulled = join(folder, '.heddle-pull', 'pulled.json');
    writeFileSync(pulled, readFileSync(pulled, 'utf8').replace('loom-1b', 'loom-7b'));
    await expectStorageError(/holds weavers\/loom-7b, and would become a mixture/);
    rmSync(pulled);
    server.files.delete('model.safetensors');
    server.put('a.safetensors', 'x');
    server.put('model.safetensors.index.json', '{"weight_map": {"a": "a.safetensors"}}');
    await expectStorageError(/its model\.safetensors differs from the one of weavers\/loom-1b/);
    expect(existsSync(join(folder, 'model.safetensors'))).toBe(true);
  });

  test.skipIf(!existsSync('/dev/full'))('a full disk is an error', async () => {
    mkdirSync(join(folder, '.heddle-pull'), { recursive: true });
    symlinkSync('/dev/full', partPath(server, folder, 'model.safetensors'));
    await expectStorageError(/the disk is full/);
  });
});
