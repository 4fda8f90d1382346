import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { DeviceError } from '../../errors.js';
import { fetchedFolder, fetchPackage, PACKAGE } from './fetch.js';

let scratch: string;
let place: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'heddle-fetch-'));
  place = join(scratch, 'place');
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  rmSync(scratch, { recursive: true });
});

/** Has a script run in the place of npm. */
function useNpm(script: string): void {
  const path = join(scratch, 'npm-cli.js');
  writeFileSync(path, script);
  vi.stubEnv('npm_execpath', path);
}

const WRITES_ANOTHER_TARBALL = `
  const { writeFileSync } = require('node:fs');
  writeFileSync(process.env.npm_config_pack_destination + '/x.tgz', process.argv.slice(2).join(' '));
`;

describe('fetching ONNX Runtime', () => {
  test('another tarball than the known one is refused, and nothing is left of it', async () => {
    useNpm(WRITES_ANOTHER_TARBALL);
    const fetched = fetchPackage([place]);
    await expect(fetched).rejects.toThrow(DeviceError);
    await expect(fetched).rejects.toThrow(/has the checksum sha512-.*it is not what was published/);
    expect(readdirSync(place)).toEqual([]);
    expect(fetchedFolder([place])).toBeUndefined();
  });

  test('what npm says when it fails is told, with what to do', async () => {
    useNpm(
      `console.error('npm error code ENOTFOUND\\nnpm error the registry is away\\nnpm error     at go (a.js:1:2)\\nnpm error A complete log of this run can be found in: x'); process.exit(1)`,
    );
    await expect(fetchPackage([place])).rejects.toThrow(
      /npm says: code ENOTFOUND, the registry is away\. Once.*npm install onnxruntime-node@/,
    );
    expect(readdirSync(place)).toEqual([]);
  });

  test('the next place is taken where one cannot be written to', async () => {
    useNpm(WRITES_ANOTHER_TARBALL);
    writeFileSync(join(scratch, 'file'), '');
    await expect(fetchPackage([join(scratch, 'file', 'inside'), place])).rejects.toThrow(/has the checksum/);
    expect(readdirSync(place)).toEqual([]);
    await expect(fetchPackage([join(scratch, 'file', 'inside')])).rejects.toThrow(
      /none of these folders can be written to/,
    );
  });

  test('a platform without a build is told before anything is downloaded', async () => {
    useNpm(`process.exit(1)`);
    vi.stubGlobal('process', { ...process, platform: 'darwin', arch: 'x64' });
    await expect(fetchPackage([place])).rejects.toThrow(/no build for darwin\/x64: it runs on linux\/x64/);
  });

  test('what was fetched is found by version and platform', () => {
    const platform = `${process.platform}-${process.arch}`;
    const folder = join(place, `${PACKAGE.version}-${platform}`, 'node_modules', 'onnxruntime-node');
    expect(fetchedFolder([place])).toBeUndefined();
    mkdirSync(folder, { recursive: true });
    expect(fetchedFolder([join(scratch, 'elsewhere'), place])).toBe(folder);
  });

  test('it is the version that our own tests run on', () => {
    const url = new URL('../../../package-lock.json', import.meta.url);
    const { packages } = JSON.parse(readFileSync(url, 'utf8')) as {
      packages: Record<string, Record<string, unknown>>;
    };
    const { version, integrity, hasInstallScript } = packages['node_modules/onnxruntime-node']!;
    expect({ version, integrity }).toEqual({ version: PACKAGE.version, integrity: PACKAGE.integrity });
    expect(packages['node_modules/onnxruntime-common']!.version).toBe(PACKAGE.version);
    // Without this flag npm 10 does not run its install script, which would download CUDA libraries; npm 11 asks
    // allowScripts. npm leaves the flag out as long as it is not added anew.
    expect(hasInstallScript).toBeUndefined();
  });
});
