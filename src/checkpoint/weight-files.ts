/**
 * The weights in a model's folder, in one file or several.
 *
 * Hugging Face's layout has two forms: `model.safetensors` alone, or shards with an index `model.safetensors.index.json` that maps
 * each tensor to its shard. If both exist, the single file is used, as in transformers. All headers are read when the folder is
 * opened, so that shards of two different models in one folder are detected at once. Without an index the names of the shards say whether
 * all are there.
 *
 * The index and the shards need not list the same tensors: converters leave helper tensors in either. A tensor that the index lists but
 * its shard lacks is `absent`, which is an error only for a reader that needs it; a tensor that the index omits can be read all the same.
 */
import { join, readFolder } from '#platform';
import { CheckpointError } from '../errors.js';
import { openSafetensors, type SafetensorsFile, type TensorReader, type TypedTensor } from './safetensors.js';
import { requireTensor, type TensorInfo } from './safetensors-header.js';
import { readShardIndex } from './shard-index.js';
import { quote } from './wording.js';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const SHARD = /^model-(\d{5})-of-(\d{5})\.safetensors$/;

/** The place of a tensor: `path` is its file, and `version` the file's version when it was opened. */
export interface WeightInfo extends TensorInfo {
  readonly path: string;
  readonly version: string;
}

/** The open weights of a model. */
export interface WeightFiles extends TensorReader {
  /** The path for error messages: the single file, the index, or the first shard without one. */
  readonly path: string;
  /** The tensors of all files by name. */
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  /** For each tensor that the index lists and no shard has, the reason as an error message. */
  readonly absent: ReadonlyMap<string, string>;
}

/**
 * Opens the weights in a folder: reads every header, and checks that files and index agree.
 *
 * @throws CheckpointError when the folder has no safetensors weights, or a file is damaged or contradicts the index
 */
export async function openWeights(folder: string): Promise<WeightFiles> {
  const names = await namesIn(folder);
  if (names.has(SINGLE)) {
    const path = join(folder, SINGLE);
    const file = await openSafetensors(path);
    return new OpenWeights(path, new Map([[path, file]]), union([[path, file]]), new Map());
  }
  const all = names.has(INDEX) ? [] : shardsWithoutIndex(names);
  if (!names.has(INDEX) && all.length === 0) throw noWeights(folder, [...names]);

  const path = join(folder, all[0] ?? INDEX);
  const shardOf = all.length === 0 ? await readShardIndex(path) : new Map<string, string>();
  const shards = all.length === 0 ? [...new Set(shardOf.values())].sort() : all;
  const present = shards.filter((shard) => names.has(shard));
  if (present.length === 0) throw new CheckpointError(missingShard(folder, path, shards[0]!, shardOf));
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const shard of present) files.set(join(folder, shard), await openSafetensors(join(folder, shard)));
    const tensors = union(files);
    const absent = absentTensors(folder, path, names, shardOf, tensors);
    for (const name of absent.keys()) tensors.delete(name);
    return new OpenWeights(path, files, tensors, absent);
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

/** The names of all shards, if each of as many as their names say is there; otherwise none. */
function shardsWithoutIndex(names: ReadonlySet<string>): string[] {
  const found = [...names].filter((name) => SHARD.test(name)).sort();
  const totals = new Set(found.map((name) => Number(SHARD.exec(name)![2])));
  const isWhole = totals.size === 1 && totals.has(found.length);
  return isWhole && found.every((name, i) => Number(SHARD.exec(name)![1]) === i + 1) ? found : [];
}

class OpenWeights implements WeightFiles {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  readonly absent: ReadonlyMap<string, string>;
  readonly #files: ReadonlyMap<string, SafetensorsFile>;

  constructor(
    path: string,
    files: ReadonlyMap<string, SafetensorsFile>,
    tensors: ReadonlyMap<string, WeightInfo>,
    absent: ReadonlyMap<string, string>,
  ) {
    this.path = path;
    this.#files = files;
    this.tensors = tensors;
    this.absent = absent;
  }

