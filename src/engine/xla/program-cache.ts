/**
 * Compiled programs on disk: compiling takes seconds to minutes, loading what was compiled milliseconds. A file's name is the
 * hash of all that the program depends on, and its contents begin with their own hash, so what is damaged is compiled anew.
 * Files are renamed into their place whole: processes may write the same one at once. A cache that cannot be read or written
 * costs time and nothing else.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { userCache } from '../user-cache.js';
import { type CompileOptions, compileOptions } from './pjrt/options.js';
import { OutOfDeviceMemory, type PjrtClient, type PjrtExecutable } from './pjrt.js';

/** Where compiled programs are kept, and how much of them. */
export interface ProgramCache {
  /** Where programs are kept: in the user's cache folder by default. */
  readonly folder?: string;
  /** Bytes that all of them may take; beyond that the least recently used are removed. */
  readonly limit?: number;
  /** Called before a program that is not there is compiled. */
  readonly onCompile?: () => void;
}

const LIMIT = 4e9;
/** The version of the files' layout; to be changed too when something besides the text changes what is compiled. */
const FORMAT = 1;
const HASH_BYTES = 32;
/** After this many milliseconds a file that is still being written belongs to a process that is gone. */
const ABANDONED = 3_600_000;

/** Compiles a program, or loads it where it was compiled before. Throws `DeviceError` as `PjrtClient.compile` does. */
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

/** Undefined where there is no file, or a damaged one, which is removed. */
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
    // The checksum is right, and the plugin refuses the bytes nevertheless.
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

/** Removes the least recently used files until the rest fits, and temporary files of processes that are gone. */
async function shrink(folder: string, limit: number): Promise<void> {
  const files: { path: string; size: number; used: number }[] = [];
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    // Another process may have removed it meanwhile.
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
