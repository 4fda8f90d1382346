/** What a pull downloads, what it skips, and how it resumes after an interruption. */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type HubServer, noise, sha256 } from './testing/hub-server.js';
import { eachWithHub, namesIn, partPath, pullFrom, QUICK, stopAfter, whenStored } from './testing/pulling.js';

let folder: string;
let server: HubServer;
eachWithHub((hub) => {
  ({ server, folder } = hub);
});

const read = (name: string): Buffer => readFileSync(join(folder, name));
const weights = (): Buffer => server.files.get('model.safetensors')!.bytes;

/** Expects exactly these files of the server in the folder, byte for byte. */
function expectFiles(...names: string[]): void {
  expect(namesIn(folder)).toEqual([...names].sort());
  for (const name of names) expect(read(name).equals(server.files.get(name)!.bytes), name).toBe(true);
  expect(readdirSync(join(folder, '.heddle-pull'))).toEqual(['pulled.json']);
}

const MODEL = ['README.md', 'config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'];

/** Shards, and their index. */
function putShards(count: number, seed: number): string[] {
  const names = Array.from({ length: count }, (_, i) => `model-0000${i + 1}-of-0000${count}.safetensors`);
  for (const [i, name] of names.entries()) server.put(name, noise(20_000 + i, seed + i));
  const map = Object.fromEntries(
    names.flatMap((name, i) => [
      [`a.${i}`, name],
      [`b.${i}`, name],
    ]),
  );
  server.put('model.safetensors.index.json', JSON.stringify({ metadata: {}, weight_map: map }));
  return names;
}

test('downloads the files that the model needs, from all pages of the list, config.json last', async () => {
  server.put('generation_config.json', '');
  server.put('LICENSE.txt', 'Use it.');
  server.put('chat_template.jinja', '{{ messages }}');
  const wanted = [...server.files.keys()];
  // None of these is part of the model.
  putShards(2, 50);
  server.put('consolidated.safetensors', noise(999, 2));
  server.put('pytorch_model.bin', noise(999, 3), true);
  server.put('loom-q4.gguf', noise(999, 4), true);
  server.put('LICENSE-scan.txt', noise(2 ** 20 + 1, 5));
  server.put('modeling_loom.py', 'import os');
  server.extraEntries.push({ type: 'directory', path: 'onnx', oid: 'b'.repeat(40), size: 0 });

  const { files, bytes, downloaded, events } = await pullFrom(server, folder);
  expectFiles(...wanted);
  const total = wanted.reduce((sum, name) => sum + server.files.get(name)!.bytes.length, 0);
  expect({ files, bytes, downloaded }).toEqual({
    files: wanted.length,
    bytes: total,
    downloaded: wanted.length,
  });
  expect(events[0]).toMatchObject({ event: 'plan', files: wanted.length, missingBytes: total, replaced: [] });
  expect(events.at(-1)).toMatchObject({ event: 'downloading', done: total, total, received: total });
  expect(server.fetched().at(-1)).toBe('hub:config.json');
  expect(server.fetched()).toContain('cdn:model.safetensors');
});

test('downloads the shards that the index names, and no others', async () => {
  server.files.delete('model.safetensors');
  server.put('model-00001-of-00003.safetensors', noise(999, 9));
  const shards = putShards(2, 50);
  const { events } = await pullFrom(server, folder);
  const rest = MODEL.filter((name) => name !== 'model.safetensors');
  expectFiles(...rest, ...shards, 'model.safetensors.index.json');
  const total = namesIn(folder).reduce((sum, name) => sum + read(name).length, 0);
  expect(events.find(({ event }) => event === 'plan')).toMatchObject({ files: 7, missingBytes: total });
  expect(events.at(-1)).toMatchObject({ done: total, received: total });
  expect(server.fetched().filter((name) => name.endsWith('index.json'))).toHaveLength(1);
});

