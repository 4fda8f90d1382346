import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { pluginIn } from '../../engine/cuda-libraries.js';
import { HubError, StorageError } from '../../errors.js';
import { noise } from '../testing/hub-server.js';
import { PackageServer, wheelOf } from '../testing/package-server.js';
import { indexSource, type Platform } from './package-index.js';
import { type CudaSetup, type CudaSetupEvent, setupCuda } from './setup.js';
import { isWanted, WHEELS } from './wheels.js';

const PLATFORM: Platform = { machine: 'x86_64', glibc: [2, 36] };
const XLA = 'jax_cuda13_pjrt-1.2.3-py3-none-manylinux_2_27_x86_64.whl';
const CUBLAS = 'nvidia_cublas-13.1-py3-none-manylinux_2_27_x86_64.whl';
const SMALL = [
  ['jax-cuda13-pjrt', '1.2.3'],
  ['nvidia-cublas', '13.1'],
] as const;

let server: PackageServer;
let scratch: string;
let folder: string;
beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'heddle-cuda-'));
  folder = join(scratch, 'cuda');
  server = await PackageServer.start();
  server.files.set(
    XLA,
    await wheelOf({
      'jax_plugins/xla_cuda13/xla_cuda_plugin.so': noise(300_000, 1),
      'jax_plugins/xla_cuda13/__init__.py': 'import os',
      'jax_cuda13_pjrt-1.2.3.dist-info/licenses/LICENSE.txt': 'the license',
      'jax_cuda13_pjrt-1.2.3.dist-info/METADATA': 'Name: x',
    }),
  );
  server.files.set(
    CUBLAS,
    await wheelOf({
      'nvidia/cu13/lib/libcublas.so.13': noise(200_000, 2),
      'nvidia/cu13/lib/libcublas_static.a': noise(1000, 3),
      'nvidia/cu13/include/cublas.h': '#define',
      'nvidia/cu13/bin/ptxas': '#!',
      'nvidia/cu13/nvvm/libdevice/libdevice.10.bc': 'BC',
    }),
  );
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await server.stop();
  rmSync(scratch, { recursive: true });
});

const events: CudaSetupEvent[] = [];
const plans: object[] = [];
function setup(options: Partial<CudaSetup> = {}) {
  events.length = 0;
  plans.length = 0;
  return setupCuda({
    index: options.index ?? indexSource(server.index),
    folder,
    wheels: SMALL,
    platform: PLATFORM,
    patience: { retries: 2, backoff: 0.01, silence: 5 },
    onEvent: (event) => events.push(event),
    confirm: async (plan) => {
      plans.push(plan);
      return true;
    },
    ...options,
  });
}

/** All files below a folder. */
function filesIn(path: string): string[] {
  return (readdirSync(path, { recursive: true }) as string[])
    .filter((name) => statSync(join(path, name)).isFile() && !name.split('/').at(-1)!.startsWith('.'))
    .sort();
}

const LIBRARIES = [
  'jax_cuda13_pjrt-1.2.3.dist-info/licenses/LICENSE.txt',
  'jax_plugins/xla_cuda13/xla_cuda_plugin.so',
  'nvidia/cu13/bin/ptxas',
  'nvidia/cu13/lib/libcublas.so.13',
  'nvidia/cu13/nvvm/libdevice/libdevice.10.bc',
];

function expectComplete(): void {
  const target = join(folder, '1.2.3');
  expect(filesIn(target)).toEqual(LIBRARIES);
  expect(readFileSync(join(target, LIBRARIES[1]!))).toEqual(noise(300_000, 1));
  expect(statSync(join(target, 'nvidia/cu13/bin/ptxas')).mode & 0o111).toBe(0o111);
  expect(statSync(join(target, LIBRARIES[1]!)).mode & 0o111).toBe(0);
  expect(pluginIn([target], 'a test')?.libraries).toEqual([join(target, 'nvidia/cu13/lib/libcublas.so.13')]);
  expect(readdirSync(join(folder, '.downloads'))).toEqual([]);
}

