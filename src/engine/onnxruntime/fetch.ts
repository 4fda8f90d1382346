/**
 * Fetches ONNX Runtime's Node.js package from the npm registry, for this platform alone.
 *
 * The package is no dependency of ours, for two reasons. Its install script downloads the CUDA libraries on every Linux x64
 * machine, from another host than the registry, and fails the whole installation where that host cannot be reached. And it
 * carries the binaries of all platforms: 288 MB, of which one machine uses 25 to 86.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { createGunzip } from 'node:zlib';
import { unpackTar } from 'modern-tar/fs';
import { DeviceError } from '../../errors.js';
import { userCache } from '../user-cache.js';

/** The package that is fetched, and the checksum of its tarball. */
export const PACKAGE = {
  name: 'onnxruntime-node',
  version: '1.30.0',
  integrity:
    'sha512-twhs1C2C/BFkz1yc5OY0KIU2GUq6DURO7hD4bx5Q2Qy3nAMJwRXW8xU3NVczE29VA9lolLOYepoD8fjTGOfIqw==',
};

/** Platforms that the package has binaries for, as `process.platform` and `process.arch` name them. */
const PLATFORMS = ['linux/x64', 'linux/arm64', 'darwin/arm64', 'win32/x64', 'win32/arm64'];

/**
 * Where fetched packages are kept: inside our own package, so that a copied `node_modules` is complete, or in the user's
 * cache where that folder is read-only.
 */
function places(): string[] {
  return [fileURLToPath(new URL('../../../.onnxruntime', import.meta.url)), userCache()];
}

/** The package's folder below a place. The version and the platform are in its path: a place may be shared. */
function folderIn(place: string): string {
  const platform = `${process.platform}-${process.arch}`;
  return join(place, `${PACKAGE.version}-${platform}`, 'node_modules', PACKAGE.name);
}

/** The folder of the package as it was fetched earlier, if it was. */
export function fetchedFolder(from: readonly string[] = places()): string | undefined {
  return from.map(folderIn).find((folder) => existsSync(folder));
}

/**
 * Downloads the package with npm, which knows the registry, its credentials and proxies, checks the tarball's checksum, and
 * keeps what this platform needs in the first of the places that can be written to. Returns the package's folder. Several
 * processes may do so at once.
 *
 * Throws `DeviceError` where ONNX Runtime has no build for this platform, npm fails, or the tarball is another one.
 */
export async function fetchPackage(into: readonly string[] = places()): Promise<string> {
  const platform = `${process.platform}/${process.arch}`;
  if (!PLATFORMS.includes(platform)) {
    throw new DeviceError(
      `ONNX Runtime ${PACKAGE.version} has no build for ${platform}: it runs on ${PLATFORMS.join(', ')}`,
    );
  }
  const [place, scratch] = await scratchFolder(into);
  try {
    await download(scratch);
    const archive = (await readdir(scratch)).find((name) => name.endsWith('.tgz'));
    if (!archive) throw failure('npm left no tarball');
    await verify(join(scratch, archive));
    await unpack(join(scratch, archive), scratch, platform);
    const modules = join(scratch, 'node_modules');
    await mkdir(modules);
    await rename(join(scratch, 'package'), join(modules, PACKAGE.name));
    await copyOnnxRuntimeCommon(modules);
    const folder = folderIn(place);
    await mkdir(dirname(dirname(folder)), { recursive: true });
    await rename(modules, dirname(folder)).catch((error: unknown) => {
      // Another process was faster, and its copy is as good.
      if (!existsSync(folder)) throw error;
    });
    return folder;
  } catch (error) {
    throw error instanceof DeviceError
      ? error
      : failure(error instanceof Error ? error.message : String(error), error);
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
  throw failure(`none of these folders can be written to: ${into.join(', ')}`, last);
}

/** Has npm write the tarball into a folder. */
async function download(folder: string): Promise<void> {
  const [command, ...args] = npm();
  // A project's own .npmrc may name the registry: npm runs where the person does. Variables go before what an outer npm set.
  const child = spawn(command!, [...args, 'pack', `${PACKAGE.name}@${PACKAGE.version}`], {
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
    throw failure('npm cannot be started', error);
  });
  if (code !== 0) throw failure(`npm says: ${inBrief(said)}`);
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

async function verify(archive: string): Promise<void> {
  const hash = createHash('sha512');
  for await (const chunk of createReadStream(archive, { highWaterMark: 2 ** 20 })) hash.update(chunk);
  const integrity = `sha512-${hash.digest('base64')}`;
  if (integrity !== PACKAGE.integrity) {
    throw failure(
      `the tarball that the registry gave has the checksum ${integrity}, not ${PACKAGE.integrity}: it is not what was published`,
    );
  }
}

/** Unpacks the package's JavaScript and the binaries of one platform, into the folder `package` that the tarball has. */
async function unpack(archive: string, into: string, platform: string): Promise<void> {
  const wanted = ['package/package.json', 'package/dist/', `package/bin/napi-v6/${platform}/`];
  await pipeline(
    createReadStream(archive, { highWaterMark: 2 ** 20 }),
    createGunzip(),
    unpackTar(into, { filter: ({ name }) => wanted.some((start) => name.startsWith(start)) }),
  );
}

/** The one package that it needs is a dependency of ours, in the same version. */
async function copyOnnxRuntimeCommon(modules: string): Promise<void> {
  const name = 'onnxruntime-common';
  // Its package.json is not exported, but its main module is dist/cjs/index.js.
  const main = createRequire(import.meta.url).resolve(name);
  const from = dirname(dirname(dirname(main)));
  await cp(join(from, 'package.json'), join(modules, name, 'package.json'));
  await cp(join(from, 'dist', 'cjs'), join(modules, name, 'dist', 'cjs'), { recursive: true });
}

function failure(why: string, cause?: unknown): DeviceError {
  return new DeviceError(
    `ONNX Runtime ${PACKAGE.version}, which computes, is not installed and could not be fetched: ${why}. Once the npm registry can be reached, start again; or add the package to your project: npm install ${PACKAGE.name}@${PACKAGE.version} --onnxruntime-node-install=skip`,
    cause === undefined ? {} : { cause },
  );
}
