/**
 * Loads ONNX Runtime's Node.js package when the first device is opened: the project's own, if it is recent enough, otherwise one that
 * fetch.ts has downloaded.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { DeviceError } from '../../errors.js';
import { fetchedFolder, fetchPackage, PACKAGE } from './fetch.js';
import { keepOnnxRuntime, type OnnxRuntime } from './loaded.js';
import { disableTelemetry } from './telemetry.js';

const require = createRequire(import.meta.url);

let loading: Promise<void> | undefined;

/**
 * Loads ONNX Runtime, and downloads it first if necessary, with a line on standard error. Throws `DeviceError` if it cannot be downloaded
 * or loaded on this machine; the next call tries again.
 */
export async function loadOnnxRuntime(): Promise<void> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  await loading;
}

async function load(): Promise<void> {
  let folder = availableFolder();
  if (folder === undefined) {
    process.stderr.write(
      `fetching ONNX Runtime ${PACKAGE.version} from the npm registry (114 MB, once; it computes for Heddle)\n`,
    );
    folder = await fetchPackage();
  }
  disableTelemetry();
  try {
    keepOnnxRuntime(require(folder) as OnnxRuntime);
  } catch (error) {
    throw new DeviceError(
      `ONNX Runtime in ${folder} cannot be loaded on ${process.platform}/${process.arch}: ${error instanceof Error ? error.message : error}. On Linux it needs glibc: Alpine has another C library.`,
      { cause: error },
    );
  }
}

/** Downloads ONNX Runtime if it is missing. Throws `DeviceError` as `loadOnnxRuntime` does. */
export async function ensureOnnxRuntime(): Promise<void> {
  if (availableFolder() === undefined) await fetchPackage();
}

/** The version of ONNX Runtime on this machine, if there is one. */
export function availableOnnxRuntime(): string | undefined {
  const folder = availableFolder();
  return folder === undefined ? undefined : versionIn(folder);
}

/** The version of ONNX Runtime on this machine, or the one that would be downloaded. */
export function onnxRuntimeVersion(): string {
  return availableOnnxRuntime() ?? PACKAGE.version;
}

function availableFolder(): string | undefined {
  return installedFolder() ?? fetchedFolder();
}

/** The folder of the project's own package, if its version is the required one or a later minor one. */
function installedFolder(): string | undefined {
  let folder: string;
  try {
    folder = dirname(require.resolve(`${PACKAGE.name}/package.json`));
  } catch {
    return undefined;
  }
  const [major, minor] = versionIn(folder).split('.').map(Number);
  const [neededMajor, neededMinor] = PACKAGE.version.split('.').map(Number);
  return major === neededMajor && minor! >= neededMinor! ? folder : undefined;
}

function versionIn(folder: string): string {
  return (require(join(folder, 'package.json')) as { version: string }).version;
}