const total = () => [...server.files.values()].reduce((all, bytes) => all + bytes.length, 0);

describe('setting up CUDA', () => {
  test('reports its plan, installs the libraries and nothing else, and then has nothing to do', async () => {
    expect(await setup()).toEqual({ outcome: 'done', folder: join(folder, '1.2.3') });
    expect(plans).toEqual([
      { wheels: 2, bytes: total(), missingBytes: total(), folder: join(folder, '1.2.3') },
    ]);
    expectComplete();
    const last = (kind: string) => events.filter(({ event }) => event === kind).at(-1);
    expect(last('downloading')).toMatchObject({ done: total(), total: total(), received: total() });
    expect(last('unpacking')).toMatchObject({ done: 500_015, total: 500_015 });
    server.asked.length = 0;
    expect((await setup()).outcome).toBe('present');
    expect(server.asked).toEqual([]);
  });

  test.each(['json without sizes', 'html'] as const)('reads an index that answers in %s', async (style) => {
    server.style = style;
    expect((await setup()).outcome).toBe('done');
    expect(plans[0]).toMatchObject({ bytes: total() });
    expectComplete();
  });

  test('downloads nothing when the plan is declined', async () => {
    expect((await setup({ confirm: async () => false })).outcome).toBe('declined');
    expect(server.downloads()).toEqual([]);
    expect(readdirSync(join(folder, '.downloads'))).toEqual([]);
  });

  test('resumes where the connection was cut, and where an earlier setup was stopped', async () => {
    let cuts = 0;
    server.onRequest = ({ path, range }, response) => {
      const bytes = server.files.get(XLA)!;
      if (!path.endsWith(XLA) || range !== undefined || cuts++ > 0) return false;
      response.writeHead(200, { 'content-length': bytes.length });
      response.write(bytes.subarray(0, 100_000), () => response.destroy());
      return true;
    };
    const stop = new AbortController();
    const stopped = setup({
      signal: stop.signal,
      onEvent: (event) => {
        events.push(event);
        if (event.event === 'downloading' && event.name === CUBLAS) stop.abort();
      },
    });
    await expect(stopped).rejects.toThrow(/abort/i);
    expect(events.some(({ event }) => event === 'waiting')).toBe(true);
    expect(server.asked.some(({ range }) => /^bytes=[1-9]\d*-$/.test(range ?? ''))).toBe(true);
    expect(existsSync(join(folder, '1.2.3'))).toBe(false);
    server.asked.length = 0;
    expect((await setup()).outcome).toBe('done');
    expect(server.downloads()).not.toContain(XLA);
    expect((plans[0] as { missingBytes: number }).missingBytes).toBeLessThan(
      server.files.get(CUBLAS)!.length,
    );
    expectComplete();
  });

  test('wrong bytes are downloaded once more, and then are an error', async () => {
    let wrong = 1;
    server.onRequest = ({ path }, response) => {
      if (!path.endsWith(CUBLAS) || wrong-- <= 0) return false;
      const bytes = Buffer.from(server.files.get(CUBLAS)!);
      bytes[5000]! ^= 1;
      response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
      return true;
    };
    await setup();
    expect(events).toContainEqual({ event: 'mismatch', name: CUBLAS });
    expectComplete();
    rmSync(folder, { recursive: true });
    wrong = 5;
    await expect(setup()).rejects.toThrow(
      /wrong bytes twice: the package index lists the SHA-256 [0-9a-f]{64}/,
    );
    expect(readdirSync(folder)).toEqual(['.downloads']);
  });

  test('an invalid archive, or one without a plugin, leaves nothing that looks complete', async () => {
    server.files.set(CUBLAS, noise(5000, 9));
    await expect(setup()).rejects.toThrow(/cannot be unpacked/);
    server.files.set(CUBLAS, await wheelOf({ 'nvidia/cu13/lib/libcublas.so.13': 'x' }));
    server.files.set(XLA, await wheelOf({ 'README.md': 'nothing' }));
    await expect(setup()).rejects.toThrow(/there is no XLA plugin in/);
    expect(readdirSync(folder)).toEqual(['.downloads']);
  });

  test('names in an archive that point outside the folder are refused', async () => {
    const bytes = Buffer.from(
      (await wheelOf({ 'nvidia/xx/lib/libevil.so.1': 'evil' }))
        .toString('latin1')
        .replaceAll('nvidia/xx/lib/libevil', '../../../../../nvidia'),
      'latin1',
    );
    server.files.set(CUBLAS, bytes);
    await expect(setup()).rejects.toThrow(HubError);
    expect(readdirSync(folder)).toEqual(['.downloads']);
  });

  test('a setup by another process is an error, and is not disturbed', async () => {
    mkdirSync(join(folder, '.downloads'), { recursive: true });
    writeFileSync(join(folder, '.downloads', `lock-${process.ppid}`), '');
    await expect(setup()).rejects.toThrow(StorageError);
    await expect(setup()).rejects.toThrow(new RegExp(`process ${process.ppid} is downloading`));
    expect(server.asked).toEqual([]);
  });

  test('libraries of other versions are removed when the new ones are installed', async () => {
    mkdirSync(join(folder, '1.0.0', 'nvidia'), { recursive: true });
    mkdirSync(join(folder, 'notes'), { recursive: true });
    await setup();
    expect(readdirSync(folder).sort()).toEqual(['.downloads', '1.2.3', 'notes']);
  });

  test('too little disk space is an error before the download', async () => {
    server.style = 'html';
    server.onRequest = ({ path }, response) => {
      if (!path.endsWith(CUBLAS)) return false;
      response.writeHead(200, { 'content-length': 9e15 });
      response.write('x', () => response.destroy());
      return true;
    };
    await expect(setup()).rejects.toThrow(
      /take up to .* GB while they are unpacked, and the disk of .* has .* GB free/,
    );
  });

  test('a folder that cannot be written to is an error', async () => {
    writeFileSync(folder, '');
    await expect(setup()).rejects.toThrow(StorageError);
  });
});

