import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { DeviceError } from '../../errors.js';
import { findPlugin, pluginIn, setupFolder } from './plugin.js';

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'heddle-find-'));
  vi.stubEnv('XDG_CACHE_HOME', join(scratch, 'cache'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(scratch, { recursive: true });
});

function put(...paths: string[]): void {
  for (const path of paths) {
    const file = join(scratch, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, '');
  }
}

/** A Python that says where it looks for packages. */
function python(folder: string, script: string): void {
  const file = join(scratch, folder, 'python3');
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

const prints = (...paths: string[]) => `echo '${JSON.stringify(paths.map((path) => join(scratch, path)))}'`;
const find = (...folders: string[]) =>
  findPlugin({ PATH: folders.map((folder) => join(scratch, folder)).join(':') });
const inside = (...paths: string[]) => paths.map((path) => join(scratch, path));

const CUDA_13 = [
  'site/jax_plugins/xla_cuda13/xla_cuda_plugin.so',
  'site/nvidia/cu13/lib/libcudart.so.13',
  'site/nvidia/cu13/lib/libcudart.so',
  'site/nvidia/cu13/lib/libcublas.so.13',
  'site/nvidia/cu13/lib/libcublasLt.so.13',
  'site/nvidia/cu13/bin/ptxas',
  'more/nvidia/cudnn/lib/libcudnn.so.9',
  'more/nvidia/cudnn/lib/libcudnn.so.9.27.0',
  // Those of another CUDA, which PyTorch may have brought.
  'more/nvidia/cuda_runtime/lib/libcudart.so.12',
];

describe('the plugin of a machine', () => {
  test('of a Python, with the libraries of its CUDA from all folders, each after what it needs', async () => {
    put(...CUDA_13);
    python('bin', prints('site', 'more'));
    const found = await find('bin');
    expect(found.path).toBe(join(scratch, CUDA_13[0]!));
    expect(found.from).toBe(`Python ${join(scratch, 'bin/python3')}`);
    expect(found.cuda).toBe(join(scratch, 'site/nvidia/cu13'));
    expect(found.cudaMajor).toBe(13);
    expect(found.libraries).toEqual(
      inside(
        'site/nvidia/cu13/lib/libcudart.so.13',
        'site/nvidia/cu13/lib/libcublasLt.so.13',
        'site/nvidia/cu13/lib/libcublas.so.13',
        'more/nvidia/cudnn/lib/libcudnn.so.9',
      ),
    );
  });

  test('for CUDA 12, where each library has a folder of its own', () => {
    put(
      'site/jax_plugins/xla_cuda12/xla_cuda_plugin.so',
      'site/nvidia/cuda_runtime/lib/libcudart.so.12',
      'site/nvidia/cu13/lib/libcudart.so.13',
      'site/nvidia/cuda_nvcc/bin/ptxas',
    );
    const found = pluginIn(inside('site'), 'a test')!;
    expect(found.libraries).toEqual(inside('site/nvidia/cuda_runtime/lib/libcudart.so.12'));
    expect(found.cuda).toBe(join(scratch, 'site/nvidia/cuda_nvcc'));
  });

  test('the newest of several, and nothing but a plugin', () => {
    put(
      'site/jax_plugins/xla_cuda12/xla_cuda_plugin.so',
      'site/jax_plugins/xla_cuda13/xla_cuda_plugin.so',
      'site/jax_plugins/xla_cuda14/README',
      'site/jax_plugins/xla_rocm/xla_rocm_plugin.so',
    );
    expect(pluginIn(inside('site'), 'a test')?.cudaMajor).toBe(13);
    expect(pluginIn(inside('nowhere'), 'a test')).toBeUndefined();
  });

  test('Pythons that fail, say nonsense or have no plugin are passed over', async () => {
    put(...CUDA_13);
    python('broken', 'exit 1');
    python('odd', 'echo hello');
    python('empty', prints('nowhere'));
    python('good', prints('site'));
    expect((await find('missing', 'broken', 'odd', 'empty', 'good')).from).toContain('good/python3');
  });

  test('of the variable, before all others, through a link, with what lies around it', async () => {
    put(...CUDA_13);
    symlinkSync(join(scratch, CUDA_13[0]!), join(scratch, 'link.so'));
    const found = await findPlugin({ HEDDLE_PJRT_PLUGIN: join(scratch, 'link.so'), PATH: '' });
    expect(found.path).toBe(join(scratch, CUDA_13[0]!));
    expect(found.libraries.length).toBe(3);
    put('alone/other.so');
    const alone = await findPlugin({ HEDDLE_PJRT_PLUGIN: join(scratch, 'alone/other.so') });
    expect(alone).toEqual({
      path: join(scratch, 'alone/other.so'),
      from: 'HEDDLE_PJRT_PLUGIN',
      libraries: [],
    });
  });

  test('a variable may name its folder, as Python tells it', async () => {
    put('named/jax_plugins/xla_cuda13/xla_cuda_plugin.so');
    const folder = join(scratch, 'named/jax_plugins/xla_cuda13');
    const { path } = await findPlugin({ HEDDLE_PJRT_PLUGIN: folder, PATH: '' });
    expect(path).toBe(join(realpathSync(folder), 'xla_cuda_plugin.so'));
  });

  test('a variable that names nothing is an error, and not passed over', async () => {
    for (const path of [join(scratch, 'nothing.so'), scratch]) {
      const found = findPlugin({ HEDDLE_PJRT_PLUGIN: path, PATH: '' });
      await expect(found).rejects.toThrow(DeviceError);
      await expect(found).rejects.toThrow(/HEDDLE_PJRT_PLUGIN is .* there is no such file/);
    }
  });

  test('of heddle setup cuda, the newest that is complete', async () => {
    put(
      'cache/heddle/cuda/0.9.2/jax_plugins/xla_cuda13/xla_cuda_plugin.so',
      'cache/heddle/cuda/0.11.2/jax_plugins/xla_cuda13/xla_cuda_plugin.so',
      'cache/heddle/cuda/.1.0.0-x/jax_plugins/xla_cuda13/xla_cuda_plugin.so',
    );
    const found = await find();
    expect(found.path).toContain('/cuda/0.11.2/');
    expect(found.from).toBe('heddle setup cuda');
  });

  test('where there is none, it says where it looked and what to do', async () => {
    python('bin', prints('nowhere'));
    await expect(find('bin')).rejects.toThrow(
      new RegExp(
        `HEDDLE_PJRT_PLUGIN is not set, none of ${join(scratch, 'bin/python3')} has JAX's plugin, and ${setupFolder()} is empty. Get one with heddle setup cuda`,
      ),
    );
    await expect(find()).rejects.toThrow(/there is no Python on the PATH/);
  });
});
