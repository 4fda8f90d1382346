/**
 * A cache of compiled programs on disk: compiling takes seconds to minutes, loading milliseconds. A file's name is the hash of everything
 * that the program depends on, and its contents begin with their own hash, so that damaged files are detected and compiled again. Files are
 * written under a temporary name and renamed, so several processes may write the same one. A cache that cannot be read or written costs
 * only time.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { userCache } from '../user-cache.js';
import { type CompileOptions, compileOptions } from './pjrt/options.js';
import { OutOfDeviceMemory, type PjrtClient, type PjrtExecutable } from './pjrt.js';

/** The folder and limits of the cache. */
export interface ProgramCache {
  /** The folder of the programs: in the user's cache folder by default. */
  readonly folder?: string;
  /** The limit of all files in bytes, beyond which the least recently used are removed. */
  readonly limit?: number;
  /** Called before a program that is not in the cache is compiled. */
  readonly onCompile?: () => void;
}

const LIMIT = 4e9;
/** The version of the files' layout. Change it too when something other than the text changes what is compiled. */
const FORMAT = 1;
const HASH_BYTES = 32;
/** Milliseconds after which an unfinished file is considered abandoned. */
const ABANDONED = 3_600_000;

/** Loads a program from the cache, or compiles and caches it. Throws `DeviceError` as `PjrtClient.compile` does. */
export async function compileCached(
  client: Pick<PjrtClient, 'identity' | 'compile' | 'deserialize'>,
  text: string,
  options?: CompileOptions,
  { folder = join(userCache(), 'programs'), limit = LIMIT, onCompile }: ProgramCache = {},
): Promise<PjrtExecutable> {
  const key = createHash('sha256')
    .update(JSON.stringify([FORMAT, client.identity]))
    .update(compileOptions(options))
    .update('\0')
    .update(text)
    .digest('hex');
  const path = join(folder, `${key}.xla`);
  const kept = await load(client, path);
  if (kept) return kept;
  onCompile?.();
  const executable = await client.compile(text, options);
  await store(executable, folder, path, limit).catch(() => {});
  return executable;
}

/** Undefined if there is no file, or a damaged one, which is removed. */
async function load(
  client: Pick<PjrtClient, 'deserialize'>,
  path: string,
): Promise<PjrtExecutable | undefined> {
  let contents: Buffer;
  try {
    contents = await readFile(path);
  } catch {
    return undefined;
  }
  const program = contents.subarray(HASH_BYTES);
  try {
    if (contents.subarray(0, HASH_BYTES).equals(hashOf(program))) {
      const executable = await client.deserialize(program);
      const now = new Date();
      await utimes(path, now, now).catch(() => {});
      return executable;
    }
  } catch (error) {
    // The program is right, and compiling it anew would want as much.
    if (error instanceof OutOfDeviceMemory) throw error;
    // The checksum is right, but the plugin refuses the bytes.
  }
  await rm(path, { force: true }).catch(() => {});
  return undefined;
}

async function store(executable: PjrtExecutable, folder: string, path: string, limit: number): Promise<void> {
  const program = executable.serialize();
  if (program.length > limit) return;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = join(folder, `${randomUUID()}.part`);
  try {
    await writeFile(temporary, Buffer.concat([hashOf(program), program]));
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
  await shrink(folder, limit);
}

/** Removes the least recently used files until the rest fits, and abandoned temporary files. */
async function shrink(folder: string, limit: number): Promise<void> {
  const files: { path: string; size: number; used: number }[] = [];
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    // Another process may have removed it in the meantime.
    const found = await stat(path).catch(() => undefined);
    if (!found) continue;
    const { size, mtimeMs: used } = found;
    if (name.endsWith('.xla')) files.push({ path, size, used });
    else if (name.endsWith('.part') && Date.now() - used > ABANDONED) await rm(path, { force: true });
  }
  files.sort((a, b) => b.used - a.used);
  let taken = 0;
  for (const { path, size } of files) {
    taken += size;
    if (taken > limit) await rm(path, { force: true });
  }
}

function hashOf(program: Uint8Array): Buffer {
  return createHash('sha256').update(program).digest();
}