describe('the wheel for this machine', () => {
  const choose = async (names: string[], platform: Platform = PLATFORM) => {
    server.files.clear();
    for (const name of names) server.files.set(name, await wheelOf({ a: name }));
    await setup({ wheels: [['jax-cuda13-pjrt', '1.2.3']], platform, confirm: async () => false });
    return server;
  };
  /** The file that is downloaded. */
  const chosen = async (names: string[], platform?: Platform) => {
    await choose(names, platform);
    server.asked.length = 0;
    await setup({ wheels: [['jax-cuda13-pjrt', '1.2.3']], ...(platform ? { platform } : {}) }).catch(
      () => {},
    );
    return server.downloads()[0];
  };
  const wheel = (tags: string, version = '1.2.3') => `jax_cuda13_pjrt-${version}-${tags}.whl`;

  test.each([
    ['py3-none-manylinux_2_27_x86_64', ['py3-none-manylinux_2_27_aarch64', 'py3-none-win_amd64']],
    ['py3-none-manylinux_2_28_x86_64', ['py3-none-manylinux_2_17_x86_64', 'py3-none-manylinux_2_99_x86_64']],
    ['py3-none-manylinux2014_x86_64', ['py3-none-manylinux1_x86_64', 'py3-none-musllinux_1_2_x86_64']],
    ['py2.py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64', ['cp312-cp312-manylinux_2_27_x86_64']],
  ])('is %s', async (best, others) => {
    expect(await chosen([...others, best].map((tags) => wheel(tags)))).toBe(wheel(best));
  });

  test('has the requested version, however its name is normalised', async () => {
    const tags = 'py3-none-manylinux_2_27_x86_64';
    expect(await chosen([wheel(tags, '1.2.30'), wheel(tags, '1.2.3rc1'), wheel(tags)])).toBe(wheel(tags));
  });

  test('if there is none, the error names the platform', async () => {
    const none = choose([wheel('py3-none-manylinux_2_27_x86_64')], { machine: 'aarch64', glibc: [2, 36] });
    await expect(none).rejects.toThrow(
      /no file of jax-cuda13-pjrt 1\.2\.3 for Linux on aarch64 with glibc 2\.36/,
    );
    const old = choose([wheel('py3-none-manylinux_2_27_x86_64')], { machine: 'x86_64', glibc: [2, 17] });
    await expect(old).rejects.toThrow(/glibc 2\.17/);
  });

  test('without a checksum it is not used', async () => {
    server.sums.set(XLA, '');
    await expect(setup()).rejects.toThrow(/gives no SHA-256/);
  });
});

