/**
 * API keys. A key has 256 random bits, so even a fast hash cannot be inverted. Only hashes are stored, in a JSON file.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { access, constants, rmdir, stat } from 'node:fs/promises';
import { z } from 'zod';
import { dirname, lockFolder, readText } from '#platform';
import { inWords, parseJson, writeFileAtomic } from '../checkpoint/index.js';
import { heddleCall } from '../command-line.js';
import { ConfigError } from '../errors.js';
import { reasonOf } from '../platform/unreadable.js';
import { IN_WORDS, problemsIn } from '../schema-issues.js';

const PREFIX = 'heddle-';

const KeyEntry = z.strictObject({
  /** The owner's name: states belong to it. */
  name: z.string().regex(/^[a-z0-9][a-z0-9._-]{0,63}$/),
  /** The hash of the key in hexadecimal. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  created: z.iso.datetime(),
});
const KeyFile = z.strictObject({ keys: z.array(KeyEntry) });
type KeyEntry = z.infer<typeof KeyEntry>;

/** The API keys of a file, by their hashes. A change of the file counts at once, unless it is no file of keys then. */
export class ApiKeys {
  private constructor(
    private readonly path: string,
    private entries: readonly KeyEntry[],
    /** The file's version when it was read. */
    private version: string | undefined,
  ) {}

  /** Reads a file of keys. Throws `ConfigError` for one that is missing, damaged or empty. */
  static async load(path: string): Promise<ApiKeys> {
    const version = await versionOf(path);
    const { keys } = (await readKeys(path)) ?? { keys: [] };
    if (keys.length === 0) {
      throw new ConfigError(`${path} has no keys: ${heddleCall('key', path, 'NAME')} makes one`);
    }
    return new ApiKeys(path, keys, version);
  }

  /** The owner of a key, in constant time for valid and invalid keys. */
  async ownerOf(key: string): Promise<string | undefined> {
    await this.readAgain();
    const hash = hashOf(key);
    let owner: string | undefined;
    for (const { name, sha256 } of this.entries) {
      if (timingSafeEqual(hash, Buffer.from(sha256, 'hex'))) owner = name;
    }
    return owner;
  }

  private async readAgain(): Promise<void> {
    const version = await versionOf(this.path);
    if (version === undefined || version === this.version) return;
    const read = await readKeys(this.path).catch(() => undefined);
    if (!read) return;
    this.entries = read.keys;
    this.version = version;
  }
}

/** What changes when a file is written; undefined where there is none. */
async function versionOf(path: string): Promise<string | undefined> {
  return stat(path).then(
    ({ ino, size, mtimeMs }) => `${ino} ${size} ${mtimeMs}`,
    () => undefined,
  );
}

/** Creates a key and adds its hash to a file, which is created if it is missing. Returns the key, which is not stored. */
export async function addKey(path: string, name: string): Promise<string> {
  const key = `${PREFIX}${randomBytes(32).toString('base64url')}`;
  const entry = { name, sha256: hashOf(key).toString('hex'), created: new Date().toISOString() };
  if (!KeyEntry.safeParse(entry).success) {
    throw new ConfigError(
      `'${name}' cannot be a key's name: expected up to 64 of a-z, 0-9, '.', '_' and '-'`,
    );
  }
  // Another process may add a key at the same time.
  const lock = `${path}.lock`;
  let unlock: () => Promise<void>;
  try {
    await access(dirname(path), constants.W_OK);
    unlock = await lockFolder(lock, path, 'adds a key to it');
  } catch (error) {
    throw inWords(path, error);
  }
  try {
    const { keys } = (await readKeys(path)) ?? { keys: [] };
    if (keys.some((other) => other.name === name)) {
      throw new ConfigError(
        `${path} has a key named '${name}' already: choose another name, since states belong to names, or delete its entry from the file to replace it`,
      );
    }
    await writeFileAtomic(path, `${JSON.stringify({ keys: [...keys, entry] }, null, 2)}\n`);
  } finally {
    await unlock();
    // It is not empty if another process waits for the lock.
    await rmdir(lock).catch(() => undefined);
  }
  return key;
}

async function readKeys(path: string): Promise<z.infer<typeof KeyFile> | undefined> {
  let text: string;
  try {
    text = await readText(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ConfigError(`${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  const value = parseJson(text);
  if (value === undefined)
    throw new ConfigError(`${path} is no file of keys: it is no JSON. Name another file, or a new one`);
  const { data, error } = KeyFile.safeParse(value, IN_WORDS);
  if (data) return data;
  throw new ConfigError(`${path} is no file of keys: ${problemsIn(error)}. Name another file, or a new one`);
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
