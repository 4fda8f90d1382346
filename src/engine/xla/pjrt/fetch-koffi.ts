/**
 * Fetches koffi from the npm registry when a PJRT plugin is first used, so that an installation of Heddle does not run koffi's install
 * script, nor download 20 packages of binaries that only few users need.
 */
import { join } from 'node:path';
import { DeviceError } from '../../../errors.js';
import { fetchedModules, fetchModules, type NpmPackage, unpackFromNpm } from '../../npm.js';
import { userCache } from '../../user-cache.js';

/** The version of koffi that is fetched if none is installed. */
export const KOFFI: NpmPackage = {
  name: 'koffi',
  version: '3.3.4',
  integrity:
    'sha512-31Vr+LM+w1dEsNcOJtJWvYyUTjVc/SWOxNDZJxfhsBC6qZ5YVn98n5x1oBbDq5skxCbWD4SByJpNmq63fvg9Aw==',
};

/** Its binaries for the platforms that CUDA supports. */
export const BINARIES: Readonly<Record<string, NpmPackage>> = {
  'linux-x64': {
    name: '@koromix/koffi-linux-x64',
    version: '3.3.4',
    integrity:
      'sha512-xi47MKuoQ9fA2SsrH6wljl9t9120hO66qEmb1le6q636q55J974cZfcwDrK5nW1GalJ+0NLXoH2T3/NGQBzPNw==',
  },
  'linux-arm64': {
    name: '@koromix/koffi-linux-arm64',
    version: '3.3.4',
    integrity:
      'sha512-k6FPjEYDioyVihUqvRFX4QZK0RL/Rrn4xPEzrKxODxgLAUXlhBTut391zPzgsMcArXgN4YTuS11M/kxmA5s+Fg==',
  },
};

function key(): string {
  return `koffi-${KOFFI.version}-${process.platform}-${process.arch}`;
}

/** koffi's folder, if it was fetched earlier. */
export function fetchedKoffi(place: string = userCache()): string | undefined {
  const modules = fetchedModules([place], key());
  return modules === undefined ? undefined : join(modules, KOFFI.name);
}

/** Fetches koffi and its binary for this platform. Returns koffi's folder; throws `DeviceError` if that fails. */
export async function fetchKoffi(place: string = userCache()): Promise<string> {
  const binary = BINARIES[`${process.platform}-${process.arch}`];
  try {
    if (!binary) throw new Error(`it is fetched on ${Object.keys(BINARIES).join(' and ')} only`);
    const modules = await fetchModules([place], key(), async (folder, scratch) => {
      await unpackFromNpm(KOFFI, scratch, join(folder, KOFFI.name), [
        'package/package.json',
        'package/index.',
        'package/src/koffi/index.',
        'package/src/koffi/src/static.',
      ]);
      await unpackFromNpm(binary, scratch, join(folder, binary.name), ['package/']);
    });
    return join(modules, KOFFI.name);
  } catch (error) {
    throw new DeviceError(
      `koffi ${KOFFI.version}, which calls XLA, is not installed and could not be fetched: ${error instanceof Error ? error.message : error}. Once the npm registry can be reached, start again; or add the package to your project: npm install koffi@3`,
      { cause: error },
    );
  }
}