describe('the index', () => {
  test('is pip’s own, PIP_INDEX_URL’s, or the option’s, with a login that goes there alone', () => {
    const environment = { PIP_INDEX_URL: 'https://me:p%40ss@mirror.example/simple/' };
    expect(indexSource(undefined, environment)).toMatchObject({
      endpoint: 'https://mirror.example/simple',
      authorization: `Basic ${Buffer.from('me:p@ss').toString('base64')}`,
      setting: 'PIP_INDEX_URL',
    });
    expect(indexSource('http://here/x', environment)).toMatchObject({
      endpoint: 'http://here/x',
      setting: '--index-url',
    });
    expect(indexSource('http://here/x')).not.toHaveProperty('authorization');
    expect(new URL(indexSource(undefined, {}).endpoint).pathname).toBe('/simple');
    for (const wrong of ['ftp://here', 'here', '/simple']) {
      expect(() => indexSource(wrong)).toThrow(/--index-url is not the address of a package index/);
    }
  });

  test('accepts a login', async () => {
    server.onRequest = ({ authorization }, response) => {
      if (authorization === `Basic ${Buffer.from('me:secret').toString('base64')}`) return false;
      response.writeHead(401).end();
      return true;
    };
    await expect(setup()).rejects.toThrow(
      /refuses access \(401\): put the user name and password into --index-url/,
    );
    const address = `http://me:secret@127.0.0.1:${server.port}/simple`;
    expect((await setup({ index: indexSource(address) })).outcome).toBe('done');
  });

  test('a page of something else is an error', async () => {
    server.onRequest = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<a href="/login">log in</a>');
      return true;
    };
    await expect(setup()).rejects.toThrow(
      /answered with .*text\/html.*, expected the list of the files of jax-cuda13-pjrt/,
    );
    await expect(setup()).rejects.toThrow(/a wrong --index-url does that/);
  });

  test('a missing package and an unreachable index are errors', async () => {
    await expect(setup({ wheels: [['jax-cuda99-pjrt', '1']] })).rejects.toThrow(
      /has no .*\/simple\/jax-cuda99-pjrt\/ \(404\)/,
    );
    const index = indexSource(server.index);
    await server.stop();
    await expect(setup({ index })).rejects.toThrow(
      /could not be reached .* Another index can be named by --index-url/,
    );
    server = await PackageServer.start();
  });
});

test('which files of the packages are unpacked', () => {
  const wanted = [
    'nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9',
    'nvidia/cu13/lib/libnvrtc-builtins.so.13.0',
    'nvidia/cu13/nvvm/lib64/libnvvm.so.4',
    'nvidia/nccl/lib/libnccl.so.2',
    'nvidia_cublas-13.1.1.3.dist-info/licenses/License.txt',
  ];
  const unwanted = [
    'nvidia/cudnn/include/cudnn.h',
    'nvidia/cu13/lib/libcudart_static.a',
    'nvidia/cu13/bin/cudafe++',
    'nvidia/cu13/nvvm/bin/cicc',
    'nvidia/__init__.py',
    'evil.so',
  ];
  expect([...wanted, ...unwanted].filter(isWanted)).toEqual(wanted);
  // The first one names the folder, and each has one exact version.
  expect(WHEELS[0]![0]).toBe('jax-cuda13-pjrt');
  for (const [, version] of WHEELS) expect(version).toMatch(/^\d+(\.\d+)+$/);
});