describe('a second pull', () => {
  test('downloads nothing', async () => {
    await pullFrom(server, folder);
    const before = MODEL.map((name) => statSync(join(folder, name)).mtimeMs);
    server.requests.length = 0;
    const { downloaded, events } = await pullFrom(server, folder);
    expect(downloaded).toBe(0);
    expect(events.find(({ event }) => event === 'plan')).toMatchObject({ missingFiles: 0, missingBytes: 0 });
    expect(server.fetched()).toEqual([]);
    expect(MODEL.map((name) => statSync(join(folder, name)).mtimeMs)).toEqual(before);
    expectFiles(...MODEL);
  });

  test('replaces a file that was damaged, and only that', async () => {
    await pullFrom(server, folder);
    const damaged = Buffer.from(weights());
    damaged[1000]! ^= 1;
    writeFileSync(join(folder, 'model.safetensors'), damaged);
    server.requests.length = 0;
    const { downloaded, events } = await pullFrom(server, folder);
    expect(downloaded).toBe(1);
    expect(events.find(({ event }) => event === 'plan')).toMatchObject({ replaced: ['model.safetensors'] });
    expect(server.fetched()).toEqual(['hub:model.safetensors', 'cdn:model.safetensors']);
    expectFiles(...MODEL);
  });

  test("updates to the repository's new files, and removes those it no longer has", async () => {
    server.files.delete('model.safetensors');
    putShards(3, 50);
    await pullFrom(server, folder);
    for (const name of [...server.files.keys()]) if (name.startsWith('model')) server.files.delete(name);
    server.put('model.safetensors', noise(5000, 70));
    writeFileSync(join(folder, 'notes.txt'), 'mine');
    await pullFrom(server, folder);
    rmSync(join(folder, 'notes.txt'));
    expectFiles(...MODEL);
  });
});

describe('resumes or restarts', () => {
  test('where the connection was cut, with a Range request', async () => {
    stopAfter(server, folder, 'model.safetensors', 100_000);
    const { events } = await pullFrom(server, folder);
    const asked = server.requests.filter(({ host }) => host === 'cdn');
    expect(asked.map(({ range }) => range)).toEqual([undefined, 'bytes=100000-']);
    expect(events.filter(({ event }) => event === 'waiting')).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ received: weights().length + 5000 + sizeOfRest() });
    expectFiles(...MODEL);
  });

  test('where an earlier pull was stopped', async () => {
    const stop = new AbortController();
    stopAfter(server, folder, 'model.safetensors', 100_000, () => stop.abort());
    await expect(pullFrom(server, folder, { signal: stop.signal })).rejects.toThrow(/aborted/);
    expect(statSync(partPath(server, folder, 'model.safetensors')).size).toBe(100_000);
    // The folder does not look like a model yet, and is not locked.
    expect(namesIn(folder)).not.toContain('config.json');
    expect(readdirSync(join(folder, '.heddle-pull')).filter((name) => name.startsWith('lock'))).toEqual([]);

    server.requests.length = 0;
    const { events } = await pullFrom(server, folder);
    expect(server.requests.find(({ host }) => host === 'cdn')?.range).toBe('bytes=100000-');
    expect(events.find(({ event }) => event === 'plan')).toMatchObject({
      missingFiles: 2,
      missingBytes: 200_000 + server.files.get('config.json')!.bytes.length,
    });
    expectFiles(...MODEL);
  });

  test('after a time without data', async () => {
    stopAfter(server, folder, 'model.safetensors', 100_000, () => {});
    const { events } = await pullFrom(server, folder, { patience: { ...QUICK, silence: 1 } });
    expect(events.find(({ event }) => event === 'waiting')).toMatchObject({
      reason: expect.stringMatching(/sent nothing for 1 s/),
    });
    expectFiles(...MODEL);
  });

  test('any number of times, while each connection brings enough bytes', async () => {
    server.put('model.safetensors', noise(6 * 2 ** 20, 7));
    // Cuts each connection after a little more than a mebibyte, more often than `retries` allows in a row.
    let cuts = 0;
    server.onRequest = ({ host, range }, response) => {
      if (host !== 'cdn') return false;
      const begin = server.begin(response, weights(), range);
      const end = begin + 2 ** 20 + 1000;
      if (end >= weights().length) return response.end(weights().subarray(begin)) !== undefined;
      cuts++;
      response.write(weights().subarray(begin, end));
      void whenStored(partPath(server, folder, 'model.safetensors'), end).then(() => response.destroy());
      return true;
    };
    await pullFrom(server, folder);
    expect(cuts).toBeGreaterThan(QUICK.retries);
    expectFiles(...MODEL);
  });

  test('from the start, when the server does not support ranges', async () => {
    server.ranges = false;
    stopAfter(server, folder, 'model.safetensors', 100_000);
    await pullFrom(server, folder);
    expectFiles(...MODEL);
  });

  test('from the start, when the server answers with a range that was not requested', async () => {
    stopAfter(server, folder, 'model.safetensors', 100_000);
    const cutOnce = server.onRequest;
    server.onRequest = (seen, response) => {
      if (seen.range === undefined || seen.host === 'hub') return cutOnce(seen, response);
      response.writeHead(206, { 'content-range': 'bytes 5-299999/300000' });
      response.end(weights().subarray(5));
      return true;
    };
    await pullFrom(server, folder);
    expectFiles(...MODEL);
  });

  test('from the start, when the file has changed since an earlier pull was stopped', async () => {
    const stop = new AbortController();
    stopAfter(server, folder, 'model.safetensors', 100_000, () => stop.abort());
    await expect(pullFrom(server, folder, { signal: stop.signal })).rejects.toThrow();
    server.put('model.safetensors', noise(300_000, 8));
    server.requests.length = 0;
    await pullFrom(server, folder);
    expect(server.requests.find(({ host }) => host === 'cdn')?.range).toBeUndefined();
    expectFiles(...MODEL);
  });

  test('from the start, when the file changes between two attempts', async () => {
    stopAfter(server, folder, 'model.safetensors', 100_000, (response) => {
      server.put('model.safetensors', noise(300_000, 8));
      response.destroy();
    });
    const { events } = await pullFrom(server, folder);
    expect(events.filter(({ event }) => event === 'changed')).toHaveLength(1);
    expectFiles(...MODEL);
  });

  test('from the start, when a file vanishes between the list and the download', async () => {
    server.onRequest = ({ file }) => {
      if (file === 'README.md') server.files.delete('README.md');
      return false;
    };
    await pullFrom(server, folder);
    expectFiles(...MODEL.filter((name) => name !== 'README.md'));
  });

  function sizeOfRest(): number {
    const small = MODEL.filter((name) => name !== 'model.safetensors');
    return small.reduce((sum, name) => sum + server.files.get(name)!.bytes.length, -5000);
  }
});

