/** Errors of a pull, and what is left on disk after them. */

import { readdirSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { type HubServer, noise, refuse } from './testing/hub-server.js';
import {
  eachWithHub,
  namesIn,
  partPath,
  pullFrom,
  QUICK,
  refusalsOf,
  stopAfter,
  whenStored,
} from './testing/pulling.js';

let here: string;
let folder: string;
let server: HubServer;
eachWithHub((hub) => {
  ({ server, here, folder } = hub);
});

const { expectHubError, expectStorageError, withToken } = refusalsOf(() => ({ server, here, folder }));

describe('fails and leaves nothing behind:', () => {
  afterEach(() => expect(readdirSync(here)).toEqual([]));

  test('a hub that cannot be reached, at once', async () => {
    const closed = createServer();
    await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
    const endpoint = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
    await new Promise((resolve) => closed.close(resolve));
    const events: unknown[] = [];
    await expectHubError(/could not be reached \(ECONNREFUSED\).*copied by hand/, {
      hub: { endpoint },
      onEvent: (event) => events.push(event),
    });
    expect(events).toEqual([]);
  });

  test('a model that does not exist, or that not everyone may see', async () => {
    await expectHubError(/has no model weavers\/none .*Check the spelling/, { repo: 'weavers/none' });
    server.onRequest = (_, response) => {
      response.writeHead(401).end('Invalid username or password.');
      return true;
    };
    await expectHubError(/does not give weavers\/loom-1b to everyone \(401\).*HF_TOKEN/);
    await expectHubError(/give the account of HF_TOKEN access to .* \(401\).*token is valid/, withToken());
    server.onRequest = (_, response) => response.writeHead(404).end() !== undefined;
    await expectHubError(/has no model weavers\/loom-1b with a revision "main" \(404\)/);
  });

  test('a revision that does not exist', async () => {
    await expectHubError(/has no revision "refs\/pr\/1"/, { revision: 'refs/pr/1' });
    expect(server.requests.at(-1)!.path).toContain('/tree/refs%2Fpr%2F1?');
  });

  test('a repository without safetensors, and the error lists its files', async () => {
    server.files.delete('model.safetensors');
    server.put('pytorch_model.bin', 'x');
    server.extraEntries.push({ type: 'directory', path: 'original' });
    await expectHubError(/no GGUF file.*"pytorch_model\.bin", "original\/"/);
    server.files.clear();
    server.extraEntries.length = 0;
    await expectHubError(/It has nothing at all/);
  });

  test('a repository without a config', async () => {
    server.files.delete('config.json');
    await expectHubError(/has no config\.json/);
  });

  test('malformed names, without a request', async () => {
    for (const repo of [
      'loom',
      'a/b/c',
      '../loom',
      'weavers/..',
      'weavers/loom?x=1',
      '/loom',
      'a/b.git',
      '',
    ]) {
      await expectHubError(/is not the name of a model\. Expected owner\/name/, { repo });
    }
    for (const revision of ['', '..', 'a/../b', '-x', 'a b']) {
      await expectHubError(/is not a revision/, { revision });
    }
    expect(server.requests).toEqual([]);
  });

  test('responses that are not a list of files', async () => {
    const answers: [string, string, RegExp][] = [
      ['text/html', '<html>Log in</html>', /answered with "text\/html", expected the list/],
      ['application/json', '{"error": "no"}', /answered with "application\/json", expected the list/],
      ['application/json', '[1]', /answered with entries without a path/],
      [
        'application/json',
        '[{"type": "file", "path": "config.json", "size": -1}]',
        /"config\.json" without a size/,
      ],
      [
        'application/json',
        '[{"type": "file", "path": "a", "size": 1, "oid": "../../x"}]',
        /"a" without a size/,
      ],
    ];
    for (const [type, body, message] of answers) {
      server.onRequest = (_, response) => {
        response.writeHead(200, { 'content-type': type }).end(body);
        return true;
      };
      await expectHubError(message);
    }
  });

  test('an endless list, and endless redirects', async () => {
    server.onRequest = (_, response) => {
      response.writeHead(200, { link: `<${server.endpoint}/again>; rel="next"` }).end('[]');
      return true;
    };
    await expectHubError(/more than 1000 pages/);
    server.onRequest = (_, response) => response.writeHead(302, { location: '/again' }).end() !== undefined;
    await expectHubError(/redirects in circles/);
    server.onRequest = (_, response) =>
      response.writeHead(302, { location: 'file:///etc/x' }).end() !== undefined;
    await expectHubError(/redirects to nowhere/);
  });

  test('a hub that always fails, or asks for a wait of an hour', async () => {
    server.onRequest = (_, response) => response.writeHead(500).end() !== undefined;
    await expectHubError(/answered with status 500/);
    expect(server.requests).toHaveLength(1 + QUICK.retries);
    server.onRequest = (_, response) =>
      response.writeHead(429, { 'retry-after': '3600' }).end() !== undefined;
    await expectHubError(/429 \(too many requests\).*in 60 min/);
    expect(server.requests).toHaveLength(2 + QUICK.retries);
  });

  test('more than the disk has room for', async () => {
    const entry = { type: 'file', path: 'model.safetensors', oid: 'a'.repeat(40), size: 2 ** 52 };
    server.files.delete('model.safetensors');
    server.extraEntries.push({ ...entry, lfs: { oid: 'b'.repeat(64), size: 2 ** 52 } });
    await expectStorageError(/needs 4,503,599\.\d+ GB more, and the disk of .* GB free/);
    expect(server.fetched()).toEqual([]);
  });
});

test('a hub that is overloaded for a moment is asked again after the wait that it asks for', async () => {
  let left = 2;
  server.onRequest = (_, response) => {
    if (left-- <= 0) return false;
    response.writeHead(503, { 'retry-after': '0' }).end('busy');
    return true;
  };
  // The client's own backoff would be an hour.
  const { downloaded, events } = await pullFrom(server, folder, { patience: { ...QUICK, backoff: 3600 } });
  expect(downloaded).toBe(5);
  expect(events.slice(0, 2)).toEqual(
    Array(2).fill({ event: 'waiting', seconds: 0, reason: expect.stringMatching(/status 503/) }),
  );
});

test('a Retry-After date in the past is ignored, so each wait is longer than the one before', async () => {
  let left = 2;
  server.onRequest = (_, response) => {
    if (left-- <= 0) return false;
    response.writeHead(503, { 'retry-after': 'Wed, 21 Oct 2015 07:28:00 GMT' }).end('busy');
    return true;
  };
  const { downloaded, events } = await pullFrom(server, folder, { patience: QUICK });
  expect(downloaded).toBe(5);
  const waits = events.flatMap((event) => (event.event === 'waiting' ? [event.seconds] : []));
  expect(waits).toEqual([QUICK.backoff, 2 * QUICK.backoff]);
});

test.each<[string, Record<string, string>]>([
  ['RateLimit', { ratelimit: '"resolvers";r=0;t=1', 'ratelimit-policy': '"resolvers";q=5000;w=300' }],
  ['one of several RateLimits', { ratelimit: '"api";r=7;t=290, "pages";r=0;t=1' }],
  ['RateLimit-Reset', { 'ratelimit-remaining': '0', 'ratelimit-reset': '1' }],
])('a hub that says in %s when to come back is asked then, and not before', async (_, headers) => {
  let left = 1;
  server.onRequest = (_, response) => {
    if (left-- <= 0) return false;
    response.writeHead(429, headers).end('too many');
    return true;
  };
  const { downloaded, events } = await pullFrom(server, folder, { patience: { ...QUICK, backoff: 3600 } });
  expect(downloaded).toBe(5);
  const waits = events.filter(({ event }) => event === 'waiting');
  expect(waits).toEqual([{ event: 'waiting', seconds: 1.5, reason: expect.stringMatching(/status 429/) }]);
});

test('the error for a gated model says where the terms are, and what the token lacks', async () => {
  // The list is public, the files are not.
  server.onRequest = ({ file }, response) => {
    if (file === '') return false;
    refuse(response, 403, 'GatedRepo');
    return true;
  };
  const terms = new RegExp(
    `weavers/loom-1b is gated: accept its terms at ${server.endpoint}/weavers/loom-1b, .*HF_TOKEN`,
  );
  await expectHubError(terms);
  await expectHubError(/is gated, and the account of HF_TOKEN has no access/, withToken());
  expect(namesIn(folder)).toEqual([]);
});

test('a connection that is cut again and again fails in the end, and the received bytes are kept', async () => {
  server.onRequest = ({ host, range }, response) => {
    if (host !== 'cdn') return false;
    const bytes = server.files.get('model.safetensors')!.bytes;
    const begin = server.begin(response, bytes, range);
    response.write(bytes.subarray(begin, begin + 1000), () => setTimeout(() => response.destroy(), 20));
    return true;
  };
  await expectHubError(/cut the connection .*again and again.*is kept/);
  expect(server.requests.filter(({ host }) => host === 'cdn')).toHaveLength(1 + QUICK.retries);
  const { size } = statSync(partPath(server, folder, 'model.safetensors'));
  server.onRequest = () => false;
  server.requests.length = 0;
  await pullFrom(server, folder);
  expect(server.requests.find(({ host }) => host === 'cdn')?.range).toBe(
    size > 0 ? `bytes=${size}-` : undefined,
  );
});

test('a server without ranges that never completes a file fails in the end', async () => {
  server.put('model.safetensors', noise(3 * 2 ** 20, 2));
  server.ranges = false;
  let left = 20;
  server.onRequest = ({ host, range }, response) => {
    if (host !== 'cdn' || left-- <= 0) return false;
    const { bytes } = server.files.get('model.safetensors')!;
    server.begin(response, bytes, range);
    response.write(bytes.subarray(0, 2 * 2 ** 20));
    void whenStored(partPath(server, folder, 'model.safetensors'), 2 * 2 ** 20).then(() =>
      response.destroy(),
    );
    return true;
  };
  await expectHubError(/again and again/);
});

test('a login page instead of the rest of a file is an error, and the bytes received before are kept', async () => {
  const stop = new AbortController();
  stopAfter(server, folder, 'model.safetensors', 100_000, () => stop.abort());
  await expect(pullFrom(server, folder, { signal: stop.signal })).rejects.toThrow();
  server.onRequest = ({ host }, response) => {
    if (host !== 'cdn') return false;
    response.writeHead(200, { 'content-type': 'text/html', 'content-length': 6 }).end('<html>');
    return true;
  };
  await expectHubError(
    /answered with 6 bytes of "text\/html" instead of the 300000 bytes of model\.safetensors/,
  );
  expect(statSync(partPath(server, folder, 'model.safetensors')).size).toBe(100_000);
});

test('a file longer than its listed size is not stored', async () => {
  server.onRequest = ({ host }, response) => {
    if (host !== 'cdn') return false;
    response.writeHead(200, { 'transfer-encoding': 'chunked' }).end(noise(400_000, 3));
    return true;
  };
  await expectHubError(/more than 300000 bytes/);
  expect(namesIn(folder)).not.toContain('model.safetensors');
});