  async read(name: string): Promise<TypedTensor> {
    return this.#holderOf(name).read(name);
  }

  async readFloat32(name: string): Promise<Float32Array> {
    return this.#holderOf(name).readFloat32(name);
  }

  async readFloat32Into(name: string, target: Float32Array): Promise<void> {
    await this.#holderOf(name).readFloat32Into(name, target);
  }

  async close(): Promise<void> {
    await closeAll(this.#files);
  }

  #holderOf(name: string): SafetensorsFile {
    return this.#files.get(requireTensor(this.path, this.tensors, name).path)!;
  }
}

async function closeAll(files: ReadonlyMap<string, SafetensorsFile>): Promise<void> {
  await Promise.all([...files.values()].map((file) => file.close()));
}

async function namesIn(folder: string): Promise<ReadonlySet<string>> {
  try {
    return new Set((await readFolder(folder)).map(({ name }) => name));
  } catch (error) {
    throw new CheckpointError(
      `${folder} is not a folder that can be read: ${(error as Error).message}. Name the folder that holds the model.`,
      { cause: error },
    );
  }
}

/** The tensors of all files. Throws if two files have the same tensor. */
function union(files: Iterable<readonly [path: string, SafetensorsFile]>): Map<string, WeightInfo> {
  const tensors = new Map<string, WeightInfo>();
  for (const [path, file] of files) {
    for (const [name, info] of file.tensors) {
      const other = tensors.get(name);
      if (other !== undefined) {
        throw new CheckpointError(
          `The tensor ${quote(name)} is both in ${other.path} and in ${path}. The shards belong to different models: download or save them again.`,
        );
      }
      tensors.set(name, { ...info, path, version: file.version });
    }
  }
  return tensors;
}

/** The tensors that are not in the shard that the index names, with the reasons. */
function absentTensors(
  folder: string,
  indexPath: string,
  names: ReadonlySet<string>,
  shardOf: ReadonlyMap<string, string>,
  tensors: ReadonlyMap<string, WeightInfo>,
): Map<string, string> {
  const absent = new Map<string, string>();
  for (const [name, shard] of shardOf) {
    const holder = tensors.get(name)?.path;
    if (holder === join(folder, shard)) continue;
    const reason = names.has(shard)
      ? `${indexPath} puts the tensor ${quote(name)} into ${quote(shard)}, which does not have it${holder === undefined ? '' : `: ${holder} does`}. Index and shards belong to different models: download or save them again.`
      : missingShard(folder, indexPath, shard, shardOf, name);
    absent.set(name, reason);
  }
  return absent;
}

function missingShard(
  folder: string,
  indexPath: string,
  shard: string,
  shardOf: ReadonlyMap<string, string>,
  tensor = [...shardOf].find(([, holder]) => holder === shard)![0],
): string {
  return `${join(folder, shard)} is missing: ${indexPath} puts the tensor ${quote(tensor)} into it. Download what is missing into the folder.`;
}

/** The error for a folder without readable weights, with a hint from the names of its files. */
function noWeights(folder: string, names: readonly string[]): CheckpointError {
  const missing = `${folder} has neither ${SINGLE} nor ${INDEX}`;
  const foreign = names.filter((name) => /^pytorch_model.*\.bin$|\.gguf$/.test(name)).sort();
  if (foreign.length > 0) {
    return new CheckpointError(
      `${missing}, but ${quote(foreign[0])}. That format is not read: convert the model to safetensors, or get it in that form.`,
    );
  }
  const stray = names.filter((name) => name.endsWith('.safetensors')).sort();
  if (stray.length > 0) {
    return new CheckpointError(
      `${missing}, but ${quote(stray[0])}. If that is a shard, download the index and the other shards as well; if it holds all weights, call it ${SINGLE}.`,
    );
  }
  return new CheckpointError(`${missing}. Name the folder that holds the model.`);
}
