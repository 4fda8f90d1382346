/**
 * Fetches ONNX Runtime's Node.js package from the npm registry, for this platform alone.
 *
 * The package is not a dependency, for two reasons. Its install script downloads the CUDA libraries on every Linux x64 machine, from
 * another host than the registry, and fails the whole installation if that host cannot be reached. And it contains the binaries of all
 * platforms: 288 MB, of which one machine uses 25 to 86.
 */
import { cp } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DeviceError } from '../../errors.js';
import { fetchedModules, fetchModules, type NpmPackage, unpackFromNpm } from '../npm.js';
import { userCache } from '../user-cache.js';

/** The package that is fetched, and the checksum of its tarball. */
export const PACKAGE: NpmPackage = {
  name: 'onnxruntime-node',
  version: '1.30.0',
  integrity:
    'sha512-twhs1C2C/BFkz1yc5OY0KIU2GUq6DURO7hD4bx5Q2Qy3nAMJwRXW8xU3NVczE29VA9lolLOYepoD8fjTGOfIqw==',
};

/** Platforms that the package has binaries for, as `process.platform` and `process.arch` name them. */
const PLATFORMS = ['linux/x64', 'linux/arm64', 'darwin/arm64', 'win32/x64', 'win32/arm64'];

/**
 * Where fetched packages are kept: inside our own package, so that a copied `node_modules` is complete; or, if that folder is read-only,
 * in the user's cache.
 */
function places(): string[] {
  return [fileURLToPath(new URL('../../../.onnxruntime', import.meta.url)), userCache()];
}

/** The version and the platform, since several of them may share a folder. */
function key(): string {
  return `${PACKAGE.version}-${process.platform}-${process.arch}`;
}

/** The folder of the package, if it was fetched earlier. */
export function fetchedFolder(from: readonly string[] = places()): string | undefined {
  const modules = fetchedModules(from, key());
  return modules === undefined ? undefined : join(modules, PACKAGE.name);
}

/**
 * Downloads the package with npm, verifies the tarball's checksum, and keeps the files of this platform in the first writable place.
 * Returns the package's folder. Several processes may do so at once.
 *
 * Throws `DeviceError` if ONNX Runtime has no build for this platform, npm fails, or the checksum differs.
 */
export async function fetchPackage(into: readonly string[] = places()): Promise<string> {
  const platform = `${process.platform}/${process.arch}`;
  if (!PLATFORMS.includes(platform)) {
    throw new DeviceError(
      `ONNX Runtime ${PACKAGE.version} has no build for ${platform}: it runs on ${PLATFORMS.join(', ')}`,
    );
  }
  const wanted = ['package/package.json', 'package/dist/', `package/bin/napi-v6/${platform}/`];
  try {
    const modules = await fetchModules(into, key(), async (folder, scratch) => {
      await unpackFromNpm(PACKAGE, scratch, join(folder, PACKAGE.name), wanted);
      await copyOnnxRuntimeCommon(folder);
    });
    return join(modules, PACKAGE.name);
  } catch (error) {
    throw failure(error instanceof Error ? error.message : String(error), error);
  }
}

/** Its only dependency is also one of ours, in the same version. */
async function copyOnnxRuntimeCommon(modules: string): Promise<void> {
  const name = 'onnxruntime-common';
  // The package does not export its package.json, but its main module is dist/cjs/index.js.
  const main = createRequire(import.meta.url).resolve(name);
  const from = dirname(dirname(dirname(main)));
  await cp(join(from, 'package.json'), join(modules, name, 'package.json'));
  await cp(join(from, 'dist', 'cjs'), join(modules, name, 'dist', 'cjs'), { recursive: true });
}

function failure(why: string, cause: unknown): DeviceError {
  return new DeviceError(
    `ONNX Runtime ${PACKAGE.version}, which computes, is not installed and could not be fetched: ${why}. Once the npm registry can be reached, start again; or add the package to your project: npm install ${PACKAGE.name}@${PACKAGE.version} --onnxruntime-node-install=skip`,
    { cause },
  );
}
