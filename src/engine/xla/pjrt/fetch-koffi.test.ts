import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DeviceError } from '../../../errors.js';
import { BINARIES, fetchedKoffi, fetchKoffi, KOFFI } from './fetch-koffi.js';

let scratch: string;
let place: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'heddle-koffi-'));
  place = join(scratch, 'place');
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  rmSync(scratch, { recursive: true });
});

const url = new URL('../../../../package-lock.json', import.meta.url);
const { packages } = JSON.parse(readFileSync(url, 'utf8')) as {
  packages: Record<string, Record<string, unknown>>;
};

test('what is fetched are the versions that our own tests run on', () => {
  for (const { name, version, integrity } of [KOFFI, ...Object.values(BINARIES)]) {
    expect(packages[`node_modules/${name}`]).toMatchObject({ version, integrity });
  }
  // Without this flag npm 10 does not run its install script; npm 11 asks allowScripts.
  expect(packages['node_modules/koffi']!.hasInstallScript).toBeUndefined();
});

test('another tarball than the known one is refused, and nothing is left of it', async () => {
  const script = join(scratch, 'npm-cli.js');
  writeFileSync(
    script,
    `require('node:fs').writeFileSync(process.env.npm_config_pack_destination + '/x.tgz', 'other');`,
  );
  vi.stubEnv('npm_execpath', script);
  vi.stubGlobal('process', { ...process, platform: 'linux', arch: 'x64' });
  const fetched = fetchKoffi(place);
  await expect(fetched).rejects.toThrow(DeviceError);
  await expect(fetched).rejects.toThrow(/koffi 3.* could not be fetched: .*it is not what was published/);
  expect(readdirSync(place)).toEqual([]);
  expect(fetchedKoffi(place)).toBeUndefined();
});

test('where it has no binary of ours, it says how to install it', async () => {
  vi.stubGlobal('process', { ...process, platform: 'darwin', arch: 'arm64' });
  await expect(fetchKoffi(place)).rejects.toThrow(/npm install koffi@3/);
});

const own = BINARIES[`${process.platform}-${process.arch}`];
test.skipIf(!own)('what is unpacked of it is all that it needs', async () => {
  // In the place of npm: packs what this clone has installed, whose checksum is then another one.
  const modules = join(scratch, 'modules');
  mkdirSync(modules);
  const require = createRequire(import.meta.url);
  const script = join(scratch, 'npm-cli.js');
  writeFileSync(
    script,
    `const { execFileSync } = require('node:child_process');
     const name = process.argv.at(-1).replace(/@[^@]*$/, '');
     execFileSync('tar', ['czf', process.env.npm_config_pack_destination + '/x.tgz', '--transform', 's,^[.],package,', '-C',
       ${JSON.stringify(join(require.resolve('koffi'), '..', '..'))} + '/' + name, '.']);`,
  );
  vi.stubEnv('npm_execpath', script);
  vi.doMock('node:crypto', async (original) => ({
    ...(await original<typeof import('node:crypto')>()),
    createHash: () => ({ update: () => {}, digest: () => sums.shift() }),
  }));
  const sums = [KOFFI, own!].map(({ integrity }) => integrity.slice('sha512-'.length));
  vi.resetModules();
  const { fetchKoffi } = await import('./fetch-koffi.js');
  const folder = await fetchKoffi(place);
  vi.doUnmock('node:crypto');
  expect(fetchedKoffi(place)).toBe(folder);
  const program = `const koffi = require(${JSON.stringify(folder)}); console.log(koffi.version, typeof koffi.load(null).func('int abs(int)'))`;
  expect(execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' })).toBe('3.3.4 function\n');
});
