/**
 * Finds the PJRT plugin of this machine and its CUDA libraries: named by an environment variable, installed in Python, or unpacked by
 * `heddle setup cuda`. JAX's wheels have the same layout in all cases, below one folder or several:
 *
 *   jax_plugins/xla_cuda13/xla_cuda_plugin.so
 *   nvidia/cu13/{lib,bin,nvvm}, nvidia/{cudnn,nccl,nvshmem}/lib
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { DeviceError } from '../../errors.js';
import { userCache } from '../user-cache.js';
import { type Koffi, loadLibrary } from './pjrt/koffi.js';

/** A plugin on this machine, and the libraries that it needs. */
export interface FoundPlugin {
  /** The shared library. */
  readonly path: string;
  /** Where it was found, for messages: `HEDDLE_PJRT_PLUGIN`, a Python, or Heddle's own folder. */
  readonly from: string;
  /** CUDA libraries that are loaded first, so that the plugin uses these and no others. */
  readonly libraries: readonly string[];
  /** The folder with CUDA's assembler (ptxas) and libdevice, if there is one. */
  readonly cuda?: string;
  /** The CUDA version that it was built for, such as 13. */
  readonly cudaMajor?: number;
}

/** The folder that `heddle setup cuda` fills, with a subfolder for each set of libraries. */
export function setupFolder(): string {
  return join(userCache(), 'cuda');
}

/**
 * The plugin of `HEDDLE_PJRT_PLUGIN`, otherwise of the first Python on the PATH that has one, otherwise of Heddle's own folder. Throws
 * `DeviceError` with the places that were searched and what to do.
 */
export async function findPlugin(environment: NodeJS.ProcessEnv = process.env): Promise<FoundPlugin> {
  const named = environment.HEDDLE_PJRT_PLUGIN?.trim();
  if (named) return namedPlugin(named);
  const pythons = pythonsOn(environment.PATH ?? '');
  for (const python of pythons) {
    const found = pluginIn(await pathsOf(python, environment), `Python ${python}`);
    if (found) return found;
  }
  for (const folder of setups()) {
    const found = pluginIn([folder], 'heddle setup cuda');
    if (found) return found;
  }
  const looked =
    pythons.length === 0
      ? 'there is no Python on the PATH'
      : `none of ${pythons.join(', ')} has JAX's plugin`;
  throw new DeviceError(
    `there is no XLA plugin for CUDA: HEDDLE_PJRT_PLUGIN is not set, ${looked}, and ${setupFolder()} is empty. Get one with heddle setup cuda (about 2 GB), or set HEDDLE_PJRT_PLUGIN to a PJRT plugin's path.`,
  );
}

/** The folders that `heddle setup cuda` has unpacked, the newest first. Names that begin with a dot are still being written. */
function setups(): string[] {
  const names = list(setupFolder()).filter((name) => !name.startsWith('.'));
  names.sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  return names.map((name) => join(setupFolder(), name));
}

/** The plugin that was named by its path or folder, with the libraries beside it if the layout is that of JAX's wheels. */
function namedPlugin(named: string): FoundPlugin {
  const given = resolve(named);
  const inside = join(given, 'xla_cuda_plugin.so');
  const path = existsSync(inside) ? inside : given;
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) {
    throw new DeviceError(
      `HEDDLE_PJRT_PLUGIN is ${path}, and there is no such file: name a PJRT plugin, or unset it`,
    );
  }
  const root = dirname(dirname(dirname(realpathSync(path))));
  const around = pluginIn([root], 'HEDDLE_PJRT_PLUGIN');
  return around?.path === realpathSync(path) ? around : { path, from: 'HEDDLE_PJRT_PLUGIN', libraries: [] };
}

