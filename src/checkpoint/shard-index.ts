/**
 * The index of weights that are split over several files: which file, or shard, holds which tensor.
 *
 *   {"metadata": {"total_size": 128}, "weight_map": {"norm.weight": "model-00001-of-00002.safetensors", ...}}
 *
 * It comes from outside as the shards do. A shard is named by its bare file name, so that no index leads out of its folder.
 * Its `total_size` is often wrong where weights are tied, says nothing that the shards do not say, and is not read.
 */
import { CheckpointError } from '../errors.js';
import { openForReading, readExactly, refuseGitLfsPointer } from './file-reader.js';
import { isObject, parseStrictJson } from './strict-json.js';
import { quote } from './wording.js';

/** The longest index that is read, in bytes: the weights of the largest models have one of some 10 MB. */
const LONGEST_INDEX = 100_000_000;

/** Metadata are free to nest, within reason. */
const DEEPEST = 8;

/**
 * Reads an index: for each tensor's name, the name of its shard.
 *
 * @throws CheckpointError that names the index and, where it is about one, the tensor
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

/** The same for the bytes of one, wherever they come from. Throws `SyntaxError` that says what is wrong with them. */
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
 * A name that stays in its folder on every system (a colon names a drive on one of them), that a filesystem takes, and
 * that can be shown.
 */
function isShardName(name: unknown): name is string {
  if (typeof name !== 'string' || name.length > 255) return false;
  return /^[^/\\:\p{C}\p{Zl}\p{Zp}]+\.safetensors$/u.test(name);
}
