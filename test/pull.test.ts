/** `heddle pull` as a whole: its output when it works, is interrupted or killed, or fails. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { HubServer, refuse } from '../src/hub/testing/hub-server.js';
import { namesIn, partPath, stopAfter } from '../src/hub/testing/pulling.js';
import { build, HEDDLE, heddle, type Outcome } from './testing/heddle.js';

const TOKEN = 'hf_secretsecretsecret';

beforeAll(build);

let here: string;
let folder: string;
let server: HubServer;
const environment = { ...process.env };
beforeEach(async () => {
  here = mkdtempSync(join(tmpdir(), 'heddle-pull-command-'));
  folder = join(here, 'loom');
  server = await HubServer.start();
  server.putModel();
  Object.assign(process.env, { HF_ENDPOINT: server.endpoint, HF_TOKEN: TOKEN });
});
afterEach(async () => {
  process.env = { ...environment };
  await server.stop();
  rmSync(here, { recursive: true, force: true });
});

type Watch = Parameters<typeof heddle>[1];

function pull(watch?: Watch): Promise<Outcome> {
  return heddle(['pull', server.repo, '--out', folder], watch);
}

function expectWhole(): void {
  expect(namesIn(folder)).toEqual([...server.files.keys()].sort());
  for (const [name, { bytes }] of server.files) {
    expect(readFileSync(join(folder, name)).equals(bytes), name).toBe(true);
  }
  expect(readdirSync(join(folder, '.heddle-pull'))).toEqual(['pulled.json']);
}

/** Runs a pull until the CDN has stalled after 100,000 bytes, and sends a signal to it then. */
async function stopped(signal: NodeJS.Signals): Promise<Outcome> {
  let tell = (_: ChildProcess): void => {};
  const started = new Promise<ChildProcess>((resolve) => {
    tell = resolve;
  });
  stopAfter(server, folder, 'model.safetensors', 100_000, () => {
    void started.then((child) => child.kill(signal));
  });
  return pull((_, child) => tell(child));
}

async function expectGoesOn(): Promise<void> {
  server.requests.length = 0;
  const { code, stderr } = await pull();
  expect(stderr).toMatch(/of these 105 kB are there already: 200 kB to download/);
  expect(code).toBe(0);
  expect(server.requests.find(({ host }) => host === 'cdn')?.range).toBe('bytes=100000-');
  expectWhole();
}

test('takes the address of the page of a model, and refuses others by their whole names', async () => {
  const first = await heddle(['pull', `${server.endpoint}/${server.repo}/`, '--out', folder]);
  expect(first.stderr).toContain(`weavers/loom-1b (main): 5 files, 305 kB, into ${folder}\n`);
  expect(first.code).toBe(0);
  expectWhole();
  for (const name of ['https://other.example/weavers/loom-1b', 'weavers', 'a/b:c:Q4_K_M']) {
    const { code, stderr } = await heddle(['pull', name, '--out', join(here, 'none')]);
    expect(stderr).toContain(
      `"${name.replace(/:Q4_K_M$/, '')}" is not the name of a model. Expected owner/name`,
    );
    expect(code).toBe(1);
  }
});

test('downloads a model, prints its size and the next command; a second call has nothing to do', async () => {
  const first = await pull();
  expect(first.stderr.trimEnd().split('\n')).toEqual([
    `weavers/loom-1b (main): 5 files, 305 kB, into ${folder}`,
    `done: 5 files, 305 kB in ${folder}, with the hub's checksums`,
    `next:  ${HEDDLE} info ${folder}`,
    `       ${HEDDLE} chat ${folder}`,
  ]);
  expect(first.code).toBe(0);
  expectWhole();
  server.requests.length = 0;
  const second = await pull();
  expect(second.stderr).toMatch(/complete already: all 5 files .* nothing to download/);
  expect(second.code).toBe(0);
  expect(server.fetched()).toEqual([]);
  expect(first.stderr + second.stderr).not.toContain(TOKEN);
});

test('Ctrl-C keeps what was downloaded and exits with 130; the same command continues', async () => {
  const { code, stderr } = await stopped('SIGINT');
  expect(stderr).toMatch(/interrupted: what was downloaded is kept\. Go on with the same command\.\n$/);
  expect(code).toBe(130);
  expect(readdirSync(join(folder, '.heddle-pull')).filter((name) => name.startsWith('lock'))).toEqual([]);
  await expectGoesOn();
});

test('a killed download continues, too', async () => {
  const { code } = await stopped('SIGKILL');
  expect(code).toBe(null);
  expect(statSync(partPath(server, folder, 'model.safetensors')).size).toBe(100_000);
  await expectGoesOn();
});

test('a concurrent pull into the same folder is refused, and changes nothing', async () => {
  let other: Promise<Outcome> | undefined;
  stopAfter(server, folder, 'model.safetensors', 100_000, (response) => {
    other = pull().finally(() => response.destroy());
  });
  const { code } = await pull();
  expect(code).toBe(0);
  const refused = await other!;
  expect(refused.stderr).toMatch(/^heddle: Could not write .*loom: process \d+ is downloading into it/);
  expect(refused.code).toBe(1);
  expectWhole();
});

test('a refusal is one line, and leaves nothing behind', async () => {
  server.onRequest = (_, response) => {
    refuse(response, 403, 'GatedRepo');
    return true;
  };
  for (const [args, message] of [
    [[server.repo], /^heddle: weavers\/loom-1b is gated, and the account of HF_TOKEN has no access/],
    [['loom'], /^heddle: "loom" is not the name of a model\. Expected owner\/name/],
  ] as const) {
    const { code, stdout, stderr } = await heddle(['pull', ...args, '--out', folder]);
    expect(stderr).toMatch(message);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(stderr).not.toContain(TOKEN);
    expect(stdout).toBe('');
    expect(code).toBe(1);
  }
  expect(readdirSync(here)).toEqual([]);
});