/** The plugin for the newest CUDA below some folders, with its libraries. */
export function pluginIn(roots: readonly string[], from: string): FoundPlugin | undefined {
  const plugins = roots.flatMap((root) =>
    list(join(root, 'jax_plugins')).flatMap((name) => {
      const version = Number(/^xla_cuda(\d+)$/.exec(name)?.[1]);
      const path = join(root, 'jax_plugins', name, 'xla_cuda_plugin.so');
      return version > 0 && existsSync(path) ? [{ version, path }] : [];
    }),
  );
  const [newest] = plugins.sort((a, b) => b.version - a.version);
  if (!newest) return undefined;
  const { version, path } = newest;
  const cuda = roots
    .map((root) => join(root, 'nvidia', version >= 13 ? `cu${version}` : 'cuda_nvcc'))
    .find((folder) => existsSync(folder));
  const libraries = LIBRARIES.flatMap(({ name, package: own }) => {
    const folders = version >= 13 ? [`cu${version}`, own] : [own];
    const found = folders
      .flatMap((folder) => roots.map((root) => join(root, 'nvidia', folder, 'lib')))
      .flatMap((folder) =>
        list(folder).flatMap((file) => (isVersionOf(file, name) ? [join(folder, file)] : [])),
      );
    return found.slice(0, 1);
  });
  return { path, from, libraries, cudaMajor: version, ...(cuda === undefined ? {} : { cuda }) };
}

/**
 * The libraries that the plugin opens by name, in an order that respects their dependencies, as JAX loads them; with the folder of a
 * library's own package, which all of them have for CUDA 12 and some for later versions.
 */
const LIBRARIES = [
  { name: 'libcudart', package: 'cuda_runtime' },
  { name: 'libnvrtc', package: 'cuda_nvrtc' },
  { name: 'libnvJitLink', package: 'nvjitlink' },
  { name: 'libcublasLt', package: 'cublas' },
  { name: 'libcublas', package: 'cublas' },
  { name: 'libnccl', package: 'nccl' },
  { name: 'libcupti', package: 'cuda_cupti' },
  { name: 'libcusparse', package: 'cusparse' },
  { name: 'libcusolver', package: 'cusolver' },
  { name: 'libcufft', package: 'cufft' },
  { name: 'libnvshmem_host', package: 'nvshmem' },
  { name: 'libcudnn', package: 'cudnn' },
] as const;

/** `libcudart.so.13`, and not `libcudart.so` or `libcudart.so.13.0.96`. */
function isVersionOf(file: string, name: string): boolean {
  return file.startsWith(`${name}.so.`) && /^\d+$/.test(file.slice(name.length + 4));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** The Python interpreters of a PATH, each once. */
function pythonsOn(path: string): string[] {
  const found = new Map<string, string>();
  for (const folder of path.split(delimiter)) {
    for (const name of ['python3', 'python']) {
      const file = join(folder, name);
      if (folder !== '' && existsSync(file)) {
        // The interpreter of a virtual environment is a link to another one, so the folder is part of the key.
        const key = `${dirname(file)} ${realpathSync(file)}`;
        if (!found.has(key)) found.set(key, file);
      }
    }
  }
  return [...found.values()];
}

/** The package folders of a Python, which is run to list them, since only it knows its virtual environments and `.pth` files. Nothing is imported. */
function pathsOf(python: string, environment: NodeJS.ProcessEnv): Promise<string[]> {
  const script = 'import sys, json; print(json.dumps([p for p in sys.path if p]))';
  return new Promise((found) => {
    execFile(python, ['-c', script], { env: environment, timeout: 10_000 }, (error, output) => {
      try {
        found(error ? [] : (JSON.parse(output) as string[]));
      } catch {
        found([]);
      }
    });
  });
}

/**
 * Loads a plugin's libraries and tells XLA its folders, so that no environment variable is needed. Returns messages about libraries that
 * could not be loaded, in case the plugin then fails.
 */
export function prepare(koffi: Koffi, { libraries, cuda }: FoundPlugin): string[] {
  const { TF_CPP_MIN_LOG_LEVEL: level = '2', XLA_FLAGS: flags = '' } = process.env;
  // XLA logs errors. Its warnings are about its own insides: the precision of its timers, the form of annotations.
  const environment: Record<string, string> = { TF_CPP_MIN_LOG_LEVEL: level };
  if (cuda !== undefined && !flags.includes('xla_gpu_cuda_data_dir')) {
    environment.XLA_FLAGS = `${flags} --xla_gpu_cuda_data_dir=${cuda}`.trim();
  }
  // In a worker thread process.env is a copy that C does not see.
  const setenv = koffi.load(null).func('int setenv(const char *name, const char *value, int overwrite)');
  for (const [name, value] of Object.entries(environment)) setenv(name, value, 1);
  return libraries.flatMap((library) => {
    try {
      loadLibrary(koffi, library, { global: true });
      return [];
    } catch (error) {
      return [`${library} cannot be loaded: ${error instanceof Error ? error.message : error}`];
    }
  });
}
