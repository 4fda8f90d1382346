/** A served model's files, for pages that run it: whole, and the rest of one that broke off. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ConfigError } from '../errors.js';
import { modelFile, modelFiles, modelVersion } from './model-files.js';

/** Where Linux lists the files that this process has open. */
const OPEN_FILES = '/proc/self/fd';

/** What it lists goes when it is closed. */
function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

let here: string;
beforeAll(() => {
  here = mkdtempSync(join(tmpdir(), 'heddle-model-files-'));
  for (const folder of ['model', 'adapter']) mkdirSync(join(here, folder));
  for (const name of ['config.json', 'tokenizer.json', 'model-1.safetensors', 'optimizer.bin', 'secret.txt'])
    writeFileSync(join(here, 'model', name), `0123456789 ${name}`);
  writeFileSync(join(here, 'model.gguf'), 'GGUF');
  writeFileSync(join(here, 'adapter', 'adapter_config.json'), '{}');
});
afterAll(() => rmSync(here, { recursive: true, force: true }));

const ask = (name: string, headers: Record<string, string> = {}, folder = 'model') =>
  modelFile({ folder: join(here, folder) }, name, new Headers(headers));

test('those that a tab reads, and no others', async () => {
  expect(await modelFiles({ folder: join(here, 'model') })).toEqual({
    'config.json': 22,
    'model-1.safetensors': 30,
    'tokenizer.json': 25,
  });
  expect(await modelFiles({ folder: join(here, 'model.gguf') })).toEqual({ 'model.gguf': 4 });
  await expect(modelFiles({ folder: join(here, 'adapter') })).rejects.toThrow(ConfigError);
  for (const name of ['secret.txt', 'optimizer.bin', '../model.gguf', '../model/config.json', 'toString', ''])
    expect(await ask(name), name).toBeUndefined();
  expect(await (await ask('model.gguf', {}, 'model.gguf'))!.text()).toBe('GGUF');
});

test('none of a model that answers with an adapter: a tab would run it without', async () => {
  const place = { folder: join(here, 'model'), adapter: join(here, 'adapter') };
  await expect(modelFiles(place)).rejects.toThrow(ConfigError);
  await expect(modelFile(place, 'config.json', new Headers())).rejects.toThrow(ConfigError);
});

test.skipIf(!existsSync(OPEN_FILES))('a file is open no longer than somebody reads it', async () => {
  const open = () => readdirSync(OPEN_FILES).map((fd) => linkOf(join(OPEN_FILES, fd)));
  const path = join(realpathSync(here), 'model', 'long.safetensors');
  writeFileSync(path, Buffer.alloc(1_000_000));
  // Of the answer to HEAD nobody reads the body.
  const { body } = (await ask('long.safetensors'))!;
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(open()).not.toContain(path);
  const reader = body!.getReader();
  await reader.read();
  expect(open()).toContain(path);
  await reader.cancel();
  await expect.poll(open).not.toContain(path);
  rmSync(path);
});

test('another version where the tokenizer, the template or the weights changed', async () => {
  const place = { folder: join(here, 'model') };
  const version = () => modelVersion(place, 'fp_1');
  const before = await version();
  expect(before).toMatch(/^fp_1-[\da-f]{12}$/);
  writeFileSync(join(place.folder, 'secret.txt'), 'changed');
  // The fingerprint tells of weights.
  utimesSync(join(place.folder, 'model-1.safetensors'), 1, 1);
  expect(await version()).toBe(before);
  expect(await modelVersion(place, 'fp_2')).not.toBe(before);
  utimesSync(join(place.folder, 'tokenizer.json'), 1, 1);
  const changed = await version();
  expect(changed).not.toBe(before);
  const template = join(place.folder, 'chat_template.jinja');
  writeFileSync(template, '{{ messages }}');
  expect(await version()).not.toBe(changed);
  rmSync(template);
  expect(await version()).toBe(changed);
});

test('the rest of a file, as long as it is the same file', async () => {
  const whole = (await ask('config.json'))!;
  expect([whole.status, await whole.text()]).toEqual([200, '0123456789 config.json']);
  expect(whole.headers.get('content-length')).toBe('22');
  const etag = whole.headers.get('etag')!;
  const rest = (await ask('config.json', { range: 'bytes=10-', 'if-range': etag }))!;
  expect([rest.status, await rest.text()]).toEqual([206, ' config.json']);
  expect(rest.headers.get('content-range')).toBe('bytes 10-21/22');
  const other = (await ask('config.json', { range: 'bytes=10-', 'if-range': '"another"' }))!;
  expect([other.status, await other.text()]).toEqual([200, '0123456789 config.json']);
  expect((await ask('config.json', { range: 'bytes=22-' }))!.status).toBe(416);
  // What no tab asks for is the whole.
  for (const range of ['bytes=-5', 'bytes=0-', 'bytes=3-5', 'lines=2-']) {
    const found = (await ask('config.json', { range }))!;
    expect([range, found.status, await found.text()]).toEqual([range, 200, '0123456789 config.json']);
  }
});
