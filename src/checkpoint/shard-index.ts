/**
 * The index of weights that are split over several files: the file (shard) of each tensor.
 *
 *   {"metadata": {"total_size": 128}, "weight_map": {"norm.weight": "model-00001-of-00002.safetensors", ...}}
 *
 * The index is as untrusted as the shards. A shard must be a bare file name, so that no index points outside its folder.
 * `total_size` is ignored: it is often wrong for tied weights, and the shards have the same information.
 */
import { CheckpointError } from '../errors.js';
import { openForReading, readExactly, refuseGitLfsPointer } from './file-reader.js';
import { isObject, parseStrictJson } from './strict-json.js';
import { quote } from './wording.js';

/** The longest index that is read, in bytes: that of the largest models has some 10 MB. */
const LONGEST_INDEX = 100_000_000;

/** The deepest nesting of the metadata. */
const DEEPEST = 8;

/**
 * Reads an index: for each tensor's name, the name of its shard.
 *
 * @throws CheckpointError that names the index and, if it concerns one, the tensor
 */
export async function readShardIndex(path: string): Promise<Map<string, string>> {
  const file = await openForReading(path);
  const { size: fileBytes } = file;
  try {
    if (fileBytes > LONGEST_INDEX) {
      throw new CheckpointError(
        `${path} has ${fileBytes} bytes, expected at most ${LONGEST_INDEX} in an index. Check that it is the right file.`,
      );
    }
    const bytes = new Uint8Array(fileBytes);
    await readExactly(file, bytes, 0);
    refuseGitLfsPointer(path, bytes);
    return shardsIn(bytes);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new CheckpointError(
      `${path} cannot be used: ${error.message}. The index is damaged: download or save it again.`,
      { cause: error },
    );
  } finally {
    await file.close();
  }
}

/** Parses the bytes of an index. Throws `SyntaxError` that says what is wrong with them. */
export function shardsIn(bytes: Uint8Array): Map<string, string> {
  const index = parseStrictJson(bytes, DEEPEST);
  if (!isObject(index)) throw new SyntaxError(`it is ${quote(index)}, expected an object with a weight_map`);
  const weightMap = index.weight_map;
  if (!isObject(weightMap)) {
    throw new SyntaxError(
      `its weight_map is ${quote(weightMap)}, expected an object of tensors and their files`,
    );
  }
  const shards = new Map<string, string>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (!isShardName(shard)) {
      throw new SyntaxError(
        `it puts the tensor ${quote(name)} into ${quote(shard)}, expected the bare name of a .safetensors file`,
      );
    }
    shards.set(name, shard);
  }
  if (shards.size === 0) throw new SyntaxError('its weight_map is empty');
  return shards;
}

/**
 * Whether a value is a file name that stays in its folder on every system (on Windows a colon names a drive), that file systems accept,
 * and that can be printed.
 */
function isShardName(name: unknown): name is string {
  if (typeof name !== 'string' || name.length > 255) return false;
  return /^[^/\\:\p{C}\p{Zl}\p{Zp}]+\.safetensors$/u.test(name);
}