describe('a wrong checksum', () => {
  /** Makes the first `times` responses with this file have a wrong byte. */
  function spoil(host: 'hub' | 'cdn', file: string, times: number): Buffer {
    const wrong = Buffer.from(server.files.get(file)!.bytes);
    wrong[wrong.length >> 1]! ^= 1;
    let left = times;
    server.onRequest = (seen, response) => {
      if (seen.host !== host || seen.file !== file || left-- <= 0) return false;
      server.send(response, wrong, seen.range);
      return true;
    };
    return wrong;
  }

  test('once is repaired by a second download', async () => {
    spoil('cdn', 'model.safetensors', 1);
    const { events } = await pullFrom(server, folder);
    expect(events).toContainEqual({ event: 'mismatch', name: 'model.safetensors' });
    expectFiles(...MODEL);
  });

  test('twice is an error with both sums, and the bytes are deleted', async () => {
    const wrong = spoil('cdn', 'model.safetensors', 2);
    const pulling = pullFrom(server, folder);
    await expect(pulling).rejects.toMatchObject({ code: 'hub' });
    await expect(pulling).rejects.toThrow(
      new RegExp(`model\\.safetensors .*${sha256(weights())}.*${sha256(wrong)}`),
    );
    expect(namesIn(folder)).toEqual(['README.md', 'tokenizer.json', 'tokenizer_config.json']);
    expect(
      statSync(partPath(server, folder, 'model.safetensors'), { throwIfNoEntry: false })?.size ?? 0,
    ).toBe(0);
  });

  test('of a small file is detected too', async () => {
    spoil('hub', 'tokenizer.json', 2);
    await expect(pullFrom(server, folder)).rejects.toThrow(
      /tokenizer\.json came with the wrong bytes twice.*git id/,
    );
  });
});
